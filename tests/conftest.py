"""One thread a process, set before anything imports NumPy or torch: two that share a busy core wait for each other."""

import os
import signal
from importlib.util import find_spec

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import pytest
import torch
from hypothesis import settings
from tests import processes

torch.set_num_threads(1)

# A busy machine is no reason to fail, and CI tries the same examples every time.
settings.register_profile("videopolicy", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("videopolicy")

# A shell's background job ignores SIGINT, and so would all that it starts; tests interrupt what they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
processes.mark_children()


def pytest_runtest_setup(item):
    """Draws the same weights whichever tests ran before, and skips the tests of an extra that is not installed.

    In CI nothing is skipped, so there they fail.
    """
    torch.manual_seed(0)
    for extra in ("metaworld", "libero", "ray"):
        if item.get_closest_marker(extra) and find_spec(extra) is None and "CI" not in os.environ:
            pytest.skip(f"needs the extra: pip install 'videopolicy[{extra}]'")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item, nextitem):
    """Fails where a file's tests, all fixtures of theirs included, end and leave processes."""
    yield
    last = nextitem is None or nextitem.path != item.path
    if last and not processes.soon(lambda: not processes.left()):
        left = processes.left()
        for pid in left:
            processes.kill(pid)
        pytest.fail(f"{item.path.name} leaves processes: {left}")
