"""How a plan is drawn: noise levels, sampler, guidance."""

from dataclasses import dataclass, replace

from videopolicy import registry
from videopolicy.configs import check_limits, limited
from videopolicy.diffusion.edm import schedule
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.noise.base import NoiseLaw

# Beyond this, no sampler comes measurably nearer to its limit.
MOST_SAMPLING_STEPS = 1000


@dataclass(frozen=True)
class Sampling:
    """How a plan is drawn.

    Attributes:
        sampler: one of `videopolicy.diffusion.samplers`.
        steps: noise levels; each costs one pass of the model.
        sigma_max: the first level.
        sigma_min: the last level above zero.
        guidance: scale over the frames; 1 to 1 is none.
    """

    sampler: str = "euler"
    steps: int = limited(1, 1, MOST_SAMPLING_STEPS)
    sigma_max: float = limited(80.0, 1e-6, 1e6)
    sigma_min: float = limited(0.02, 1e-6, 1e6)
    guidance: LinearGuidance = LinearGuidance(1.0, 1.0)

    def __post_init__(self) -> None:
        check_limits(self, "sampling")

    def levels(self) -> Levels:
        """The noise levels, then zero, (n + 1,)."""
        return Levels.same(schedule(self.steps, self.sigma_min, self.sigma_max))

    def asked(self) -> Levels:
        """The pairs of levels at which the head is asked, (n,)."""
        return registry.module("samplers", self.sampler).asked(self.levels())

    def warnings(self, law: NoiseLaw | None) -> tuple[str, ...]:
        """A line if the head is asked at pairs of levels that training by this law never shows it; None is unknown."""
        if law is None or law.covers(self.asked()):
            return ()
        better = [name for name in registry.names("samplers") if law.covers(replace(self, sampler=name).asked())]
        instead = f"sample by {' or '.join(better)}, or " if better else ""
        name = (registry.plugin_of(type(law)) or ("", type(law).__name__))[1]
        return (
            f"noise law {name!r} never shows the head the noise levels at which sampler {self.sampler!r} asks it in "
            f"{self.steps} steps; {instead}train by noise law 'independent'",
        )
