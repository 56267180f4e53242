"""Where one chunk gives way to the next, the robot moves no faster than the chunks themselves do."""

from collections.abc import Iterator
from threading import Event

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from videopolicy.client import Driver

RATE, STEPS = 10.0, 40
SECONDS = 60


class Continuing:
    """A server that returns what is committed as it was given, and goes on from there by steps of at most 1."""

    extended, connections = True, 1

    def __init__(self, execute: int, lengths: Iterator[int], seed: int) -> None:
        self.metadata = {"execute": execute}
        self.asked, self.answer = Event(), Event()
        self._lengths, self._rng = lengths, np.random.default_rng(seed)

    def connect(self, timeout=None):
        pass

    def infer(self, observation, timeout=None):
        self.taken, self.committed = observation["taken"], observation.get("committed", 0)
        self.asked.set()
        assert self.answer.wait(SECONDS)
        self.answer.clear()
        prefix = np.asarray(observation.get("planned", np.zeros((0, 1))))[: self.committed]
        start = prefix[-1] if len(prefix) else np.array([observation["last"]])
        walk = self._rng.uniform(-1, 1, (next(self._lengths), 1)).cumsum(0)
        return {"actions": np.concatenate([prefix, start + walk]).astype(np.float32)}


def play(server: Continuing, waits: Iterator[int]) -> tuple[list[float], list[int]]:
    """What is executed, and how many steps later than announced the newest chunk was, if it is new at that step.

    Time is counted in steps, so that nothing depends on the machine's.
    """
    executed, lateness, late, taken, asked = [], [], 0, 0, False
    driver = Driver(
        server, RATE, bound=0, first_bound=SECONDS, timeout=1e9, max_age=1e9, clock=lambda: len(executed) / RATE
    )
    server.answer.set()
    for number in range(STEPS):
        step = driver.act({"taken": taken, "last": executed[-1] if executed else 0.0})
        taken += not step.held
        executed.append(float(step.action[0]))
        lateness.append(late)
        late = 0
        if not number:
            server.asked.clear()
        with driver._changed:
            wanted = driver._wanted()
        if not asked and (server.asked.is_set() or wanted):
            assert server.asked.wait(SECONDS)
            asked, wait = True, next(waits)
        if asked and not wait:
            late = max(0, taken - server.taken - server.committed)
            server.asked.clear()
            answers, asked = driver._answers + 1, False
            server.answer.set()
            with driver._changed:
                assert driver._changed.wait_for(lambda wanted=answers: driver._answers == wanted, SECONDS)
        elif asked:
            wait -= 1
    server.answer.set()
    driver.close()
    return executed, lateness


cycled = st.lists(st.integers(0, 6), min_size=1, max_size=8)


@settings(max_examples=60)
@given(execute=st.integers(1, 8), waits=cycled, lengths=cycled, seed=st.integers(0, 1000))
def test_chunks_join_without_a_jump(execute, waits, lengths, seed):
    def forever(values):
        while True:
            yield from values

    server = Continuing(execute, (1 + length for length in forever(lengths)), seed)
    executed, lateness = play(server, forever(waits))
    jumps = np.abs(np.diff(executed, prepend=0.0))
    # A chunk that is as early as announced continues what is executed. Where one is m steps later, the chunk before has
    # gone on for m steps beyond what the two have in common, and the new one for m + 1.
    assert (jumps <= 1 + 2 * np.array(lateness) + 1e-5).all()


def test_equal_latencies_are_never_late():
    server = Continuing(4, iter([12] * STEPS), 0)
    executed, lateness = play(server, iter([3] * STEPS))
    # The first answer, which came at once, says nothing of the second.
    assert lateness[8] and not any(lateness[9:])
    assert np.abs(np.diff(executed))[8:].max() <= 1 + 1e-5
