"""The head, shown a future that is given instead of the one that its video model imagines."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from videopolicy.backbones.base import Condition
from videopolicy.diffusion.edm import schedule
from videopolicy.diffusion.joint import Joint, Levels
from videopolicy.diffusion.noise.base import NoiseLaw
from videopolicy.diffusion.samplers import euler
from videopolicy.diffusion.samplers.base import initial_noise
from videopolicy.errors import UserError
from videopolicy.images import fit_to_size
from videopolicy.models.base import Model
from videopolicy.models.sampling import Sampling
from videopolicy.policies.base import PolicySpec
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.types import Frames, Observation, Plan

# Noise levels of the actions where the law of training leaves the choice; a head is cheap, and more change nothing.
STEPS = 10
# A future is shown as clean as the cleanest of this share of what training showed: below, few were seen.
CLEANEST = 0.05


@dataclass(frozen=True, eq=False)
class Showing:
    """How noisy a given future is while the head reads the actions out of it.

    Attributes:
        levels: of the video that it is shown and of its actions, one pair a step, then those at the end, (n + 1,).
        told: the same in words, after "the head is shown the future".
    """

    levels: Levels
    told: str


def how_shown(sampling: Sampling, law: NoiseLaw | None) -> Showing:
    """As cleanly as training has taught the head to read it.

    Nearly clean, if the law shows the head clean video beside actions of every noise; else as noisy as its actions,
    from step to step; else as when the policy acts, as it must be where the law is unknown.

    Args:
        sampling: how the policy draws a plan.
        law: of the noise levels in training; None if unknown.
    """
    if law is not None:
        # A law reaches lower levels, too, but hardly ever: what the head answers there it was not taught.
        lowest = min(max(sampling.clean, law.marginals()[1].quantile(CLEANEST)), sampling.sigma_max)
        actions = schedule(max(STEPS, sampling.steps), lowest, sampling.sigma_max)
        # What the head reads may be cleaner than what the video's own loss is taken at.
        read = float(law.grid(round(0.5 / CLEANEST)).read().video.min())
        low = max(sampling.clean, min(read, law.marginals()[0].quantile(CLEANEST)))
        clean, same = Levels(torch.full_like(actions, low), actions), Levels.same(actions)
        if law.covers(clean[:-1]):
            return Showing(clean, f"nearly clean, at noise level {low:.2g}")
        if law.covers(same[:-1]):
            first, last = float(actions[0]), float(actions[-2])
            return Showing(same, f"as noisy as its actions, in {len(actions) - 1} steps from {first:g} to {last:.2g}")
    asked = sampling.asked()
    levels = Levels(torch.cat((asked.video, asked.video[-1:])), torch.cat((asked.actions, asked.actions[-1:] * 0)))
    first, last = float(asked.video[0]), float(asked.video[-1])
    way = f"from {first:g} to {last:.2g}" if first != last else f"at noise level {first:g}"
    return Showing(levels, f"only as noisy as when it acts, {way}, where little of it may be left to see")


class Informed:
    """A policy's head, which reads its actions out of futures that are given.

    Everything else is the policy's own: what it observes, its noise, its units.

    Args:
        policy: the network, and how it draws a plan.

    Attributes:
        shown: how noisy the future is that the head is shown.

    Raises:
        UserError: the policy draws no video.
    """

    def __init__(self, policy: CheckpointPolicy) -> None:
        if not policy.model.config.generates_video:
            raise UserError(
                "this policy imagines no video, so there is no future to show its head; diagnose one that does"
            )
        if not policy.model.reads_future:
            raise UserError("this policy's head reads no imagined future, so none can be at fault; diagnose another")
        self._policy = policy.resampled(policy.sampling)
        self.shown = how_shown(policy.sampling, policy.law)

    @property
    def model(self) -> Model:
        """The network."""
        return self._policy.model

    @property
    def spec(self) -> PolicySpec:
        """See `Policy.spec`."""
        return self._policy.spec

    def draw(
        self, observations: Sequence[Observation], seeds: Sequence[int], video: Float[Tensor, "B F C h w"]
    ) -> Float[Tensor, "B A D"]:
        """Normalised actions.

        Args:
            observations: what is seen.
            seeds: of each plan's noise.
            video: the futures, as `latents_of` has them.
        """
        self._policy.sample = partial(self._read, video)
        return self._policy.draw(observations, seeds)[0].actions

    def plan(self, observation: Observation, seed: int, video: Float[Tensor, "1 F C h w"]) -> Plan:
        """A plan in the env's units; see `draw`."""
        self._policy.sample = partial(self._read, video)
        return self._policy.plan([observation], [seed], False)[0]

    @torch.no_grad()
    def latents_of(self, frames: Mapping[str, Frames]) -> Float[Tensor, "1 F C h w"]:
        """A future as the video model has it.

        Args:
            frames: view -> the current image and the T after it, of any size, (1 + T, H, W, 3).
        """
        model, spec = self.model, self.spec
        windows = np.stack([fit_to_size(frames[view], spec.size) for view in spec.views])
        codes = model.latents.encode_window(torch.from_numpy(windows).to(model.device))
        return model.likeliest(codes[None, :, 1:], codes[None, :, 0])

    @torch.no_grad()
    def still(self, observation: Observation) -> Float[Tensor, "1 F C h w"]:
        """A future in which nothing moves."""
        return self.model.unmoved(self._policy.encode([observation]), self.model.blank(1).actions).video

    def normalized(self, actions: Float32[np.ndarray, "A D"], observation: Observation) -> Float32[np.ndarray, "A D"]:
        """Actions of a data set as the model has them, at what was seen before the first."""
        return self._policy.learnt(actions, observation.state)

    def _read(
        self,
        video: Float[Tensor, "B F C h w"],
        condition: Condition,
        noise: Joint,
        *,
        see: bool = True,
        guess: Joint | None = None,
    ) -> Joint:
        """In place of `Model.sample`: the given video, and actions denoised beside it, however they were to begin."""
        model = self.model.guided(condition, self._policy.sampling.guidance)

        def actions_only(x: Joint, levels: Levels) -> Joint:
            noisy = video + noise.video * float(levels.video)
            return Joint(x.video, model(Joint(noisy, x.actions), levels).actions)

        levels = self.shown.levels
        return Joint(video, euler.sample(actions_only, initial_noise(noise, levels[0]), levels).actions)
