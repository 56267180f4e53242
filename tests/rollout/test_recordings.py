import json
from dataclasses import replace

import numpy as np
import pytest
from tests.disk import modes, umask
from tests.report.samples import EXECUTE as SAMPLE_EXECUTE
from tests.report.samples import OFFSETS, moving, record

from videopolicy.envs.base import EVALUATION_SEED_OFFSET
from videopolicy.envs.pointmass import DOT, make
from videopolicy.errors import UserError
from videopolicy.executors.chunked import Chunked
from videopolicy.media import read_mp4, write_mp4
from videopolicy.policies.base import derive_seed
from videopolicy.rollout.recordings import Recorder, load
from videopolicy.rollout.runner import evaluate
from videopolicy.rollout.settings import Settings
from videopolicy.rollout.workers import EpisodeJob, Setup, _play
from videopolicy.types import Plan

EXECUTE = 6


@pytest.fixture(scope="module")
def recorded(seeing, tmp_path_factory):
    """The folder of an evaluation that records 2 of 3 episodes; plans without noise come true."""
    out = tmp_path_factory.mktemp("evaluation")
    settings = Settings("pointmass", ("reach-red", "reach-blue"), episodes=3, execute=EXECUTE, record=2)
    results = evaluate(seeing(noise=0.0), settings, out)
    return out, {(row.task, row.episode): row for row in results.rows}, settings


def dot(image):
    """Mean row and column of the dot."""
    return np.argwhere(np.abs(image.astype(int) - DOT).max(axis=2) < 60).mean(axis=0)


def test_the_first_episodes_of_each_task_are_recorded(recorded):
    out, rows, _ = recorded
    names = {f"{task}-{i}" for task in ("reach-red", "reach-blue") for i in range(2)}
    assert {folder.name for folder in (out / "recordings").iterdir()} == names
    assert all(row.recorded == (row.episode < 2) for row in rows.values())
    files = {"plans.json"} | {f"{kind}_{view}.mp4" for kind in ("executed", "imagined") for view in ("top", "close")}
    for name in names:
        assert {file.name for file in (out / "recordings" / name).iterdir()} == files


def test_the_facts_agree_with_the_result_and_the_videos(recorded):
    out, rows, _ = recorded
    for (task, episode), row in rows.items():
        if not row.recorded:
            continue
        folder = out / "recordings" / f"{task}-{episode}"
        facts = json.loads((folder / "plans.json").read_text(encoding="utf-8"))
        expected = {"task": task, "episode": episode, "success": row.success, "length": row.steps, "fps": 20.0}
        assert {key: facts[key] for key in expected} == expected
        assert facts["views"] == ["top", "close"] and "disc" in facts["instruction"]
        plans = [{name: plan[name] for name in ("step", "offsets")} for plan in facts["plans"]]
        assert plans == [{"step": EXECUTE * i, "offsets": [4, 8]} for i in range(row.plans)]
        for view in facts["views"]:
            assert len(read_mp4(folder / f"executed_{view}.mp4")) == row.steps + 1
            assert len(read_mp4(folder / f"imagined_{view}.mp4")) == 2 * row.plans


def test_the_executed_actions_are_those_planned_and_replay_to_the_same_end(recorded):
    out, rows, _ = recorded
    facts = json.loads((out / "recordings" / "reach-blue-1" / "plans.json").read_text(encoding="utf-8"))
    planned = [action for plan in facts["plans"] for action in plan["actions"][:EXECUTE]]
    assert facts["actions"] == planned[: facts["length"]]
    env = make("reach-blue")
    env.reset(seed=EVALUATION_SEED_OFFSET + 1)
    reached = [env.step(np.array(action, np.float32))[4]["success"] for action in facts["actions"]]
    assert len(reached) == rows["reach-blue", 1].steps and reached.index(True) == len(reached) - 1


def test_actions_that_are_no_numbers_are_null(tmp_path):
    recorder = Recorder(20.0)
    env = make("reach-red")
    env.reset(seed=0)
    recorder.add_observation(env.observe())
    recorder.add_plan(Plan(np.array([[0.1, np.nan], [np.inf, -1]], np.float32)))
    recorder.write(tmp_path / "a", task="reach-red", episode=0, instruction="", success=False)
    facts = json.loads((tmp_path / "a" / "plans.json").read_text(encoding="utf-8"))
    assert facts["plans"][0]["actions"] == [[0.1, None], [None, -1.0]] and facts["actions"] == []


