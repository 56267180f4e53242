import runpy
from pathlib import Path

import pytest

from videopolicy.rollout.runner import Settings


@pytest.fixture(scope="session")
def seeing():
    """The class SeeingPlanner, see seeing.py."""
    return runpy.run_path(str(Path(__file__).parent / "seeing.py"))["SeeingPlanner"]


@pytest.fixture
def settings():
    return Settings("pointmass", ("reach-red", "reach-blue"), episodes=3, execute=6, record=0)
