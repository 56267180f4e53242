"""A model together with what it denoises given, as samplers want it."""

from dataclasses import dataclass
from functools import partial
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from videopolicy.backbones.base import Condition
from videopolicy.diffusion.joint import Denoise, Joint, Levels


class Conditional(Protocol):
    """What denoises given a condition, as `videopolicy.models.base.Model` does."""

    def denoise(self, x: Joint, levels: Levels, condition: Condition) -> Joint:
        """See `Model.denoise`."""
        ...

    def video_alone(self, x: Joint, levels: Levels, condition: Condition) -> Float[Tensor, "B F C h w"]:
        """See `Model.video_alone`."""
        ...

    def freeze(self, x: Joint, levels: Levels, condition: Condition, *, see: bool = True) -> Denoise:
        """See `Model.freeze`."""
        ...


@dataclass(frozen=True)
class Denoiser:
    """A model and what it goes by (`videopolicy.diffusion.joint.Freezable`).

    Attributes:
        model: denoises.
        condition: what it is denoised given.
        see: whether the video of a frozen one is wanted.
    """

    model: Conditional
    condition: Condition
    see: bool = True

    def __call__(self, x: Joint, levels: Levels) -> Joint:
        """Video and actions at these levels."""
        return self._drawn(partial(self.model.denoise, condition=self.condition))(x, levels.each(x))

    def video_alone(self, x: Joint, levels: Levels) -> Float[Tensor, "B F C h w"]:
        """The video at these levels."""
        return self.model.video_alone(x, levels.each(x), self.condition)

    def freeze(self, x: Joint, levels: Levels) -> Denoise:
        """Runs the video model once; from then on only actions are denoised."""
        return self._drawn(self.model.freeze(x, levels.each(x), self.condition, see=self.see))

    def _drawn(self, denoise: Denoise) -> Denoise:
        earlier = self.condition.earlier
        return denoise if earlier is None else earlier.draw_on(denoise)
