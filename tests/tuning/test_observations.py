import numpy as np
import pytest
from tests.small import SIZE, observation, small_model, write_data

from videopolicy.datasets.formats import open_any
from videopolicy.envs.base import EVALUATION_SEED_OFFSET
from videopolicy.errors import UserError
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.tuning.observations import first_observations, recorded_observations


def policy(*views):
    model = small_model(views=views)
    return CheckpointPolicy(model, model.config.sampling)


def test_recorded_ones_are_spread_over_episodes_and_their_steps(tmp_path):
    dataset = open_any(write_data(tmp_path / "discs", episodes=4))
    found = recorded_observations(policy("top"), dataset, 8)
    assert len({seen.images["top"].tobytes() for seen in found}) == 8
    assert [seen.instruction for seen in found[::2]] == [dataset.episode(index).instruction for index in range(4)]
    assert all(list(seen.images) == ["top"] and seen.images["top"].shape == (SIZE, SIZE, 3) for seen in found)
    with pytest.raises(UserError, match="no view front, which the policy sees"):
        recorded_observations(policy("front"), dataset, 8)


@pytest.mark.parametrize(("count", "expected"), [(4, 4), (1, 2)])
def test_an_envs_are_those_that_evaluations_begin_with_its_tasks_in_equal_shares(count, expected):
    found = first_observations(policy("top"), "pointmass", ("reach-red", "reach-blue"), count)
    assert len(found) == expected
    assert {seen.instruction for seen in found} == {"reach the red disc", "reach the blue disc"}
    first = observation(EVALUATION_SEED_OFFSET)
    np.testing.assert_array_equal(found[0].images["top"], first.images["top"])
