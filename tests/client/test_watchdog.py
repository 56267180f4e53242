"""What is due and what is late, by a clock of the test's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videopolicy.client import Stopped, Watchdog
from videopolicy.client.chunks import ChunkMean


def chunk(*values: float) -> np.ndarray:
    return np.float32([[value] for value in values])


def run(watchdog: Watchdog, now: float) -> tuple[float, bool, float]:
    """One step that waits as long as it may, in vain."""
    step = watchdog.step(now + watchdog.wait(now))
    return float(step.action[0]), step.held, step.late


def test_actions_come_one_by_one():
    watchdog = Watchdog(bound=0.1)
    watchdog.offer(chunk(1, 2), 0)
    assert [run(watchdog, t) for t in (0.0, 0.05)] == [(1, False, 0), (2, False, 0)]


def test_holding_begins_at_the_bound_and_later_steps_do_not_wait():
    watchdog = Watchdog(bound=0.1)
    watchdog.offer(chunk(1), 0)
    run(watchdog, 0.0)
    assert watchdog.wait(1.0) == pytest.approx(0.1)
    assert run(watchdog, 1.0) == (1, True, pytest.approx(0.1))
    assert watchdog.wait(1.15) == 0
    assert run(watchdog, 1.15) == (1, True, pytest.approx(0.15))
    watchdog.offer(chunk(5), watchdog.taken)
    assert run(watchdog, 1.2) == (5, False, pytest.approx(0.2))
    assert (watchdog.held, watchdog.worst) == (2, pytest.approx(0.2))
    # The next lateness is counted anew.
    assert watchdog.wait(1.3) == pytest.approx(0.1)


def test_the_safe_action_holds():
    watchdog = Watchdog(bound=0, safe_action=np.zeros(1))
    watchdog.offer(chunk(1), 0)
    assert [run(watchdog, t)[:2] for t in (0.0, 0.05)] == [(1, False), (0, True)]


def test_stop_says_how_late_and_why():
    watchdog = Watchdog(bound=0.1, when_late="stop")
    watchdog.offer(chunk(1), 0)
    run(watchdog, 0.0)
    watchdog.wait(1.0)
    with pytest.raises(Stopped, match=r"0\.150 s: OSError, gone") as caught:
        watchdog.step(1.15, OSError("gone"))
    assert caught.value.late == pytest.approx(0.15)


def test_the_first_step_waits_for_longer_and_has_nothing_to_hold_by():
    watchdog = Watchdog(bound=0.1, first_bound=30)
    assert watchdog.wait(0.0) == 30
    with pytest.raises(Stopped):
        watchdog.step(30.0)


def test_what_was_executed_meanwhile_is_skipped():
    watchdog = Watchdog(bound=0.1)
    watchdog.offer(chunk(1, 2, 3, 4), 0)
    run(watchdog, 0.0)
    seen = watchdog.taken
    assert watchdog.planned_since(seen).tolist() == [[2], [3], [4]]
    run(watchdog, 0.05)
    watchdog.offer(chunk(20, 30, 40, 50), seen)
    assert run(watchdog, 0.1)[0] == 30
    # All of this one is over already: what is in hand is better.
    watchdog.offer(chunk(7), seen)
    assert run(watchdog, 0.15)[0] == 40


def test_a_held_step_skips_nothing():
    """The robot stood still: what was planned from where it stands still holds from the first action on."""
    watchdog = Watchdog(bound=0)
    watchdog.offer(chunk(1), 0)
    run(watchdog, 0.0)
    seen = watchdog.taken
    for t in (0.05, 0.1, 0.15):
        assert run(watchdog, t)[1]
    watchdog.offer(chunk(8, 9), seen)
    assert run(watchdog, 0.2)[0] == 8


def test_it_wants_the_next_chunk_early_enough():
    watchdog = Watchdog(bound=0)
    assert watchdog.wants(0, lead=0)
    watchdog.offer(chunk(*range(10)), 0)
    assert [taken for taken in range(10) if watchdog.wants(taken, lead=3)] == [7, 8, 9]
    assert [taken for taken in range(10) if watchdog.wants(taken, lead=2, execute=4)] == list(range(2, 10))


def test_a_new_episode_begins_with_nothing():
    watchdog = Watchdog(bound=0, first_bound=5)
    watchdog.offer(chunk(1, 2), 0)
    run(watchdog, 0.0)
    watchdog.reset()
    assert watchdog.left == 0 and watchdog.wait(1.0) == 5


def test_widths_must_agree():
    with pytest.raises(ValueError, match="2 wide"):
        Watchdog(bound=0, safe_action=np.zeros(2)).offer(chunk(1), 0)


@pytest.mark.parametrize("options", [{"bound": -1}, {"bound": float("nan")}, {"bound": 0, "when_late": "run"}])
def test_nonsense_is_refused(options):
    with pytest.raises(ValueError):
        Watchdog(**options)


@given(
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 0.5), st.integers(0, 3)), min_size=1, max_size=30),
)
def test_no_step_waits_longer_than_its_bound_and_only_fresh_actions_count(bound, events):
    watchdog, now, fresh, held = Watchdog(bound, safe_action=np.zeros(1), first_bound=bound), 0.0, 0, 0
    for pause, length in events:
        now += pause
        if length:
            watchdog.offer(chunk(*range(length)), watchdog.taken)
        wait = watchdog.wait(now)
        assert 0 <= wait <= bound
        step = watchdog.step(now + wait)
        now += wait
        fresh, held = fresh + (not step.held), held + step.held
        assert not (step.held and length)
    assert (watchdog.taken, watchdog.held) == (fresh, held)


def test_where_the_safe_action_is_nan_the_last_one_holds():
    watchdog = Watchdog(bound=0, safe_action=np.array([0, np.nan]))
    with pytest.raises(Stopped):
        watchdog.step(0.0)
    watchdog.offer(np.float32([[1, 2]]), 0)
    watchdog.step(0.1)
    step = watchdog.step(0.2)
    assert step.held and step.action.tolist() == [0, 2] and step.action.dtype == np.float32


def test_the_mean_of_chunks_speaks_of_every_step_of_the_newest():
    watchdog = Watchdog(bound=0, chunks=ChunkMean)
    watchdog.offer(chunk(0, 0, 0), 0)
    run(watchdog, 0.0)
    watchdog.offer(chunk(9, 1, 1, 1), 0)
    assert watchdog.left == 3
    # The older chunk weighs a little more, and says nothing of the last step.
    first, second, third = (run(watchdog, t)[0] for t in (0.1, 0.2, 0.3))
    assert 0.49 < first < 0.5 and first == second and third == 1
