"""What `bench` measures of a checkpoint's plans, and how it shows that."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from videopolicy.configs import to_json
from videopolicy.models.sampling import Passes
from videopolicy.policies.benchmark import PlanBenchmark, measure, random_observations
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.progress import progress_bar
from videopolicy.rollout.results import Result
from videopolicy.rollout.statistics import clopper_pearson
from videopolicy.tuning.closeness import draw
from videopolicy.tuning.success import Starts
from videopolicy.tuning.text import aligned
from videopolicy.tuning.ways import Way

GIGA = 1e9
# Enough to tell how far the actions are off; each costs every way two plans.
OBSERVATIONS = 4


@dataclass(frozen=True)
class Figures:
    """What is known of one way to draw a plan.

    Attributes:
        way: which.
        plan: its times and what it costs.
        off: mean absolute distance of its normalised actions from mode exact's, from the same noise, on random images.
        times_faster: than the first way, at the medians of acting.
        results: the episodes that it played; none without an env.
        passes: of the video model and of the head, a plan.
    """

    way: Way
    plan: PlanBenchmark
    off: float
    times_faster: float
    results: Sequence[Result]
    passes: Passes

    @property
    def successes(self) -> int:
        """Episodes that succeeded."""
        return sum(row.success for row in self.results)


def figures(
    policy: CheckpointPolicy, ways: Sequence[Way], repeats: int, starts: Starts | None, episodes: int
) -> list[Figures]:
    """Measures each way: time, then distance of the actions, then success.

    Args:
        policy: in mode exact.
        ways: what to measure; the ratios refer to the first.
        repeats: plans of each.
        starts: where they act; None if they do not.
        episodes: of each task.
    """
    policies = [way.apply(policy) for way in ways]
    plans = [measure(one, repeats) for one in policies]
    observations = random_observations(policy, OBSERVATIONS)
    with progress_bar(desc="compare actions", unit="plan", leave=False) as bar:
        draws = draw([policy, *policies], observations, bar)
    results = _played(policies, ways, starts, episodes)
    found = []
    for index, (way, plan) in enumerate(zip(ways, plans, strict=True)):
        # The first drawn is mode exact, what the distances refer to.
        off, faster = float(draws.off(index + 1).mean()), plans[0].acting.median / plan.acting.median
        passes = way.sampling.passes(policy.model.looks_once)
        found.append(Figures(way, plan, off, faster, results[index], passes))
    return found


def tables(found: Sequence[Figures], peak: float) -> str:
    """Where the time goes; what a plan costs and gives; what the columns mean."""
    parts = list(found[0].plan.parts)
    times = [["ms", *parts, "whole"]]
    costs = [["", "acting, ms", "first", "x", "actions/s", "passes", "GFLOP", "of limit", "GB", "off"]]
    for one in found:
        plan = one.plan
        times.append([str(one.way), *(str(plan.parts[part]) for part in parts), str(plan.whole)])
        costs.append(_costs(one, peak))
    lines = [aligned(times), "", aligned(costs)]
    if found[0].results:
        lines += ["", *(_success(one, max(len(str(other.way)) for other in found)) for one in found)]
    return "\n".join((*lines, "", *_legend(found)))


def to_rows(found: Sequence[Figures], peak: float) -> list[dict[str, Any]]:
    """Everything that is known, as JSON."""
    return [_row(one, peak) for one in found]


def _played(
    policies: Sequence[CheckpointPolicy], ways: Sequence[Way], starts: Starts | None, episodes: int
) -> list[list[Result]]:
    if starts is None:
        return [[] for _ in ways]
    total = len(ways) * episodes * len(starts.tasks)
    with progress_bar(total=total, desc="evaluate", unit="episode", leave=False) as bar:
        return [starts.play(one, way.name, episodes, bar) for one, way in zip(policies, ways, strict=True)]


def _costs(one: Figures, peak: float) -> list[str]:
    plan, passes = one.plan, one.passes
    return [
        str(one.way),
        str(plan.acting),
        f"{plan.first:.1f}",
        f"{one.times_faster:.3g}",
        f"{plan.control_rate:,.1f}",
        f"{passes.video}+{passes.head}",
        f"{plan.flops / GIGA:.3f}",
        f"{plan.flops_per_second / peak:.1%}",
        f"{plan.memory / GIGA:.2f}",
        f"{one.off:.4f}",
    ]


def _success(one: Figures, width: int) -> str:
    won, n = one.successes, len(one.results)
    return f"{one.way!s:{width}}  success {won}/{n} ({clopper_pearson(won, n)})"


def _legend(found: Sequence[Figures]) -> list[str]:
    return [
        "times in ms for one chunk: median (95th percentile); the whole is with its video decoded, acting without",
        "first: its first plan in this process, what the rows above have warmed being warm",
        f"x: times faster acting than {found[0].way.name!r}; actions/s: those executed a second of planning",
        "passes: of the video model + of the head; GFLOP and the share of the limit are of acting",
        "off: mean absolute distance of normalised actions from mode exact's, same noise, random images",
    ]


def _row(one: Figures, peak: float) -> dict[str, Any]:
    plan, passes, n = one.plan, one.passes, len(one.results)
    interval = clopper_pearson(one.successes, n)
    success = {"successes": one.successes, "episodes": n, "low": interval.low, "high": interval.high}
    return {
        "name": one.way.name,
        "sampling": to_json(one.way.sampling),
        "parts": {part: vars(timing) for part, timing in plan.parts.items()},
        "acting": vars(plan.acting),
        "whole": vars(plan.whole),
        "first": plan.first,
        "times_faster": one.times_faster,
        "actions_per_second": plan.control_rate,
        "chunks_per_second": 1e3 / plan.acting.median,
        "passes": passes._asdict(),
        "gflop": plan.flops / GIGA,
        "gflops": plan.flops_per_second / GIGA,
        "of_limit": plan.flops_per_second / peak,
        "memory_gb": plan.memory / GIGA,
        "off": one.off,
        "success": success if n else None,
    }
