import time
from dataclasses import replace

import pytest
from tests.small import MODEL, TRAINING, write_data

from videopolicy import registry
from videopolicy.training.loop import Origin, Trainer
from videopolicy.training.monitoring import validation
from videopolicy.training.prepare import prepare
from videopolicy.training.stages import STAGES


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """Four episodes of the point-mass env on disk."""
    return write_data(tmp_path_factory.mktemp("data") / "dots")


@pytest.fixture(scope="session")
def dataset(data):
    return registry.build("datasets", "lerobot", data)


@pytest.fixture(autouse=True)
def few_clips(monkeypatch):
    """Six clips are enough to see what a validation tells."""
    monkeypatch.setattr(validation, "MEASURED", 6)
    monkeypatch.setattr(validation, "DRAWN", 6)


@pytest.fixture
def trainer(dataset, tmp_path):
    """A function that sets a run up in a folder of this test, ready to train."""

    def set_up(
        name="run", *, data=dataset, model=MODEL, init=None, split=0, clock=time.monotonic, track=(), **changes
    ) -> Trainer:
        if "stage" in changes:
            changes["stage"] = STAGES.get(changes["stage"], changes["stage"])
        training = replace(TRAINING, **changes)
        built, clips = prepare(data, model, training, tmp_path / name, init)
        learnt, held_out = clips.split(split) if split else (clips, None)
        return Trainer(built, learnt, training, tmp_path / name, Origin("dots"), held_out, track, clock)

    return set_up
