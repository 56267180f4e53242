"""From HDF5 straight into `videopolicy train`."""

import pytest
from tests.datasets.hdf5 import recorded, write_libero, write_robocasa

from videopolicy import checkpoint
from videopolicy.cli.main import main

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("write", "view"), [(write_robocasa, "robot0_agentview_left"), (write_libero, "agentview")])
def test_a_policy_trains_on_it(tmp_path, write, view):
    file = write(tmp_path / "data" / "demo.hdf5", recorded(count=2, steps=36, size=64))
    out = tmp_path / "run"
    told = ["--data", str(file), "--format", "robomimic", "--out", str(out), "--views", view]
    main(["train", *told, "--steps", "2", "--batch-size", "2"])
    model, provenance = checkpoint.load(out / "checkpoint")
    assert provenance.steps == 2
    assert (model.config.views, model.action_width) == ((view,), 7)
