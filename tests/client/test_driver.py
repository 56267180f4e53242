"""A robot is driven while its server is slow, busy, killed and started again."""

import threading
from collections.abc import Callable
from itertools import count
from time import monotonic, sleep

import msgpack
import numpy as np
import pytest
from tests.client.servers import Running, array, behave, running

from videopolicy.client import Busy, Client, ClientError, ConnectionLost, Driver, Stopped, WireError, pack

RATE = 50
SLACK = 1.0


class FakeServer:
    """Answers at once, or when it is let; an action's value is its step number by what the observation said."""

    extended, connections = True, 1

    def __init__(self, answer: Callable[[dict], dict] | None = None) -> None:
        self.metadata = {"execute": 4}
        self.asked: list[dict] = []
        self.resets = 0
        self._answer = answer or steps_from

    def connect(self, timeout=None):
        pass

    def infer(self, observation, timeout=None):
        self.asked.append(dict(observation))
        pack(observation)
        return self._answer(observation)

    def reset(self, timeout=None):
        self.resets += 1


def steps_from(observation: dict, count: int = 8) -> dict:
    return {"actions": np.arange(observation["step"], observation["step"] + count, dtype=np.float32)[:, None]}


def drive(driver: Driver, steps: range, seconds: float = 1 / RATE) -> list:
    """Acts at a steady rate; observations number the steps."""
    done = []
    for number in steps:
        done.append(driver.act({"step": number}))
        sleep(seconds)
    return done


def eventually(true: Callable[[], bool], seconds: float = 20) -> bool:
    until = monotonic() + seconds
    while not true() and monotonic() < until:
        sleep(0.005)
    return true()


def test_every_step_gets_the_action_that_was_planned_for_it():
    server = FakeServer()
    with Driver(server, RATE, bound=5) as driver:
        done = drive(driver, range(30))
    assert [float(step.action[0]) for step in done] == list(range(30))
    assert not any(step.held for step in done)
    # About every `execute` steps, not at every one.
    assert 6 <= len(server.asked) <= 15
    assert driver.lateness.steps == 30 and driver.lateness.held == 0


def test_a_slow_server_is_asked_ahead():
    def slow(observation):
        sleep(3 / RATE)
        return steps_from(observation, 40)

    server = FakeServer(slow)
    with Driver(server, RATE, bound=5, execute=20) as driver:
        done = drive(driver, range(60))
        assert driver.lateness.latency >= 3 / RATE
    assert [float(step.action[0]) for step in done] == list(range(60))
    # Only an episode's first step has to wait.
    assert all(step.late < 0.01 for step in done[1:])
    later = server.asked[-1]
    assert later["committed"] >= 3 and later["planned"][0, 0] == later["step"]


def test_chunked_looks_when_what_it_executes_is_done_and_waits():
    server = FakeServer()
    with Driver(server, RATE, bound=5, execute=3, executor="chunked") as driver:
        done = drive(driver, range(12))
    assert [float(step.action[0]) for step in done] == list(range(12))
    assert [message["step"] for message in server.asked] == [0, 3, 6, 9]
    assert all(message.get("planned") is None for message in server.asked)


def test_the_temporal_ensemble_executes_the_mean_of_what_chunks_say():
    numbers = count()

    def disagree(observation):
        return {"actions": np.full((40, 1), next(numbers), np.float32)}

    with Driver(FakeServer(disagree), RATE, bound=5, execute=2, executor="temporal_ensemble") as driver:
        values = [float(step.action[0]) for step in drive(driver, range(20))]
    assert values[0] == 0 and 1 < values[-1] < next(numbers) - 2
    assert sorted(values) == values


def test_servers_of_others_are_told_nothing_more():
    server = FakeServer()
    server.extended = False
    with Driver(server, RATE, bound=5) as driver:
        drive(driver, range(10))
    assert all(list(message) == ["step"] for message in server.asked)


def test_late_answers_hold_within_the_bound_and_say_how_late():
    let = threading.Event()
    first = []

    def answer(observation):
        if first:
            let.wait(20)
        first.append(1)
        return steps_from(observation, 1)

    with Driver(FakeServer(answer), RATE, bound=0.2, safe_action=np.array([-1.0])) as driver:
        driver.act({"step": 0})
        began = monotonic()
        step = driver.act({"step": 1})
        assert 0.2 <= monotonic() - began < 0.2 + SLACK
        assert step.held and step.action == -1 and step.late >= 0.2
        began = monotonic()
        assert driver.act({"step": 2}).held
        assert monotonic() - began < 0.2
        let.set()
        assert eventually(lambda: not driver.act({"step": 3}).held)
        assert driver.lateness.worst >= 0.2 and driver.lateness.held >= 2


def test_failures_are_told_and_asked_again():
    failing = [Busy("8 wait"), ConnectionLost("gone")]

    def answer(observation):
        if failing:
            raise failing.pop()
        return steps_from(observation)

    with Driver(FakeServer(answer), RATE) as driver:
        assert not driver.act({"step": 0}).held
        assert driver.lateness.failures == 2 and driver.lateness.error is None


