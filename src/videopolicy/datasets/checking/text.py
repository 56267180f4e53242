"""The findings of a check in words, for the terminal and for the page."""

import shlex
from collections import Counter
from collections.abc import Sequence

from videopolicy.datasets.checking.checks import Findings
from videopolicy.datasets.checking.problems import Problem, ProblemKind, grouped
from videopolicy.datasets.notes import numbered
from videopolicy.datasets.phrases import duration, plural

# How many instructions and details are listed before the rest is only counted.
INSTRUCTIONS = 10
DETAILS = 3


def facts(found: Findings) -> list[tuple[str, str]]:
    """What the data set holds, as (name, value)."""
    count, frames = len(found.steps), sum(found.steps)
    lost = f"; {found.lost} of them cannot be read" if found.lost else ""
    rates = ", ".join(f"{fps:g}" for fps in found.rates) or "unknown"
    rows = [
        ("episodes", f"{found.on_disk} of {_span(found.steps)} steps{lost}"),
        ("frames", f"{frames} a view, {duration(found.seconds)} at {rates} a second"),
        *[(f"view {view}", ", ".join(f"{w}x{h}" for w, h in sizes)) for view, sizes in found.sizes.items()],
        ("actions", _vectors(None if found.actions is None else len(found.actions.low), found.action_layout)),
        ("states", _vectors(found.state_width, found.state_layout)),
    ]
    if found.actions is not None:
        without = len(found.without_actions)
        share = sum(found.steps[index] for index in found.without_actions) / frames
        rows.append(("without actions", f"{without} of {count} episodes, {100 * share:.0f} % of the frames"))
    return rows + [("not read", str(note)) for note in found.unused]


def instructions(found: Findings) -> list[tuple[str, str]]:
    """The most frequent instructions with their episodes, and in the end how many others there are."""
    ordered = sorted(((text, len(episodes)) for text, episodes in found.instructions.items()), key=lambda row: -row[1])
    rest = ordered[INSTRUCTIONS:]
    rows = [(repr(text), count) for text, count in ordered[:INSTRUCTIONS]]
    rows += [(plural(len(rest), "other"), sum(count for _, count in rest))] if rest else []
    return [("instruction", f"{text}, {plural(count, 'episode')}") for text, count in rows]


def dimensions(found: Findings) -> list[tuple[str, str]]:
    """Each dimension of the actions and its range; none if there are no actions that could be read."""
    if found.actions is None or found.actions.low.max(initial=-float("inf")) == float("inf"):
        return []
    rows = zip(found.actions.low, found.actions.high, strict=True)
    return [
        (f"action {number}", f"always {low:.4g}" if low == high else f"{low:.4g} to {high:.4g}")
        for number, (low, high) in enumerate(rows)
    ]


def headline(kind: ProblemKind, problems: Sequence[Problem]) -> str:
    """One kind of problem: how many episodes, what, and which."""
    episodes = sorted({number for problem in problems for number in problem.episodes})
    return f"{plural(len(episodes), 'episode')}: {kind.name} ({numbered(episodes)})" if episodes else kind.name


def details(problems: Sequence[Problem]) -> list[str]:
    """Where exactly, for the first few; and how many more there are."""
    lines = [f"{numbered(p.episodes)}: {p.detail}" if p.episodes else p.detail for p in problems[:DETAILS]]
    rest = len(problems) - DETAILS
    return lines + ([f"and {rest} more like these"] if rest > 0 else [])


def remedy(kind: ProblemKind, found: Findings) -> str:
    """What to do about one kind of problem in this data set."""
    usual = max(found.rates, key=lambda fps: found.rates[fps], default=0)
    side = min((side for sizes in found.sizes.values() for size in sizes for side in size), default=0)
    return kind.remedy.format(data=shlex.quote(str(found.path)), fps=f"{usual:g}", size=side)


def verdict(found: Findings) -> str:
    """One closing line; it counts the kinds of problems, each of which is told once."""
    if not found.problems:
        return f"no problems in {plural(found.on_disk, 'episode')}"
    told = Counter(kind.severity for kind in grouped(found.problems))
    counts = " and ".join(f"{plural(count, 'kind')} of {name}" for name, count in told.items())
    return f"{counts} in {plural(found.on_disk, 'episode')}"


def _span(steps: Sequence[int]) -> str:
    return str(min(steps)) if min(steps) == max(steps) else f"{min(steps)} to {max(steps)}"


def _vectors(width: int | None, layout: str) -> str:
    if width is None:
        return "none"
    return f"{width} wide, {layout or 'layout unspecified'}"
