import importlib.util

import pytest
from tests.small import MODEL, TRAINING

from videopolicy.errors import UserError
from videopolicy.training.loop import Trainer
from videopolicy.training.monitoring import trackers
from videopolicy.training.prepare import prepare


def test_an_unknown_tracker_is_refused_with_those_that_are_known():
    with pytest.raises(UserError, match="no tracker 'wandbb'; did you mean 'wandb'"):
        trackers.check(["wandbb"])


@pytest.mark.parametrize("name", trackers.KNOWN)
def test_a_tracker_that_is_not_installed_says_how_to_install_it(name):
    if importlib.util.find_spec(name):
        pytest.skip(f"{name} is installed")
    with pytest.raises(UserError, match=f"pip install {name}"):
        trackers.check([name])


@pytest.mark.parametrize(("name", "file"), [("trackio", "videopolicy.db"), ("wandb", "*.wandb")])
def test_a_run_is_told_to_a_tracker_that_is_installed(name, file, dataset, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip(name)
    policy, clips = prepare(dataset, MODEL, TRAINING, tmp_path / "run")
    Trainer(policy, clips, TRAINING, tmp_path / "run", data="dots", track=[name]).train()
    written = next(tmp_path.rglob(file)).read_bytes()
    assert b"losses/video" in written and b"speed/clips_a_second" in written
