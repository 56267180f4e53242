"""What LeRobot knows of a checkpoint before it is opened.

LeRobot finds the policy and its processors by name: `configuration_NAME`, `modeling_NAME` and `processor_NAME`, with
`NameConfig`, `NamePolicy` and `make_NAME_pre_post_processors`.
"""

from dataclasses import dataclass
from typing import NoReturn

from lerobot.configs import PreTrainedConfig

from videopolicy.errors import UserError

# Within a folder of LeRobot's: the checkpoint as `videopolicy train` wrote it.
CHECKPOINT = "checkpoint"


def refuse_training() -> NoReturn:
    """LeRobot's trainer knows nothing of video, of stages or of latents.

    Raises:
        UserError: always.
    """
    raise UserError("policy videopolicy acts, but is not trained by LeRobot; train with: videopolicy train --data DATA")


@PreTrainedConfig.register_subclass("videopolicy")
@dataclass
class VideopolicyConfig(PreTrainedConfig):
    """The config.json of a folder that `videopolicy-to-lerobot` wrote.

    Attributes:
        chunk_size: A, the actions of a plan.
        n_action_steps: how many of them are executed before the policy looks again.
        seed: of the noise of all plans.
        mode: one of the ways to draw a plan that the checkpoint has.

    Raises:
        UserError: more actions are to be executed than a plan has.
    """

    chunk_size: int = 1
    n_action_steps: int = 1
    seed: int = 0
    mode: str = "exact"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.n_action_steps <= self.chunk_size:
            right = f"from 1 to {self.chunk_size}, the actions of a plan, are right"
            raise UserError(f"n_action_steps is {self.n_action_steps}; {right}")

    def validate_features(self) -> None:
        """Refuses a config that stands for no checkpoint, as `--policy.type=videopolicy` alone makes it.

        Raises:
            UserError: it was read from no folder.
        """
        if self.pretrained_path is None:
            how = "make one with: videopolicy-to-lerobot CHECKPOINT FOLDER"
            raise UserError(f"policy videopolicy: which checkpoint? Give --policy.path=FOLDER; {how}")

    @property
    def observation_delta_indices(self) -> None:
        """It sees the current step alone."""

    @property
    def action_delta_indices(self) -> list[int]:
        """The steps of a plan."""
        return list(range(self.chunk_size))

    @property
    def reward_delta_indices(self) -> None:
        """It knows no rewards."""

    def get_optimizer_preset(self) -> NoReturn:
        """See `refuse_training`."""
        refuse_training()

    def get_scheduler_preset(self) -> NoReturn:
        """See `refuse_training`."""
        refuse_training()