def test_its_files_have_the_modes_that_the_umask_gives(tmp_path):
    recorder = Recorder(20.0)
    env = make("reach-red")
    env.reset(seed=0)
    recorder.add_observation(env.observe())
    with umask(0o007):
        recorder.write(tmp_path / "a", task="reach-red", episode=0, instruction="", success=False)
    assert modes(tmp_path / "a") == ({0o660}, {0o770})


def test_executed_frame_n_is_what_was_seen_before_action_n(recorded, seeing):
    out, rows, settings = recorded
    policy = seeing(noise=0.0)
    env = make("reach-blue", views=policy.spec.views, size=policy.spec.size)
    env.reset(seed=EVALUATION_SEED_OFFSET + 1)
    executor = Chunked(lambda observation, seed: policy.plan([observation], [seed], False)[0], execute=EXECUTE)
    executor.reset(derive_seed(settings.seed, "reach-blue", 1))
    seen = [env.observe()]
    for _ in range(rows["reach-blue", 1].steps):
        env.step(executor.act(seen[-1]))
        seen.append(env.observe())
    for view in policy.spec.views:
        frames = read_mp4(out / "recordings" / "reach-blue-1" / f"executed_{view}.mp4")
        truth = np.stack([observation.images[view] for observation in seen]).astype(int)
        errors = np.abs(frames[:, None].astype(int) - truth[None]).mean(axis=(2, 3, 4))
        assert (errors.argmin(axis=1) == np.arange(len(truth))).all()
        assert errors.diagonal().max() < 6


def test_imagined_frame_k_shows_the_plans_step_plus_its_offset(recorded):
    out, _, _ = recorded
    compared = 0
    for folder in (out / "recordings").iterdir():
        facts = json.loads((folder / "plans.json").read_text(encoding="utf-8"))
        executed, imagined = read_mp4(folder / "executed_top.mp4"), read_mp4(folder / "imagined_top.mp4")
        shown = [plan["step"] + offset for plan in facts["plans"] for offset in plan["offsets"]]
        for step, frame in zip(shown, imagined, strict=True):
            if step < facts["length"]:
                assert dot(frame) == pytest.approx(dot(executed[step]), abs=1.0)
                compared += 1
    assert compared > 4


def test_recording_changes_no_result(recorded, seeing, tmp_path):
    _, rows, settings = recorded
    for row in evaluate(seeing(noise=0.0), replace(settings, record=0), tmp_path).rows:
        recorded_row = rows[row.task, row.episode]
        assert (row.success, row.steps, row.plans) == (recorded_row.success, recorded_row.steps, recorded_row.plans)


def test_a_failure_is_recorded_as_if_it_had_been_watched(seeing, tmp_path):
    settings = Settings("pointmass", ("reach-red",), episodes=3, execute=EXECUTE, record=3)
    watched, unwatched = tmp_path / "watched", tmp_path / "unwatched"
    for out, first in ((watched, 3), (unwatched, 1)):
        rows = evaluate(seeing(noise=50.0), replace(settings, record=first), out, workers=1).rows
        assert all(row.recorded and not row.success for row in rows), "this test needs failures: more noise"
    for folder in (watched / "recordings").iterdir():
        names = sorted(file.name for file in folder.iterdir())
        assert names == sorted(file.name for file in (unwatched / "recordings" / folder.name).iterdir())
        for name in names:
            seen, played_again = folder / name, unwatched / "recordings" / folder.name / name
            if name.endswith(".mp4"):
                # So small a picture is not coded alike every time.
                one, other = (read_mp4(file).astype(float) for file in (seen, played_again))
                assert one.shape == other.shape and np.abs(one - other).mean() < 1
            else:
                assert seen.read_bytes() == played_again.read_bytes()


class Answering:
    """An env's pipe to a policy that plans whatever is asked for."""

    def __init__(self, policy):
        self.policy = policy

    def send(self, request):
        self.request = request

    def recv(self):
        return self.policy.plan([self.request.observation], [self.request.seed], self.request.imagine)[0]


