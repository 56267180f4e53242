"""The findings of a check in words, for the terminal and for the page."""

import shlex
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from videopolicy.datasets.checking.checks import Findings
from videopolicy.datasets.checking.problems import MENDED, Problem, ProblemKind, grouped
from videopolicy.datasets.notes import numbered, without_numbers
from videopolicy.datasets.phrases import duration, plural

# How many instructions and details are listed before the rest is only counted; details that differ in more than their
# numbers are different causes.
INSTRUCTIONS = 10
DETAILS, CAUSES = 3, 10


def facts(found: Findings) -> list[tuple[str, str]]:
    """What the data set holds, as (name, value)."""
    count, frames = len(found.steps), sum(found.steps)
    lost = f"; {found.lost} of these episodes cannot be read" if found.lost else ""
    rates = ", ".join(f"{fps:g}" for fps in found.rates) or "unknown"
    rows = [
        ("episodes", f"{found.on_disk}, of {_span(found.steps)} steps each{lost}"),
        ("frames", f"{frames} a view, {duration(found.seconds)} at {rates} a second"),
        *[(f"view {view}", ", ".join(f"{w}x{h}" for w, h in sizes)) for view, sizes in found.sizes.items()],
        ("actions", _vectors(None if found.actions is None else len(found.actions.low), found.action_layout)),
        ("states", _vectors(found.state_width, found.state_layout)),
    ]
    if found.actions is not None:
        without = len(found.without_actions)
        share = sum(found.steps[index] for index in found.without_actions) / frames
        rows.append(("without actions", f"{without} of {count} episodes, {100 * share:.0f} % of the frames"))
    rows += [("not read", str(note)) for note in found.unused]
    return rows + [("when converted", line) for line in found.converted]


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
    """Where exactly: the first few, and one of each that differs in more than numbers; and how many more there are."""
    causes: dict[str, int] = {}
    for place, problem in enumerate(problems):
        causes.setdefault(without_numbers(problem.detail), place)
    shown = sorted({*range(min(DETAILS, len(problems))), *list(causes.values())[:CAUSES]})
    lines = [
        f"{numbered(p.episodes)}: {p.detail}" if p.episodes else p.detail for p in map(problems.__getitem__, shown)
    ]
    rest = len(problems) - len(shown)
    return lines + ([f"and {rest} more{' like these' if len(causes) <= CAUSES else ''}"] if rest > 0 else [])


def remedy(kind: ProblemKind, found: Findings, repaired: Path | None = None) -> str:
    """What to do about one kind of problem in this data set; `repaired` is where a mended one is being written."""
    if repaired and kind == MENDED:
        return f"nothing; the files of {repaired} say what is read"
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
