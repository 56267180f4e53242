"""Ways to draw a plan that are measured beside each other."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from types import MappingProxyType

from videopolicy import registry
from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.models.base import ModelConfig
from videopolicy.models.sampling import CASCADE, EXACT, Sampling, plain_samplers
from videopolicy.policies.checkpoint import CheckpointPolicy

# The paper's guidance (preset svd), with which a plan takes twice the passes.
PAPER_GUIDANCE = LinearGuidance(1.0, 2.5)
# Numbers of steps that are tried: each costs about one and a half times the one before it.
STEPS = (1, 2, 3, 5, 8, 12)
# Passes for one run of the video model's deep blocks.
REUSE = (2, 3, 5)
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
    config: ModelConfig, modes: Sequence[str], settings: Mapping[str, Sequence[str | float]] = MappingProxyType({})
) -> list[Way]:
    """What is to be measured of a checkpoint: modes by name, and mode exact with every combination of other settings.

    Args:
        config: the checkpoint's.
        modes: by name; all of the checkpoint's if nothing at all is asked for.
        settings: field of `Sampling` -> values in place of mode exact's own.

    Raises:
        UserError: no such mode or sampler, or settings that do not go together.
    """
    given = {name: values for name, values in settings.items() if values}
    chosen = modes or (() if given else (EXACT, *config.modes))
    found = [Way(name, config.mode(name)) for name in dict.fromkeys(chosen)]
    for values in product(*given.values()) if given else ():
        sampling = config.sampling.changed(**dict(zip(given, values, strict=True)))
        registry.entry("samplers", sampling.sampler)
        found.append(Way(str(sampling), sampling))
    return list(dict.fromkeys(found))


def reference(config: ModelConfig, steps: int) -> Way:
    """So many of Euler's steps with the paper's guidance, over mode exact's noise levels.

    Raises:
        UserError: the number is out of its range.
    """
    own = config.sampling
    return Way(REFERENCE, Sampling("euler", steps, own.sigma_max, own.sigma_min, PAPER_GUIDANCE))


def candidates(own: Sampling, holds_deep: bool = False, looks_once: bool = True) -> list[Way]:
    """Every way to draw a plan over the same noise levels in fewer passes, with its guidance and, if any, without.

    A single step is Euler's whatever the sampler, and one noise level of the video is `one_pass`. A video that stops on
    its way goes on doing so in other numbers of steps. A way that runs neither the video model, its deep blocks nor the
    head less often than `own` cannot be faster, and is left out.

    Args:
        own: what they are to be faster than.
        holds_deep: whether the video model can hold its deep blocks.
        looks_once: see `videopolicy.models.base.Model`.
    """

    def passes(sampling: Sampling) -> tuple[int, int, int]:
        """Of the deep blocks, of the video model and of the head."""
        video, head = sampling.passes(looks_once)
        return -(-video // sampling.reuse), video, head

    shapes = [(name, steps, None, 1) for name in plain_samplers() for steps in STEPS]
    shapes = [shape for shape in shapes if shape[0] == "euler" or shape[1] > 1]
    shapes += [("euler", steps, video, 1) for steps in STEPS for video in STEPS if 1 < video < steps]
    if own.video_until is not None:
        shapes += [(CASCADE, steps, video, 1) for steps in STEPS for video in STEPS]
    if holds_deep:
        many = dict.fromkeys((*STEPS, own.steps))
        shapes += [("euler", steps, None, reuse) for steps in many for reuse in REUSE if reuse < steps]
    found = [
        replace(
            own,
            sampler=sampler,
            steps=steps,
            video_steps=video,
            video_until=own.video_until if sampler == CASCADE else None,
            reuse=reuse,
            guidance=guidance,
        )
        for guidance in dict.fromkeys((own.guidance, NO_GUIDANCE))
        for sampler, steps, video, reuse in shapes
    ]
    return [Way(str(sampling), sampling) for sampling in found if passes(sampling) < passes(own)]
