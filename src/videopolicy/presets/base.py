"""What a preset holds."""

from dataclasses import dataclass

from videopolicy import registry
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


def preset(name: str) -> Preset:
    """The preset of this name.

    Raises:
        UserError: there is none; the message lists the known ones.
    """
    return registry.entry("presets", name)
