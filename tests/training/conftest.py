import time
from dataclasses import replace

import pytest
from tests.small import MODEL, TRAINING, write_data

from videopolicy import registry
from videopolicy.training.loop import Origin, Trainer
from videopolicy.training.monitoring import validation
from videopolicy.training.prepare import prepare


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Four episodes of the point-mass env on disk."""
    return write_data(tmp_path_factory.mktemp("data") / "dots")


@pytest.fixture(scope="session")
def dataset(data):
    return registry.build("datasets", "lerobot", data)


@pytest.fixture(autouse=True)
def few_looks(monkeypatch):
    """Six clips at a look are enough to see what it tells."""
    monkeypatch.setattr(validation, "MEASURED", 6)
    monkeypatch.setattr(validation, "DRAWN", 6)


@pytest.fixture
def trainer(dataset, tmp_path):
    """A function that sets a run up in a folder of this test, ready to train."""

    def set_up(name="run", *, data=dataset, model=MODEL, init=None, split=0, clock=time.monotonic, **changes) -> Trainer:
        training = replace(TRAINING, **changes)
        built, clips = prepare(data, model, training, tmp_path / name, init)
        learnt, held_out = clips.split(split) if split else (clips, None)
        return Trainer(built, learnt, training, tmp_path / name, Origin("dots"), held_out, clock=clock)

    return set_up
