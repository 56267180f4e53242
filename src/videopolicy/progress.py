"""What is said on standard error while work goes on: bars, and lines between them."""

import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from tqdm import tqdm

# Seconds between lines of one bar where they stay, as in the log of a job; on a terminal a bar moves in its place.
LOG_EVERY = 10.0


class _Bar(tqdm):
    # Until it is built there is nothing to close, which tqdm would complain of if the building is interrupted.
    disable = True


class _Lines(_Bar):
    """A bar for what is no terminal: a whole line now and then, and one at the end."""

    def __init__(self, items: Iterable[Any] | None, **options: Any) -> None:
        self._next, self._written = time.monotonic() + LOG_EVERY, None
        # The delay keeps the bar silent at its start, where nothing is done yet.
        super().__init__(items, **{**options, "mininterval": LOG_EVERY, "delay": LOG_EVERY})

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        if time.monotonic() >= self._next:
            self._write()
        return True

    def clear(self, nolock: bool = False) -> None:
        """There is nothing to take back: lines stay."""

    def close(self) -> None:
        if not self.disable:
            if self.leave is not False and self._written != self.n:
                self._write()
            # tqdm then draws no last bar of its own.
            self.sp = None
        super().close()

    def _write(self) -> None:
        self._next, self._written = time.monotonic() + LOG_EVERY, self.n
        self.fp.write(f"{self}\n")
        self.fp.flush()


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> tqdm:
    """A bar of tqdm's on standard error; where that is no terminal, a line in 10 seconds at most, and a last one.

    Args:
        items: what to count while it is iterated over; None if `update` is called instead.
        options: of tqdm's: total, initial, desc, unit, leave and so on.
    """
    return _Bar(items, **options) if sys.stderr.isatty() else _Lines(items, **options)


def say(line: str) -> None:
    """Writes a line to standard error, above the bars that move there; nowhere if the terminal is gone."""
    with suppress(OSError):
        tqdm.write(line, file=sys.stderr)