@pytest.mark.parametrize("films", [True, False])
def test_only_what_is_recorded_for_certain_is_rendered_at_every_step(seeing, tmp_path, monkeypatch, films):
    setup = Setup("pointmass", ("top", "close"), 32, "chunked", EXECUTE, 0)
    env, observed = setup.open_env("reach-red"), []
    observe = env.observe
    monkeypatch.setattr(env, "observe", lambda: observed.append(1) or observe())
    job = EpisodeJob("reach-red", 0, env_seed=0, noise_seed=0, recording=tmp_path / "a", failure_only=not films)
    result = _play(env, job, setup, Answering(seeing(noise=0.0)))
    assert result.success and result.recorded == films
    assert len(observed) == (result.steps + 1 if films else result.plans)


def test_every_plan_gets_its_own_frames_and_targets(tmp_path):
    record(tmp_path / "a", length=20, shift=0.0)
    found = load(tmp_path / "a")
    assert found.length == 21
    assert [plan.step for plan in found.plans] == [0, SAMPLE_EXECUTE, 2 * SAMPLE_EXECUTE]
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
    about = json.loads(path.read_text(encoding="utf-8")) | {"actions": [[0.5, -1.0]] * 20}
    for plan in about["plans"]:
        plan["actions"] = [[plan["step"], None]] * 16
    path.write_text(json.dumps(about), encoding="utf-8")
    found = load(tmp_path / "a")
    assert found.actions.shape == (20, 2)
    for plan in found.plans:
        assert (plan.actions[:, 0] == plan.step).all() and np.isnan(plan.actions[:, 1]).all()


def test_cameras_larger_than_imagined_frames_are_shrunk(tmp_path):
    record(tmp_path / "a", length=20, shift=0.0)
    write_mp4(tmp_path / "a" / "executed_front.mp4", moving(20, 64).repeat(2, axis=1).repeat(2, axis=2), 20)
    found = load(tmp_path / "a")
    assert found.executed["front"].shape == (21, 32, 32, 3)


def test_of_a_wide_camera_the_middle_is_compared(tmp_path):
    record(tmp_path / "a", length=20, shift=0.0)
    square = load(tmp_path / "a").executed["front"]
    wide = np.pad(square, ((0, 0), (0, 0), (8, 8), (0, 0)), constant_values=7)
    write_mp4(tmp_path / "a" / "executed_front.mp4", wide, 20, crf=1, full_colour=True)
    assert np.abs(load(tmp_path / "a").executed["front"].astype(int) - square).mean() < 2


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
        ({"success": "no"}, 'success is "no"; it takes true or false'),
        ({"episode": -1}, "episode is -1; it must be from 0"),
        ({"views": "front"}, 'views is "front"; it takes a list'),
        ({"fps": float("inf")}, "fps is inf; it must be from"),
        ({"plans": [{"step": True, "offsets": []}]}, r"plans\[0\].step is true; it takes a whole number"),
        ({"task": 3}, "task is 3; it takes a text"),
        ({"zzz": 3}, "no field 'zzz'"),
        ({"actions": [1.0, 2.0]}, r"actions\[0\] is 1.0; it takes a list"),
        ({"actions": [[1.0, 2.0], [1.0]]}, "actions of different widths"),
        ({"views": []}, "no views"),
    ],
)
def test_plans_that_do_not_fit_the_frames_are_refused(tmp_path, change, complaint):
    record(tmp_path / "a")
    path = tmp_path / "a" / "plans.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change), encoding="utf-8")
    with pytest.raises(UserError, match=complaint) as refusal:
        load(tmp_path / "a")
    assert str(path.parent) in str(refusal.value) and "records it again" in str(refusal.value)


@pytest.mark.parametrize("text", ["[]", "3", "null"])
def test_what_is_no_description_of_a_recording_is_refused(tmp_path, text):
    record(tmp_path / "a")
    (tmp_path / "a" / "plans.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"plans\.json: the whole is .*; it takes a map of its fields; delete"):
        load(tmp_path / "a")


def test_frames_that_cannot_be_fitted_are_refused(tmp_path):
    record(tmp_path / "a")
    count = len(read_mp4(tmp_path / "a" / "imagined_front.mp4"))
    write_mp4(tmp_path / "a" / "imagined_front.mp4", np.zeros((count, 32, 48, 3), np.uint8), 20)
    with pytest.raises(UserError, match="imagined frames are 48 x 32 pixels, executed ones 32 x 32"):
        load(tmp_path / "a")


def test_views_of_different_lengths_are_refused(tmp_path):
    record(tmp_path / "a", views=("front", "side"))
    write_mp4(tmp_path / "a" / "executed_side.mp4", moving(9), 20)
    with pytest.raises(UserError, match="different numbers"):
        load(tmp_path / "a")
