"""What is drawn of video and actions, and what the other is meanwhile (Zhu et al. 2025, UWM, arXiv 2504.02792).

Trained at two independent noise levels, one network answers five questions, each of them a path of the two clocks.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy.diffusion.held import Held
from videopolicy.diffusion.joint import Freezable, Joint, Levels
from videopolicy.diffusion.samplers import euler
from videopolicy.diffusion.samplers.base import initial_noise
from videopolicy.errors import UserError

# A part "falls" from noise to a sample, stays pure "noise" at the first level, of which nothing is known then, or is
# "given": true, at a level so low that it counts as clean.
Clock = Literal["falls", "noise", "given"]


@dataclass(frozen=True)
class Clocks:
    """One clock for each part.

    Attributes:
        video: of the video.
        actions: of the actions.
    """

    video: Clock = "falls"
    actions: Clock = "falls"

    def check(self, *, takes_actions: bool, reads_future: bool) -> None:
        """Raises UserError if a model answers no such question.

        Args:
            takes_actions: whether given actions change its video.
            reads_future: whether it reads its actions out of a given video.
        """
        if self.actions == "given" and not takes_actions:
            told = "this model reads actions out of its video and takes none, so it cannot say what given ones lead to"
            raise UserError(f"{told}; train one that can with --preset uwm")
        if self.video == "given" and not reads_future:
            raise UserError("this model reads no actions out of a given video; --preset uwm makes one that does")

    def path(self, levels: Levels, clean: float) -> Levels:
        """The levels of sampling, (n + 1,), of which a clock that does not fall stands still.

        Args:
            levels: where both fall.
            clean: the level of what is given.
        """
        return Levels(_standing(self.video, levels.video, clean), _standing(self.actions, levels.actions, clean))

    def asked(self, levels: Levels, clean: float) -> Levels:
        """The pairs of levels at which the model is asked, (n,); see `path`."""
        return self.path(levels, clean)[:-1]

    def draw(self, denoise: Freezable, noise: Joint, levels: Levels, clean: float, given: Joint | None = None) -> Joint:
        """Draws by Euler's method what falls; where the video stands still, it need be looked at no more than once.

        Args:
            denoise: guided already, if it is to be.
            noise: standard normal.
            levels: from the first to zero, (n + 1,).
            clean: the level of what is given.
            given: the truth, of noise's shapes; a part that is not given may be anything.

        Returns:
            What was drawn, beside what was given, or beside noise.
        """
        x = initial_noise(noise, levels[0])
        if given is not None:
            video = given.video if self.video == "given" else x.video
            x = Joint(video, given.actions if self.actions == "given" else x.actions)
        return euler.sample(Held(denoise), x, self.path(levels, clean))


def _standing(clock: Clock, levels: Float[Tensor, "n+1"], clean: float) -> Float[Tensor, "n+1"]:
    if clock == "falls":
        return levels
    return torch.full_like(levels, clean) if clock == "given" else levels[:1].expand(len(levels))


JOINT = Clocks()
POLICY = Clocks(video="noise")
VIDEO = Clocks(actions="noise")
FORWARD_DYNAMICS = Clocks(actions="given")
INVERSE_DYNAMICS = Clocks(video="given")
