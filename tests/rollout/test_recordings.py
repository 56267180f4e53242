import json
from dataclasses import replace

import numpy as np
import pytest

from videopolicy.envs.base import EVALUATION_SEED_OFFSET
from videopolicy.envs.pointmass import DOT, make
from videopolicy.executors.chunked import Chunked
from videopolicy.media import read_mp4
from videopolicy.policies.base import derive_seed
from videopolicy.rollout.recordings import Recorder
from videopolicy.rollout.runner import Settings, evaluate
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
        facts = json.loads((folder / "plans.json").read_text())
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
    facts = json.loads((out / "recordings" / "reach-blue-1" / "plans.json").read_text())
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
    facts = json.loads((tmp_path / "a" / "plans.json").read_text())
    assert facts["plans"][0]["actions"] == [[0.1, None], [None, -1.0]] and facts["actions"] == []


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
        facts = json.loads((folder / "plans.json").read_text())
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
