"""Stages: what trains, and by which losses. Values, never names that code compares."""

from dataclasses import dataclass

from videopolicy.configs import check_limits, limited


@dataclass(frozen=True)
class Stage:
    """What a run teaches.

    Attributes:
        name: for people, and the option that chooses it.
        trains_video: whether the video model's weights move.
        trains_actions: whether the head's weights move.
        video_loss: whether the loss of the video counts.
        action_loss: whether the loss of the actions counts; then the data need actions.
        through: the share of the action loss's gradient that goes on through the features of the video; 0 stops it.
        distills: whether what is learnt is where the model to begin from arrives in many steps, and not the clips.
    """

    name: str
    trains_video: bool
    trains_actions: bool
    video_loss: bool
    action_loss: bool
    through: float = limited(0.0, 0, 1)
    distills: bool = False

    def __post_init__(self) -> None:
        check_limits(self, "stage")

    @property
    def losses(self) -> tuple[str, ...]:
        """The names of the losses that count, as logs name them."""
        return ("video",) * self.video_loss + ("action",) * self.action_loss


VIDEO = Stage("video", trains_video=True, trains_actions=False, video_loss=True, action_loss=False)
ACTION = Stage("action", trains_video=False, trains_actions=True, video_loss=False, action_loss=True)
JOINT = Stage("joint", trains_video=True, trains_actions=True, video_loss=True, action_loss=True)
ATTACHED = Stage("attached", True, True, video_loss=True, action_loss=True, through=1.0)
END_TO_END = Stage("end_to_end", True, True, video_loss=False, action_loss=True, through=1.0)
DISTILL = Stage("distill", True, True, video_loss=True, action_loss=True, distills=True)
STAGES = {stage.name: stage for stage in (VIDEO, ACTION, JOINT, ATTACHED, END_TO_END, DISTILL)}
