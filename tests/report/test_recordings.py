import json

import numpy as np
import pytest
from tests.report.samples import EXECUTE, OFFSETS, moving, record

from videopolicy.errors import UserError
from videopolicy.media import write_mp4
from videopolicy.report.recordings import load


def test_every_plan_gets_its_own_frames_and_targets(tmp_path):
    record(tmp_path / "a", length=20, shift=0.0)
    found = load(tmp_path / "a")
    assert found.length == 21
    assert [plan.step for plan in found.plans] == [0, EXECUTE, 2 * EXECUTE]
    for plan in found.plans:
        assert plan.targets == tuple(plan.step + offset for offset in OFFSETS)
        for target, frame in zip(plan.targets, plan.frames["front"], strict=True):
            if target < found.length:
                # The codec changes a little; a frame of another step would differ by the whole square.
                assert np.abs(frame.astype(int) - found.executed["front"][target]).mean() < 2


def test_actions_are_read_where_they_were_recorded(tmp_path):
    record(tmp_path / "a", length=20)
    older = load(tmp_path / "a")
    assert older.actions is None and all(plan.actions is None for plan in older.plans)
    path = tmp_path / "a" / "plans.json"
    about = json.loads(path.read_text()) | {"actions": [[0.5, -1.0]] * 20}
    for plan in about["plans"]:
        plan["actions"] = [[plan["step"], None]] * 16
    path.write_text(json.dumps(about))
    found = load(tmp_path / "a")
    assert found.actions.shape == (20, 2)
    for plan in found.plans:
        assert (plan.actions[:, 0] == plan.step).all() and np.isnan(plan.actions[:, 1]).all()


def test_only_steps_that_were_reached_are_measured(tmp_path):
    record(tmp_path / "a", length=20, views=("front", "side"))
    found = load(tmp_path / "a")
    for plan in found.plans:
        reached = [offset for offset in OFFSETS if plan.step + offset <= 20]
        assert [pair.offset for pair in found.pairs(plan)] == reached * 2


def test_cameras_larger_than_imagined_frames_are_shrunk(tmp_path):
    record(tmp_path / "a", length=20, shift=0.0)
    write_mp4(tmp_path / "a" / "executed_front.mp4", moving(20, 64).repeat(2, axis=1).repeat(2, axis=2), 20)
    found = load(tmp_path / "a")
    assert found.executed["front"].shape == (21, 32, 32, 3)


def test_a_policy_that_imagines_nothing_has_no_plans_to_show(tmp_path):
    record(tmp_path / "a")
    (tmp_path / "a" / "imagined_front.mp4").unlink()
    assert load(tmp_path / "a").plans == ()


@pytest.mark.parametrize("name", ["plans.json", "executed_front.mp4", "imagined_front.mp4"])
def test_a_torn_file_is_named(tmp_path, name):
    record(tmp_path / "a")
    path = tmp_path / "a" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(UserError, match=name):
        load(tmp_path / "a")


@pytest.mark.parametrize("name", ["plans.json", "executed_side.mp4", "imagined_side.mp4"])
def test_a_missing_file_is_named(tmp_path, name):
    record(tmp_path / "a", views=("front", "side"))
    (tmp_path / "a" / name).unlink()
    with pytest.raises(UserError, match=name):
        load(tmp_path / "a")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"plans": [{"step": 0, "offsets": [4]}]}, "speaks of 1"),
        ({"plans": [{"step": 900, "offsets": list(OFFSETS) * 3}]}, r"\[900\]"),
        ({"plans": [{"offsets": []}]}, "step"),
        ({"fps": "fast"}, "fast"),
        ({"actions": [1.0, 2.0]}, "actions of shape"),
        ({"views": []}, "no views"),
    ],
)
def test_plans_that_do_not_fit_the_frames_are_refused(tmp_path, change, complaint):
    record(tmp_path / "a")
    path = tmp_path / "a" / "plans.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(UserError, match=complaint):
        load(tmp_path / "a")


def test_views_of_different_lengths_are_refused(tmp_path):
    record(tmp_path / "a", views=("front", "side"))
    write_mp4(tmp_path / "a" / "executed_side.mp4", moving(9), 20)
    with pytest.raises(UserError, match="different numbers"):
        load(tmp_path / "a")
