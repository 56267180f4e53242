from dataclasses import replace

import pytest
from tests.small import MODEL, TRAINING, write_data

from videopolicy import registry
from videopolicy.training.loop import Trainer
from videopolicy.training.setup import prepare


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Four episodes of the point-mass world on disk."""
    return write_data(tmp_path_factory.mktemp("data") / "dots")


@pytest.fixture(scope="session")
def dataset(data):
    return registry.build("demos", "lerobot", data)


@pytest.fixture
def trainer(dataset, tmp_path):
    """A function that sets a run up in a folder of this test, ready to train."""

    def set_up(name="run", *, data=dataset, model=MODEL, init=None, **changes) -> Trainer:
        training = replace(TRAINING, **changes)
        policy, clips = prepare(data, model, training, tmp_path / name, init)
        return Trainer(policy, clips, training, tmp_path / name, data="dots")

    return set_up
