"""How a plan is drawn: noise levels, sampler, guidance."""

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from videopolicy import registry
from videopolicy.configs import check_limits, limited
from videopolicy.diffusion.clocks import Clocks
from videopolicy.diffusion.edm import ramp, schedule
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.diffusion.held import Held
from videopolicy.diffusion.joint import Denoise, Freezable, Joint, Levels
from videopolicy.diffusion.noise.base import NoiseLaw
from videopolicy.diffusion.samplers.base import initial_noise
from videopolicy.errors import UserError

# Beyond this, no sampler comes measurably nearer to its limit.
MOST_SAMPLING_STEPS = 1000
# The mode in which a checkpoint acts unless told otherwise.
EXACT = "exact"
# The sampler whose video stops on its way, at `video_until`; where it has none to stop at, it is `one_pass`.
CASCADE = "cascade"
# What lies at this level or below can hardly be told from what is clean.
CLEAN = 0.02
# Fields of a video that takes the steps that the actions take.
LIKE_THE_ACTIONS: dict[str, Any] = {"video_steps": None, "video_until": None}


class Passes(NamedTuple):
    """How often a plan runs the video model, and how often the head (function evaluations, NFE)."""

    video: int
    head: int


@dataclass(frozen=True)
class Sampling:
    """How a plan is drawn.

    Attributes:
        sampler: one of `videopolicy.diffusion.samplers`.
        steps: noise levels; each costs one pass of the model.
        sigma_max: the first level.
        sigma_min: the last level above zero, from which one step leads to what the denoiser then answers: with 80 and
            4, the steps from 80 to 4 and the last clean denoise of Cosmos Policy (Kim et al. 2026, arXiv 2601.16163).
        guidance: scale over the frames; 1 to 1 is none.
        video_steps: fewer noise levels for the video, spread over those of the actions: at each, the video model runs
            once, and the head denoises the actions for several of their steps; None for as many. For sampler "euler".
            Of sampler "cascade", the steps in which the video comes to `video_until`, fewer or more than the actions'.
        video_until: the level at which the video stops, for sampler "cascade": the head reads it there, and the actions
            then take all their steps; None for the first level.
        reuse: the video model's deep blocks run at the first of every so many passes, and the others take their output;
            for backbones that can (see `Backbone.reusing`).
        warm_start: where a policy has planned before, it begins at the first level not above this, from what is left
            of that plan and a video in which nothing moves, instead of from noise; None never does.
        inpaint: where a policy has planned before and its head has not learnt to continue committed actions, it is
            guided to go on from that plan, by at most this weight (see `videopolicy.diffusion.inpainting`).
    """

    sampler: str = "euler"
    steps: int = limited(1, 1, MOST_SAMPLING_STEPS)
    sigma_max: float = limited(80.0, 1e-6, 1e6)
    sigma_min: float = limited(0.02, 1e-6, 1e6)
    guidance: LinearGuidance = LinearGuidance(1.0, 1.0)
    video_steps: int | None = limited(None, 1, MOST_SAMPLING_STEPS)
    video_until: float | None = limited(None, 1e-6, 1e6)
    reuse: int = limited(1, 1, MOST_SAMPLING_STEPS)
    warm_start: float | None = limited(None, 1e-6, 1e6)
    inpaint: float | None = limited(None, 1e-6, 1e6)

    def __post_init__(self) -> None:
        check_limits(self, "sampling")
        if self.video_until is not None:
            self._check_until(self.video_until)
        elif self.video_steps is not None:
            self._check_video_steps(self.video_steps)

    def _check_until(self, level: float) -> None:
        if self.sampler != CASCADE:
            raise UserError(f"a level at which the video stops is for sampler {CASCADE!r}, not {self.sampler!r}")
        if level >= self.sigma_max:
            raise UserError(
                f"the video stops at level {level:g}, but begins at {self.sigma_max:g}; give a lower one, or none to "
                "look at it where it begins"
            )
        if self.warm_start is not None:
            raise UserError(f"a warm start is not for sampler {CASCADE!r}, whose video is denoised before the actions")

    def _check_video_steps(self, video_steps: int) -> None:
        if self.sampler == CASCADE:
            raise UserError(
                f"{video_steps} steps of the video, but none to stop at: sampler {CASCADE!r} needs a level, such as "
                "--video-until 0.667"
            )
        if video_steps > self.steps:
            raise UserError(
                f"{video_steps} noise levels for the video and {self.steps} for the actions: the video may have "
                "fewer than the actions, not more"
            )
        if self.sampler != "euler":
            raise UserError(f"noise levels of the video's own are for sampler 'euler', not {self.sampler!r}")

    def changed(self, **changes: str | float | None) -> "Sampling":
        """The same but for what is given and not None; another sampler leaves behind what is not for it."""
        given = {name: value for name, value in changes.items() if value is not None}
        other = given.get("sampler", self.sampler) != self.sampler
        return replace(self, **{**(LIKE_THE_ACTIONS if other else {}), **given})

    def distilled(self, steps: int) -> "Sampling":
        """That of a student which arrives where this does in so many steps, its guidance included.

        Its levels divide the way from sigma_max to sigma_min, and it goes from the last of them to zero.
        """
        last = float(ramp(torch.tensor(1 - 1 / steps, dtype=torch.float64), self.sigma_min, self.sigma_max))
        # One step goes from sigma_max to zero, whatever the last level above it.
        return Sampling(steps=steps, sigma_max=self.sigma_max, sigma_min=last if steps > 1 else self.sigma_min)

    @property
    def clean(self) -> float:
        """The level of what is given and not drawn: that of its last step, unless this still is noise."""
        return min(self.sigma_min, CLEAN)

    def levels(self, warm: bool = False) -> Levels:
        """The noise levels, then zero, (n + 1,); the video's stay for a while where it has fewer of its own.

        Where the video stops on its way, it comes there while the actions wait at their first level, and stays until
        they are done.

        Args:
            warm: whether they begin at `warm_start`, or at the last level above zero if all are higher.
        """
        actions = schedule(self.steps, self.sigma_min, self.sigma_max)
        if self.video_until is not None:
            return self._to_a_stop(self.video_until, actions)
        levels = Levels.same(actions)
        if self.video_steps is not None:
            # Of so many equal stretches, the video stays at the level of the first step.
            stretch = torch.arange(self.steps + 1) * self.video_steps // self.steps
            levels = Levels(actions[-(-stretch * self.steps // self.video_steps)], actions)
        if not warm or self.warm_start is None:
            return levels
        higher = int((levels.video > self.warm_start).sum())
        return levels[min(higher, self.steps - 1) :]

    def _to_a_stop(self, level: float, actions: Float[Tensor, "n+1"]) -> Levels:
        count = self.steps if self.video_steps is None else self.video_steps
        way = ramp(torch.linspace(0, 1, count + 1, dtype=torch.float64), level, self.sigma_max).to(actions)
        video = torch.cat((way, way[-1:].expand(self.steps - 1), way.new_zeros(1)))
        return Levels(video, torch.cat((actions[:1].expand(count), actions)))

    def draw(self, denoise: Freezable, noise: Joint, guess: Joint | None = None) -> Joint:
        """A sample, from the first noise level to zero.

        Args:
            denoise: guided already, if it is to be.
            noise: standard normal.
            guess: what a warm start begins from; None begins from noise.
        """
        # The levels stay on the CPU: a GPU is told each as a number, and asked nothing until all is done.
        levels = self.levels(warm=guess is not None)
        begin = initial_noise(noise, levels[0]) if guess is None else guess + noise * levels[0]
        held = denoise if self.video_steps is None or self.video_until is not None else Held(denoise)
        return registry.entry("samplers", self.sampler)(held, begin, levels)

    def passes(self, looks_once: bool = True) -> "Passes":
        """What a plan costs, whatever the network; a guided pass counts as two, one for each branch.

        With a warm start, it is a plan that follows another.

        Args:
            looks_once: see `videopolicy.models.base.Model`.
        """
        counting, blank = _Counting(), Joint(torch.zeros(1, 1, 1, 1, 1), torch.zeros(1, 1, 1))
        self.draw(counting, blank, None if self.warm_start is None else blank)
        branches = 1 if self.guidance.off else 2
        video = counting.frozen if looks_once else counting.head
        return Passes(branches * (counting.alone + video), branches * counting.head)

    def __str__(self) -> str:
        video = "" if self.video_steps is None else f", video {self.video_steps}"
        video += "" if self.video_until is None else f", until {self.video_until:g}"
        first, last = self.guidance.first, self.guidance.last
        guided = "" if self.guidance.off else f", guidance {first:g}-{last:g}"
        reuse = "" if self.reuse == 1 else f", reuse {self.reuse}"
        warm = "" if self.warm_start is None else f", warm {self.warm_start:g}"
        inpainted = "" if self.inpaint is None else f", inpaint {self.inpaint:g}"
        return f"{self.sampler} {self.steps}{video}{guided}{reuse}{warm}{inpainted}"

    def asked(self) -> Levels:
        """The pairs of levels at which the head is asked, (n,)."""
        return self._asked(warm=False)

    def _asked(self, warm: bool) -> Levels:
        return registry.module("samplers", self.sampler).asked(self.levels(warm))

    def warnings(self, law: NoiseLaw | None) -> tuple[str, ...]:
        """What a user should know of it: a line each.

        Args:
            law: of the noise levels in training, which may never show the head the pairs that it is asked at; None is
                unknown.
        """
        alone = ("inpainting guides what is drawn in several steps; in one it changes nothing: give it more",)
        return (alone if self.inpaint is not None and self.steps == 1 else ()) + self._uncovered(law)

    def _uncovered(self, law: NoiseLaw | None) -> tuple[str, ...]:
        warm = () if self.warm_start is None else (self._asked(warm=True),)
        if law is None or all(law.covers(asked) for asked in (self.asked(), *warm)):
            return ()
        better = [
            name for name in plain_samplers() if law.covers(replace(self, sampler=name, **LIKE_THE_ACTIONS).asked())
        ]
        instead = f"sample by {' or '.join(better)}, or " if better else ""
        name = _name(law)
        return (
            f"noise law {name!r} never shows the head the noise levels at which sampler {self.sampler!r} asks it in "
            f"{self.steps} steps; {instead}{law.remedy}",
        )

    def clock_warnings(self, clocks: Clocks, law: NoiseLaw | None) -> tuple[str, ...]:
        """A line if these clocks lead to pairs of levels that training by this law never shows; None is unknown."""
        if law is None or law.covers(clocks.asked(self.levels(), self.clean)):
            return ()
        name, part = _name(law), "video" if clocks.video == "given" else "actions"
        return (
            f"noise law {name!r} never shows the model {part} as clean as those that are given beside noise in the "
            "other part, so what it reads there is a guess; train by noise law 'independent'",
        )


def _name(law: NoiseLaw) -> str:
    return (registry.plugin_of(type(law)) or ("", type(law).__name__))[1]


def plain_samplers() -> tuple[str, ...]:
    """Those that make a plan of their own without another level than the first and the last."""
    return tuple(name for name in registry.names("samplers") if name != CASCADE)


class _Counting:
    """Denoises nothing, and counts how often it is asked (`videopolicy.diffusion.joint.Freezable`)."""

    def __init__(self) -> None:
        self.alone = self.frozen = self.head = 0

    def __call__(self, x: Joint, levels: Levels, /) -> Joint:
        return self.freeze(x, levels)(x, levels)

    def video_alone(self, x: Joint, levels: Levels, /) -> Float[Tensor, "B F C h w"]:
        self.alone += 1
        return x.video

    def freeze(self, x: Joint, levels: Levels, /) -> Denoise:
        self.frozen += 1
        return self._actions

    def _actions(self, x: Joint, levels: Levels, /) -> Joint:
        self.head += 1
        return x
