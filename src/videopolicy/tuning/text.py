"""What was measured, as tables of at most 120 columns."""

from collections.abc import Sequence

from videopolicy.rollout.sequential import MARGIN
from videopolicy.tuning.search import FASTER, Candidate, Search


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Columns as wide as their widest cell: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def search_table(found: Search, bound: float) -> str:
    """A row for mode exact and one for each candidate, the fastest first; what the columns mean is below."""
    own = found.own
    rows = [["sampling", "ms", "times faster", "off", "at most", "success", "of exact", "verdict"]]
    rows.append([f"exact: {own.sampling}", f"{own.milliseconds:.1f}", "1.0", "-", "-", "-", "-", "-"])
    for one in found.tried:
        told = [f"{one.milliseconds:.1f}", f"{one.times_faster:.1f}", f"{one.off:.4f}", f"{one.off_at_most:.4f}"]
        rows.append([str(one.sampling), *told, *_success(one), _verdict(one, found, bound)])
    return "\n".join(
        (
            aligned(rows),
            "ms: a plan without its video, at the median; off: mean absolute distance of the normalised actions from",
            "mode exact's of the same noise, and the most that it is with 95 % confidence",
        )
    )


def conclusion(found: Search, name: str, bound: float) -> str:
    """One line: what was chosen and why, or that nothing was."""
    one = found.chosen
    spread = f"two seeds of mode exact differ by {found.spread:.4f}"
    if one is None:
        return f"none is {FASTER:g} times faster and as good; nothing is written ({spread}, the bound is {bound:g})"
    why = f"{one.times_faster:.1f} times faster than mode exact, off by {one.off:.4f}, at most {one.off_at_most:.4f} of"
    why += f" {bound:g} ({spread})"
    if one.pairs:
        why += f", not worse by {MARGIN * 100:g} points on {one.pairs.n} starts"
    else:
        why += "; its success was not measured: give --env and --task"
    return f"mode {name!r} is {one.sampling}, the fastest that passes: {why}"


def _success(one: Candidate) -> list[str]:
    if one.pairs is None:
        return ["-", "-"]
    pairs = one.pairs
    return [f"{pairs.both + won}/{pairs.n}" for won in (pairs.second, pairs.first)]


def _verdict(one: Candidate, found: Search, bound: float) -> str:
    if one is found.chosen:
        return "chosen"
    if one.times_faster < FASTER:
        return "not faster"
    if one.off_at_most > bound:
        return "too far off"
    # Those after the chosen one did not act.
    return "slower" if one.standing is None else one.standing.value
