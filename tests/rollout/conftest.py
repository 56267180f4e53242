import runpy
import time
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from types import SimpleNamespace

import pytest

from videopolicy.rollout.runner import Settings
from videopolicy.rollout.workers import work


@pytest.fixture(scope="session")
def seeing():
    """The class SeeingPlanner, see seeing.py."""
    return runpy.run_path(str(Path(__file__).parent / "seeing.py"))["SeeingPlanner"]


@pytest.fixture
def settings():
    return Settings("pointmass", ("reach-red", "reach-blue"), episodes=3, execute=6, record=0)


class Threads:
    """A site whose envs run in threads of this process: they start at once, and can be made to fail."""

    def __init__(self, setup, workers):
        self._setup = setup

    def open(self):
        said, answers = SimpleQueue(), SimpleQueue()
        pipe = SimpleNamespace(recv=said.get, send=answers.put)
        Thread(target=work, args=(pipe, self._setup), daemon=True).start()
        return SimpleNamespace(send=said.put, receive=answers.get, answers=answers)

    def ready(self, links, seconds):
        until = time.monotonic() + seconds
        while not (ready := [link for link in links if not link.answers.empty()]) and time.monotonic() < until:
            time.sleep(0.001)
        return ready

    def close(self, links):
        pass


@pytest.fixture(scope="session")
def threads():
    """The class Threads."""
    return Threads
