"""The findings of a check in words, for the terminal and for the page."""

from collections.abc import Sequence

from videopolicy.demos.check_problems import Kind, Problem
from videopolicy.demos.checks import Findings

# How many instructions, details and episodes are listed before the rest is only counted.
INSTRUCTIONS = 10
DETAILS = 3
EPISODES = 12


def facts(found: Findings) -> list[tuple[str, str]]:
    """What the data set holds, as (name, value)."""
    count, frames = len(found.steps), sum(found.steps)
    rates = ", ".join(f"{fps:g}" for fps in found.rates) or "unknown"
    rows = [
        ("episodes", f"{count} of {_span(found.steps)} steps"),
        ("frames", f"{frames} a view, {_duration(found.seconds)} at {rates} a second"),
        *[(f"view {view}", ", ".join(f"{w}x{h}" for w, h in sizes)) for view, sizes in found.sizes.items()],
        ("actions", _vectors(None if found.actions is None else len(found.actions.low), found.action_space)),
        ("states", _vectors(found.state_width, found.state_space)),
    ]
    if found.actions is not None:
        without = len(found.without_actions)
        share = sum(found.steps[index] for index in found.without_actions) / frames
        rows.append(("without actions", f"{without} of {count} episodes, {100 * share:.0f} % of the frames"))
    return rows + [("skipped", line) for line in found.skipped]


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


def headline(kind: Kind, problems: Sequence[Problem]) -> str:
    """One kind of problem: how many episodes, what, and which."""
    episodes = sorted({problem.episode for problem in problems if problem.episode is not None})
    if not episodes:
        return kind.name
    numbers = ", ".join(map(str, episodes[:EPISODES])) + (", ..." if len(episodes) > EPISODES else "")
    return (
        f"{plural(len(episodes), 'episode')}: {kind.name} ({'episodes' if len(episodes) > 1 else 'episode'} {numbers})"
    )


def details(problems: Sequence[Problem]) -> list[str]:
    """Where exactly, for the first few; and how many more there are."""
    lines = [p.detail if p.episode is None else f"episode {p.episode}: {p.detail}" for p in problems[:DETAILS]]
    rest = len(problems) - DETAILS
    return lines + ([f"and {rest} more like these"] if rest > 0 else [])


def verdict(found: Findings) -> str:
    """One closing line."""
    warnings = len(found.problems) - found.errors
    if not found.problems:
        return f"no problems in {plural(len(found.steps), 'episode')}"
    counts = " and ".join(
        plural(count, name) for count, name in ((found.errors, "error"), (warnings, "warning")) if count
    )
    return f"{counts} in {plural(len(found.steps), 'episode')}"


def plural(count: int, name: str) -> str:
    """A count with its noun."""
    return f"{count} {name}{'' if count == 1 else 's'}"


def _span(steps: Sequence[int]) -> str:
    return str(min(steps)) if min(steps) == max(steps) else f"{min(steps)} to {max(steps)}"


def _duration(seconds: float) -> str:
    return f"{seconds / 3600:.2f} hours" if seconds >= 360 else f"{seconds:.1f} seconds"


def _vectors(width: int | None, space: str) -> str:
    if width is None:
        return "none"
    return f"{width} wide, {space or 'nobody said what they mean'}"