def test_a_stop_says_what_the_failure_was():
    def answer(_):
        raise Busy("8 wait")

    with Driver(FakeServer(answer), RATE, when_late="stop", first_bound=0.3) as driver:
        with pytest.raises(Stopped, match="Busy, 8 wait") as caught:
            driver.act({"step": 0})
        assert 0.3 <= caught.value.late < 0.3 + SLACK


def test_an_old_observation_is_not_sent():
    server = FakeServer()
    with Driver(server, RATE, first_bound=0.2, max_age=0.5, safe_action=np.zeros(1)) as driver:
        assert driver.act({"step": 0}, at=monotonic() - 0.6).held
        assert server.asked == [] and driver.lateness.too_old == 1
        assert eventually(lambda: not driver.act({"step": 1}).held)


def test_what_became_too_old_before_the_server_was_found_is_looked_at_again():
    server, pauses = FakeServer(), [0.4]
    server.connect = lambda timeout=None: sleep(pauses.pop() if pauses else 0)
    with Driver(server, RATE, first_bound=60, max_age=0.2) as driver:
        began = monotonic()
        with pytest.raises(Stopped):
            driver.act({"step": 0})
        assert monotonic() - began < 30 and driver.lateness.too_old == 1
        assert not driver.act({"step": 1}).held
    assert [message["step"] for message in server.asked] == [1]


def test_what_is_no_fault_of_the_networks_is_raised_in_the_loop():
    with Driver(FakeServer(), RATE) as driver, pytest.raises(WireError):
        driver.act({"step": object()})


def test_a_new_episode_is_not_moved_by_the_last_ones_answer():
    let, asked = threading.Event(), threading.Event()

    def answer(observation):
        if observation["step"] == 0:
            asked.set()
            let.wait(20)
        return steps_from(observation)

    server = FakeServer(answer)
    with Driver(server, RATE, first_bound=0.1, safe_action=np.array([-1.0])) as driver:
        driver.act({"step": 0})
        assert asked.wait(20)
        driver.reset()
        let.set()
        assert eventually(lambda: driver.lateness.latency > 0)
        # What came was for the episode before: it is held until the new one's answer is there.
        values = [float(driver.act({"step": 100 + i}).action[0]) for i in range(5)]
        assert server.resets == 1
        assert all(value in (-1, *range(100, 120)) for value in values)


def test_closing_does_not_wait_for_an_answer():
    let = threading.Event()
    driver = Driver(FakeServer(lambda _: let.wait(20)), RATE, first_bound=0.05, safe_action=np.zeros(1))
    driver.act({"step": 0})
    began = monotonic()
    driver.close()
    driver.close()
    assert monotonic() - began < 10
    with pytest.raises(ValueError, match="closed"):
        driver.act({"step": 1})
    let.set()


@pytest.mark.parametrize("options", [{"rate": 0}, {"execute": 0}, {"max_age": 0}, {"executor": "best"}])
def test_nonsense_is_refused(options):
    with pytest.raises(ValueError):
        Driver(FakeServer(), **{"rate": 10, **options})


def counting(message: dict) -> bytes:
    """Four actions that go on from the observation's step."""
    return msgpack.packb(
        {"actions": array([4, 1], np.arange(message["step"], message["step"] + 4, dtype="<f4").tobytes())}
    )


@pytest.mark.parametrize("when_late", ["hold", "stop"])
def test_a_killed_server_fires_the_watchdog_and_is_found_again(when_late):
    bound = 0.2
    server = Running(behave(counting, {"execute": 2}))
    with (
        Client(server.url) as client,
        Driver(client, RATE, bound=bound, when_late=when_late, timeout=1, max_age=5) as driver,
    ):
        assert not any(step.held for step in drive(driver, range(10)))
        server.kill()
        killed = monotonic()
        number = 10
        try:
            while not driver.act({"step": number}).held:
                sleep(1 / RATE)
                number += 1
        except Stopped as stopped:
            assert when_late == "stop"
            assert bound <= stopped.late < bound + SLACK
        # What was in hand, at most four actions, and then the bound.
        assert bound <= monotonic() - killed < 4 / RATE + bound + SLACK
        assert eventually(lambda: isinstance(driver.lateness.error, ClientError))

        server.start()

        def moves() -> bool:
            sleep(1 / RATE)
            try:
                return not driver.act({"step": 1000}).held
            except Stopped:
                return False

        assert eventually(moves)
        assert driver.lateness.error is None and driver.lateness.worst >= bound
    server.kill()


def test_a_server_that_hangs_is_given_up_and_asked_again():
    hang = [False, True]

    def answer(message):
        if hang and hang.pop(0):
            sleep(1)
        return counting(message)

    with (
        running(behave(answer, {"execute": 2})) as server,
        Client(server.url) as client,
        Driver(client, RATE, bound=0.05, timeout=0.2) as driver,
    ):
        steps = drive(driver, range(60))
        assert any(step.held for step in steps)
        assert eventually(lambda: not drive(driver, range(100, 101))[0].held)
        assert driver.lateness.failures >= 1
        assert len(server.headers) >= 2
