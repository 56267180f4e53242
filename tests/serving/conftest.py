"""The policies that are served."""

import pytest
from tests.serving.serving import Drawn
from tests.small import small_model

from videopolicy.models.sampling import Sampling
from videopolicy.policies.checkpoint import CheckpointPolicy


@pytest.fixture(scope="module")
def policy():
    return CheckpointPolicy(small_model(), Sampling(steps=2))


@pytest.fixture
def drawn():
    return Drawn()
