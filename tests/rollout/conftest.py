import runpy
import time
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import SimpleNamespace

import pytest

from videopolicy.rollout.settings import Settings
from videopolicy.rollout.workers import work


@pytest.fixture(scope="session")
def seeing():
    """The class SeeingPolicy, see seeing.py."""
    return runpy.run_path(str(Path(__file__).parent / "seeing.py"))["SeeingPolicy"]


@pytest.fixture
def settings():
    return Settings("pointmass", ("reach-red", "reach-blue"), episodes=3, execute=6, record=0)


class Threads:
    """A site whose envs run in threads of this process: they start at once, and can be made to fail."""

    opened = ()

    def __init__(self, setup, workers):
        self._setup = setup

    def open(self):
        said, answers = SimpleQueue(), SimpleQueue()

        def receive():
            if (message := said.get()) is None:
                raise EOFError
            return message

        def live():
            with suppress(EOFError):
                work(SimpleNamespace(recv=receive, send=answers.put), self._setup)

        thread = Thread(target=live, daemon=True)
        thread.start()
        self.opened.append(thread)
        return SimpleNamespace(send=said.put, receive=answers.get, answers=answers, thread=thread)

    def ready(self, links, seconds):
        until = time.monotonic() + seconds
        while not (ready := [link for link in links if not link.answers.empty()]) and time.monotonic() < until:
            time.sleep(0.001)
        return ready

    def close(self, links):
        for link in links:
            link.send(None)


@pytest.fixture
def threads():
    """The class Threads; afterwards every thread has ended."""

    opened = []
    yield type("Fresh", (Threads,), {"opened": opened})
    for thread in opened:
        thread.join(60)
    assert not any(thread.is_alive() for thread in opened)
