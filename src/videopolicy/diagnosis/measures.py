"""What is measured of one recorded episode: does the video come true, and do the actions agree with it?

Of each plan those imagined frames count that lie within what is executed before the next plan; if even the first lies
beyond, that one alone, although later plans had a hand in what was executed until then.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from videopolicy.diagnosis.feature_space import FeatureSpace
from videopolicy.diagnosis.goal import Goal
from videopolicy.diagnosis.inverse import FramePairs, InverseDynamics
from videopolicy.rollout.recordings import Imagined, Recording
from videopolicy.similarity import plan_pairs


@dataclass(frozen=True)
class Parts:
    """What is measured of one plan. Sums rather than means, so that plans in which little happens weigh little.

    Attributes:
        step: the control step of the plan.
        until: the control step of the last frame that counts.
        horizon: control steps from the plan to its last frame.
        error: squared distance of imagined and executed frames in `FeatureSpace`, summed.
        change: the same of the current frame and the executed ones: what "nothing moves" would err.
        psnr: of each frame and view, in dB.
        ssim: of each frame and view.
        planned: squared difference of the planned actions and those read from the imagined video, each interval's
            mean over the readable dimensions.
        executed: the same of the executed actions and those read from the executed frames.
        remaining: steps still to go by the current frame, and by each imagined one up to the plan's last.
        distance: of the imagined frame nearest to a demonstration's end.
    """

    step: int
    until: int
    horizon: int
    error: float
    change: float
    psnr: tuple[float, ...]
    ssim: tuple[float, ...]
    planned: tuple[float, ...]
    executed: tuple[float, ...]
    remaining: tuple[float, ...]
    distance: float


@dataclass(frozen=True)
class Summary:
    """One episode, or its beginning; None where there was nothing to measure.

    Attributes:
        psnr: mean of imagined against executed frames, in dB.
        ssim: the same.
        skill: 1 - error / change: 1 if the video came true, 0 if "nothing moves" would have been as good.
        disagreement: root mean square of what the plan's actions differ from the reading of its video, in units of the
            deviation of actions in the demonstrations.
        floor: the same of executed actions and executed frames, where they agree by nature: the reading's own error,
            or a robot that did not do what it was told.
    """

    psnr: float | None
    ssim: float | None
    skill: float | None
    disagreement: float | None
    floor: float | None


@dataclass(frozen=True)
class Instruments:
    """What measures episodes of one task."""

    space: FeatureSpace
    reader: InverseDynamics
    readable: Int[np.ndarray, "d"]
    goal: Goal


@dataclass(frozen=True)
class Measured:
    """One recorded episode and its measures.

    Attributes:
        task: the env's name of the task.
        episode: its number within the task.
        success: whether it was done.
        steps: control steps executed.
        parts: of every plan.
        distance: of the last executed frame to the nearest demonstration's end.
    """

    task: str
    episode: int
    success: bool
    steps: int
    parts: tuple[Parts, ...]
    distance: float

    def until(self, step: int) -> tuple[Parts, ...]:
        """The plans whose frames that count lie no later than a control step; at least the first plan."""
        return tuple(part for part in self.parts if part.until <= step) or self.parts[:1]

    def before(self, step: int) -> tuple[Parts, ...]:
        """The plans made before a control step, however far they reach."""
        return tuple(part for part in self.parts if part.step < step)


def compared(recording: Recording) -> int:
    """How many of a plan's frames, from the first on, are held against what was executed; at least 1."""
    steps = [plan.step for plan in recording.plans]
    executed = int(max(np.diff(steps), default=recording.length - 1))
    plan = recording.plans[0]
    return max(1, sum(target - plan.step <= executed for target in plan.targets))


def measure(recording: Recording, instruments: Instruments) -> Measured:
    """Measures an episode whose plans hold video of the future, and actions."""
    frames = instruments.space.encode(recording.executed)
    count = compared(recording)
    parts = tuple(_parts(recording, plan, frames, count, instruments) for plan in recording.plans)
    distance = float(instruments.goal.distance(frames[-1:])[0])
    steps = recording.length - 1
    return Measured(recording.task, recording.episode, recording.success, steps, parts, distance)


def _parts(
    recording: Recording, plan: Imagined, frames: Float[Tensor, "n K h w"], count: int, instruments: Instruments
) -> Parts:
    imagined, current = instruments.space.encode(plan.frames), frames[plan.step : plan.step + 1]
    reached = [target for target in plan.targets[:count] if target < recording.length]
    seen = frames[reached].float()
    pairs = plan_pairs(plan.step, plan.targets, plan.frames, recording.executed)
    near = [pair for pair in pairs if plan.step + pair.offset in reached]
    shown = torch.cat([current, imagined[:count]])
    steps = np.array([plan.step, *plan.targets[:count]])
    return Parts(
        step=plan.step,
        until=int(steps[-1]),
        horizon=plan.targets[-1] - plan.step,
        error=float((imagined[: len(reached)].float() - seen).square().sum()),
        change=float((current.float() - seen).square().sum()),
        psnr=tuple(pair.psnr for pair in near),
        ssim=tuple(pair.ssim for pair in near),
        planned=_disagreement(shown, steps, plan.actions, plan.step, instruments),
        executed=_disagreement(frames[[plan.step, *reached]], steps, recording.actions, 0, instruments),
        remaining=tuple(instruments.goal.remaining(torch.cat([current, imagined])).tolist()),
        distance=float(instruments.goal.distance(imagined).min()),
    )


def _disagreement(
    frames: Float[Tensor, "n K h w"],
    steps: Int[np.ndarray, "m"],
    actions: Float32[np.ndarray, "A D"] | None,
    start: int,
    instruments: Instruments,
) -> tuple[float, ...]:
    """Of each interval between these frames that the actions, which begin at step `start`, cover."""
    spans = [(int(a) - start, int(b) - start) for a, b in pairwise(steps[: len(frames)])]
    if actions is None or not instruments.readable.size:
        return ()
    covered = [i for i, (a, b) in enumerate(spans) if b <= len(actions) and np.isfinite(actions[a:b]).all()]
    if not covered:
        return ()
    means = np.stack([actions[slice(*spans[i])].mean(0) for i in covered])
    gaps = torch.tensor([spans[i][1] - spans[i][0] for i in covered])
    pairs = FramePairs(frames[covered], frames[[i + 1 for i in covered]], gaps, means)
    wrong = (instruments.reader.read(pairs) - instruments.reader.normalised(means))[:, instruments.readable]
    return tuple(np.square(wrong).mean(1).tolist())


def summary(parts: Sequence[Parts]) -> Summary:
    """The measures of some plans of an episode together."""
    change = sum(part.change for part in parts)
    return Summary(
        psnr=_mean([value for part in parts for value in part.psnr]),
        ssim=_mean([value for part in parts for value in part.ssim]),
        skill=1 - sum(part.error for part in parts) / change if change > 0 else None,
        disagreement=_root(_mean([value for part in parts for value in part.planned])),
        floor=_root(_mean([value for part in parts for value in part.executed])),
    )


def _mean(values: list[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _root(value: float | None) -> float | None:
    return None if value is None else value**0.5
