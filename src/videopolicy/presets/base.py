"""What a preset holds."""

from dataclasses import dataclass

from videopolicy.models.base import ModelConfig
from videopolicy.training.config import Training


@dataclass(frozen=True)
class Preset:
    """A model and the recipe to train it.

    Attributes:
        model: its shape, its views and how it acts.
        training: the recipe.
    """

    model: ModelConfig
    training: Training
