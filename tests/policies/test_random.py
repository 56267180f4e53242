import numpy as np
import pytest
from tests.small import observation

from videopolicy.errors import UserError
from videopolicy.policies.random import make


def test_actions_fill_the_range_evenly_and_do_not_depend_on_each_other():
    plans = make("3").plan([observation()] * 200, range(200), False)
    actions = np.stack([plan.actions for plan in plans])
    assert actions.min() >= -1 and actions.max() <= 1
    counts, _ = np.histogram(actions, bins=10, range=(-1, 1))
    np.testing.assert_allclose(counts / actions.size, 0.1, atol=0.01)
    assert abs(np.corrcoef(actions[:, 0, 0], actions[:, 1, 0])[0, 1]) < 0.25
    assert abs(np.corrcoef(actions[:, 0, 0], actions[:, 0, 1])[0, 1]) < 0.25


def test_it_says_what_it_measures_and_needs_to_see_nothing():
    spec = make("3").spec
    assert (spec.views, spec.action_width) == ((), 3)
    assert "chance" in spec.notes[0]


@pytest.mark.parametrize("target", ["", "0", "-1", "two", "1.5", "1001", "²"])
def test_a_width_that_cannot_be_is_one_line(target):
    with pytest.raises(UserError, match=r"no width of an action; give a whole number from 1 to 1000") as error:
        make(target)
    assert len(str(error.value).splitlines()) == 1
