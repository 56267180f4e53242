"""One thread a process, set before anything imports NumPy or torch: two that share a busy core wait for each other."""

import os
from importlib.util import find_spec

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)

# A busy machine is no reason to fail, and CI tries the same examples every time.
settings.register_profile("videopolicy", deadline=None, derandomize="CI" in os.environ)
settings.load_profile("videopolicy")


def pytest_runtest_setup(item):
    """Skips a simulator's tests where it is not installed; in CI nothing is skipped, so there they fail."""
    for extra in ("metaworld", "libero"):
        if item.get_closest_marker(extra) and find_spec(extra) is None and "CI" not in os.environ:
            pytest.skip(f"needs the extra: pip install 'videopolicy[{extra}]'")
