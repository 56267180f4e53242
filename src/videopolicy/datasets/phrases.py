"""Counts, numbers and durations as a person would say them."""

from collections.abc import Iterable
from itertools import count, groupby


def plural(count: int, name: str) -> str:
    """A count with its noun."""
    return f"{count} {name}{'' if count == 1 else 's'}"


def duration(seconds: float) -> str:
    """In the largest unit of which there are at least two."""
    for unit, length in (("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} seconds"


def ranges(numbers: Iterable[int]) -> list[str]:
    """Numbers in order, neighbours as one: 0-3, 5."""
    places = count()
    runs = [list(run) for _, run in groupby(sorted(numbers), lambda number: number - next(places))]
    return [f"{run[0]}" if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
