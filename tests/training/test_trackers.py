import importlib.util

import pytest

from videopolicy.errors import UserError
from videopolicy.training import trackers


def test_an_unknown_tracker_is_refused_with_those_that_are_known():
    with pytest.raises(UserError, match="no tracker 'wandbb'; did you mean 'wandb'"):
        trackers.check(["wandbb"])


@pytest.mark.parametrize("name", trackers.KNOWN)
def test_a_tracker_that_is_not_installed_says_how_to_install_it(name, trainer):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(UserError, match=f"pip install {name}"):
        trackers.check([name])
