"""Which action is due, whether it is fresh, and what happens when it is not: all of it without a clock of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from .chunks import ChunkMean, NewestChunk
from .errors import Stopped


@dataclass(frozen=True)
class Step:
    """What the robot does in one control step.

    Attributes:
        action: (D,) float32.
        held: whether it is no fresh one, but the safe action or the last one again.
        late: seconds that it came after it was due; of a held one, that a fresh one is overdue.
    """

    action: np.ndarray
    held: bool = False
    late: float = 0.0


class Watchdog:
    """Hands out a chunk's actions one by one, and holds or stops the robot when there is none within a bound.

    Times are seconds of any clock that never goes back; whoever calls gives them.

    Args:
        bound: how long a step waits for a fresh action. Steps that follow one which was held do not wait again.
        when_late: then "hold" gives the safe action, and "stop" raises `Stopped`.
        safe_action: (D,), what holds the robot; where it is NaN, and by default everywhere, that of the last action
            again, which is right where actions are positions and wrong where they are movements.
        first_bound: how long the first step waits, before anything moves: a server may have to warm up.
        chunks: what the chunks that have arrived say of a step: the newest, or the mean of all.

    Attributes:
        taken: fresh actions that were handed out.
        held: steps that got none.
        worst: seconds, the latest that a fresh action was, or is.
    """

    def __init__(
        self,
        bound: float,
        when_late: Literal["hold", "stop"] = "hold",
        safe_action: np.ndarray | None = None,
        first_bound: float = 30.0,
        chunks: type[NewestChunk] | type[ChunkMean] = NewestChunk,
    ) -> None:
        if not (bound >= 0 and first_bound >= 0):
            raise ValueError("bounds are seconds, and not negative")
        if when_late not in ("hold", "stop"):
            raise ValueError(f'when_late is {when_late!r}; "hold" and "stop" are right')
        self._bound, self._first_bound, self._when_late, self._kind = bound, first_bound, when_late, chunks
        self._safe = None if safe_action is None else np.array(safe_action, dtype=np.float32)
        if self._safe is not None and (self._safe.ndim != 1 or np.isinf(self._safe).any()):
            raise ValueError("a safe action is an array (D,) of finite numbers, or NaN for the last action's")
        self.taken = self.held = 0
        self.worst = 0.0
        self.reset()

    def reset(self) -> None:
        """Begins an episode: what is in hand is thrown away, and the next step is a first one. Counts go on."""
        self._chunks = self._kind()
        self._last: np.ndarray | None = None
        self._due: float | None = None

    def offer(self, chunk: np.ndarray, start: int) -> None:
        """A new chunk, which replaces the one in hand, or is averaged with it.

        Args:
            chunk: (A, D) float32.
            start: what `taken` was when its observation was made. What was executed since is skipped; a chunk of
                which nothing is left then is not taken.

        Raises:
            ValueError: its actions have another width than the safe one.
        """
        if self._safe is not None and chunk.shape[1] != len(self._safe):
            raise ValueError(f"the safe action is {len(self._safe)} wide, the server's actions are {chunk.shape[1]}")
        if self.taken - start < len(chunk):
            self._chunks.arrive(start, chunk)

    @property
    def left(self) -> int:
        """How many fresh actions are in hand."""
        return max(0, self._chunks.until - self.taken)

    def planned_since(self, taken: int) -> np.ndarray:
        """(n, D): of what is in hand, the actions from when `taken` was this; some may be done by now."""
        steps = range(max(taken, self._chunks.asked), self._chunks.until)
        return np.stack([self._chunks.action_at(step) for step in steps]) if steps else np.zeros((0, 0), np.float32)

    def wants(self, taken: int, lead: int, execute: int | None = None) -> bool:
        """Whether the next chunk should be asked for now.

        Args:
            taken: what `taken` was when the observation was made that would be sent.
            lead: control steps that an answer takes.
            execute: actions of each chunk after which the next one should be there; None for all of them.
        """
        length = self._chunks.until - self._chunks.asked
        length = length if execute is None else min(execute, length)
        return taken - self._chunks.asked >= length - lead

    def wait(self, now: float) -> float:
        """How many seconds from now the step that is due may wait for a fresh action; 0 if there is one."""
        if self.left:
            return 0.0
        if self._due is None:
            self._due = now
        bound = self._first_bound if self._last is None else self._bound
        return max(0.0, bound - (now - self._due))

    def step(self, now: float, cause: Exception | None = None) -> Step:
        """What is done now; call it when `wait` says 0, or as soon as a chunk came.

        Args:
            now: the time.
            cause: what is known of why there is no fresh action.

        Raises:
            Stopped: there is no fresh action, and the robot is to stop, or has nothing to hold by.
        """
        late = 0.0 if self._due is None else now - self._due
        self.worst = max(self.worst, late)
        if self.left:
            action = self._chunks.action_at(self.taken)
            self.taken += 1
            self._due, self._last = None, action.copy()
            return Step(action.copy(), late=late)
        self.held += 1
        held = self._holding()
        if self._when_late == "stop" or held is None:
            raise Stopped(late, cause)
        return Step(held, held=True, late=late)

    def _holding(self) -> np.ndarray | None:
        """What holds the robot; None if nothing does."""
        if self._safe is None:
            return None if self._last is None else self._last.copy()
        if self._last is None:
            return None if np.isnan(self._safe).any() else self._safe.copy()
        return np.where(np.isnan(self._safe), self._last, self._safe)
