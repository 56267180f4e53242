"""Ways to draw a plan that are measured beside each other."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product

from videopolicy import registry
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.models.base import ModelConfig
from videopolicy.models.sampling import EXACT, Sampling
from videopolicy.policies.checkpoint import CheckpointPolicy

# The paper's guidance (preset svd), with which a plan takes twice the passes.
PAPER_GUIDANCE = LinearGuidance(1.0, 2.5)
# Numbers of steps that are tried: each costs about one and a half times the one before it.
STEPS = (1, 2, 3, 5, 8, 12)
NO_GUIDANCE = LinearGuidance(1.0, 1.0)
REFERENCE = "reference"


@dataclass(frozen=True)
class Way:
    """One way to draw a plan.

    Attributes:
        name: of the mode, or what the sampling says of itself; no two ways beside each other share it.
        sampling: how.
    """

    name: str
    sampling: Sampling

    def apply(self, policy: CheckpointPolicy) -> CheckpointPolicy:
        """The same network, whose plans are drawn in this way.

        Raises:
            UserError: no such sampler.
        """
        mode = self.name if self.name in policy.model.config.modes else EXACT
        return policy.resampled(self.sampling, mode)

    def __str__(self) -> str:
        said = str(self.sampling)
        return said if self.name == said else f"{self.name}: {said}"


def ways(
    config: ModelConfig,
    modes: Sequence[str],
    samplers: Sequence[str],
    steps: Sequence[int],
    video_steps: Sequence[int],
) -> list[Way]:
    """What is to be measured of a checkpoint: modes by name, and mode exact with every combination of other settings.

    Args:
        config: the checkpoint's.
        modes: by name; all of the checkpoint's if nothing at all is asked for.
        samplers: in place of mode exact's own.
        steps: likewise.
        video_steps: likewise.

    Raises:
        UserError: no such mode or sampler, or settings that do not go together.
    """
    combined = bool(samplers or steps or video_steps)
    chosen = modes or (() if combined else (EXACT, *config.modes))
    found = [Way(name, config.mode(name)) for name in dict.fromkeys(chosen)]
    if combined:
        for sampler, count, video in product(samplers or (None,), steps or (None,), video_steps or (None,)):
            sampling = config.sampling.changed(sampler=sampler, steps=count, video_steps=video)
            registry.entry("samplers", sampling.sampler)
            found.append(Way(str(sampling), sampling))
    return list(dict.fromkeys(found))


def reference(config: ModelConfig, steps: int) -> Way:
    """So many of Euler's steps with the paper's guidance, over mode exact's noise levels.

    Raises:
        UserError: the number is out of its range.
    """
    own = config.sampling
    sampling = replace(own, sampler="euler", steps=steps, video_steps=None, guidance=PAPER_GUIDANCE)
    return Way(REFERENCE, sampling)


def candidates(own: Sampling) -> list[Way]:
    """Every way to draw a plan over the same noise levels in fewer passes, with its guidance and, if any, without.

    A single step is Euler's whatever the sampler, and one noise level of the video is `one_pass`. A way that runs
    neither the video model nor the head less often than `own` cannot be faster, and is left out.

    Args:
        own: what they are to be faster than.
    """
    shapes = [(name, steps, None) for name in registry.names("samplers") for steps in STEPS]
    shapes = [shape for shape in shapes if shape[0] == "euler" or shape[1] > 1]
    shapes += [("euler", steps, video) for steps in STEPS for video in STEPS if 1 < video < steps]
    found = [
        replace(own, sampler=sampler, steps=steps, video_steps=video, guidance=guidance)
        for guidance in dict.fromkeys((own.guidance, NO_GUIDANCE))
        for sampler, steps, video in shapes
    ]
    return [Way(str(sampling), sampling) for sampling in found if _cheaper(sampling, own)]


def _cheaper(sampling: Sampling, own: Sampling) -> bool:
    passes, limit = sampling.passes(), own.passes()
    return passes.video < limit.video or (passes.video == limit.video and passes.head < limit.head)
