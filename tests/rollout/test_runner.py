import json
import multiprocessing
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from videopolicy import registry
from videopolicy.envs.base import EVALUATION_SEED_OFFSET
from videopolicy.envs.pointmass import STRIDE, VIEWS
from videopolicy.errors import UserError
from videopolicy.policies.base import PolicySpec
from videopolicy.policies.random import make as make_random
from videopolicy.rollout.protocols import load
from videopolicy.rollout.results import timeless
from videopolicy.rollout.runner import _jobs, evaluate
from videopolicy.rollout.settings import Settings

pytestmark = pytest.mark.slow


def outcomes(results):
    return {(row.task, row.episode): (row.seed, row.success, row.steps, row.plans) for row in results.rows}


def test_every_episode_is_played_once_and_written(seeing, settings, tmp_path, threads):
    results = evaluate(seeing(), settings, tmp_path, place=threads)
    keys = [(row.task, row.episode) for row in results.rows]
    assert sorted(keys) == sorted((task, i) for task in settings.tasks for i in range(3))
    assert all(row.seed == EVALUATION_SEED_OFFSET + row.episode for row in results.rows)
    assert [json.loads(line) for line in (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()] == [
        vars(row) for row in results.rows
    ]
    assert not (tmp_path / "recordings").exists()


def test_results_do_not_depend_on_the_number_of_workers(seeing, settings, tmp_path):
    settings = replace(settings, episodes=8, execute=3)
    policy = seeing(noise=3.0)
    one, two, four = (
        timeless(evaluate(policy, settings, tmp_path / str(workers), workers=workers).rows) for workers in (1, 2, 4)
    )
    assert one == two == four
    assert len({(row["steps"], row["plans"]) for row in one}) > 4


def test_another_seed_changes_the_plans_but_not_the_envs(seeing, settings, tmp_path, threads):
    policy = seeing(noise=3.0)
    here = outcomes(evaluate(policy, settings, tmp_path / "a", place=threads))
    there = outcomes(evaluate(policy, replace(settings, seed=1), tmp_path / "b", place=threads))
    assert {key: row[0] for key, row in here.items()} == {key: row[0] for key, row in there.items()}
    assert here != there


@pytest.fixture
def listed(tmp_path, settings):
    """Settings of a protocol that lists seeds of one of two tasks."""
    path = tmp_path / "listed.toml"

    def writer(*seeds):
        tasks = f'[[task]]\nname = "reach-red"\nseeds = {list(seeds)}\n[[task]]\nname = "reach-blue"\n'
        path.write_text(f'title = "Listed"\nenv = "pointmass"\nepisodes = 2\n{tasks}', encoding="utf-8")
        return replace(settings, episodes=2, protocol=load(str(path)))

    return writer


def test_a_protocols_seeds_decide_where_its_episodes_begin(seeing, settings, listed, tmp_path):
    first, third = EVALUATION_SEED_OFFSET, EVALUATION_SEED_OFFSET + 2
    # Without noise the start alone decides what an episode is.
    policy = seeing(noise=0.0)
    one, two = (
        timeless(evaluate(policy, listed(third, first), tmp_path / str(workers), workers=workers).rows)
        for workers in (1, 2)
    )
    assert one == two
    seeds = {(row["task"], row["episode"]): row["seed"] for row in one}
    assert seeds == {
        ("reach-red", 0): third,
        ("reach-red", 1): first,
        ("reach-blue", 0): first,
        ("reach-blue", 1): first + 1,
    }
    plain = evaluate(policy, replace(settings, tasks=("reach-red",)), tmp_path / "plain").rows
    steps = {row.seed: row.steps for row in plain}
    assert steps[first] != steps[third]
    assert [row["steps"] for row in one if row["task"] == "reach-red"] == [steps[third], steps[first]]


def test_a_protocols_seeds_do_not_change_the_noise_of_the_plans(listed, tmp_path):
    here, there = (list(_jobs(listed(*seeds), tmp_path)) for seeds in ((1_000_005, 1_000_006), (1_000_007, 1_000_008)))
    assert [job.noise_seed for job in here] == [job.noise_seed for job in there]
    assert [job.env_seed for job in here[:2]] == [1_000_005, 1_000_006]


def test_other_seeds_in_the_file_are_another_evaluation(seeing, listed, tmp_path, threads):
    evaluate(seeing(), listed(1_000_005, 1_000_006), tmp_path / "out", place=threads)
    with pytest.raises(UserError, match="protocol_sha256 was"):
        evaluate(seeing(), listed(1_000_005, 1_000_007), tmp_path / "out", place=threads)


def test_more_episodes_than_seeds_are_refused(seeing, listed, tmp_path):
    with pytest.raises(UserError, match="episodes is 3; it must be from 1 to 2"):
        evaluate(seeing(), replace(listed(1_000_005, 1_000_006), episodes=3), tmp_path / "out")


def test_a_policy_that_sees_nothing_useful_runs_to_the_horizon(seeing, settings, tmp_path, threads):
    class Lost(seeing):
        def _plan(self, observation, seed, imagine):
            plan = super()._plan(observation, seed, imagine)
            return replace(plan, actions=plan.actions * 0)

    results = evaluate(Lost(), replace(settings, episodes=1), tmp_path, place=threads)
    assert [(row.success, row.steps, row.plans) for row in results.rows] == [(False, 50, 9)] * 2


def test_the_first_episodes_and_every_failure_are_recorded(seeing, settings, tmp_path, threads):
    class LostInSome(seeing):
        def _plan(self, observation, seed, imagine):
            plan = super()._plan(observation, seed, imagine)
            return replace(plan, actions=plan.actions * ("red" in observation.instruction))

    results = evaluate(LostInSome(), replace(settings, record=1), tmp_path, place=threads)
    assert {(row.task, row.success) for row in results.rows} == {("reach-red", True), ("reach-blue", False)}
    recorded = {f"{row.task}-{row.episode}" for row in results.rows if row.recorded}
    assert recorded == {"reach-red-0", "reach-blue-0", "reach-blue-1", "reach-blue-2"}
    assert recorded == {folder.name for folder in (tmp_path / "recordings").iterdir()}


def test_requests_that_wait_share_a_batch(seeing, settings, tmp_path, threads):
    class AtOnce(threads):
        """Everybody has always answered."""

        def ready(self, links, seconds):
            while len(ready := super().ready(links, 1)) < len(links):
                pass
            return ready

    policy = seeing()
    evaluate(policy, replace(settings, episodes=6, execute=2), tmp_path, workers=3, place=AtOnce)
    assert policy.batches[0] == max(policy.batches) == 3


def test_a_run_that_is_killed_goes_on_where_it_stopped(seeing, settings, tmp_path):
    script, path = str(Path(__file__).parent / "seeing.py"), tmp_path / "results.jsonl"
    for rows in ("1", "5"):
        done = subprocess.run([sys.executable, script, str(tmp_path), "6", rows], stderr=subprocess.DEVNULL)
        assert done.returncode == -signal.SIGKILL
    before = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    assert 5 <= len(before) < 12

    settings = replace(settings, episodes=6, record=1)
    results = evaluate(seeing(), settings, tmp_path)
    assert path.read_bytes().splitlines(keepends=True)[: len(before)] == before
    assert len(results.rows) == len(results.ended) == 12
    assert {folder.name for folder in (tmp_path / "recordings").iterdir()} == {"reach-red-0", "reach-blue-0"}
    assert timeless(results.rows) == timeless(evaluate(seeing(), settings, tmp_path / "whole").rows)


def test_a_finished_run_plays_nothing_more(seeing, settings, tmp_path, threads):
    first = evaluate(seeing(), settings, tmp_path, place=threads)
    policy = seeing()
    assert evaluate(policy, settings, tmp_path, place=threads).rows == first.rows
    assert policy.batches == []


class Killing:
    """Makes a policy kill the env's process whose episode it plans for, `times` times."""

    def __init__(self, policy, times):
        self.policy, self.spec, self.times = policy, policy.spec, times

    def plan(self, observations, seeds, imagine):
        if self.times:
            self.times -= 1
            for child in multiprocessing.active_children():
                child.kill()
                child.join()
        return self.policy.plan(observations, seeds, imagine)


def test_an_episode_whose_process_dies_is_played_again_and_counted(seeing, settings, tmp_path):
    results = evaluate(Killing(seeing(), times=1), settings, tmp_path / "killed", workers=1)
    assert [row.retries for row in results.rows] == [1, 0, 0, 0, 0, 0]
    assert outcomes(results) == outcomes(evaluate(seeing(), settings, tmp_path / "whole", workers=1))


def test_a_second_death_in_one_episode_is_a_failure_and_the_run_goes_on(seeing, settings, tmp_path):
    results = evaluate(Killing(seeing(), times=2), settings, tmp_path, workers=1)
    assert multiprocessing.active_children() == []
    assert [(row.ended, row.retries) for row in results.rows] == [("crashed", 1)] + [("success", 0)] * 5
    assert evaluate(seeing(), settings, tmp_path).rows == results.rows


def test_a_mistake_found_in_a_process_reaches_the_user(seeing, settings, tmp_path):
    policy = seeing()
    # It says more than is true, and is found out when it plans.
    policy.spec = replace(policy.spec, chunk=200)
    with pytest.raises(UserError, match="execute is 99, but a plan has only 12 actions"):
        evaluate(policy, replace(settings, execute=99), tmp_path)
    assert multiprocessing.active_children() == []


class Unfit:
    def __init__(self, **facts):
        self.spec = replace(PolicySpec(("top",), 32, 2, chunk=20, execute=16, fps=20.0), **facts)

    def plan(self, observations, seeds, imagine):
        raise AssertionError("nothing may be planned")


@pytest.mark.parametrize(
    ("policy", "changes", "message"),
    [
        (Unfit(views=("top", "wrist")), {}, r"sees the views top, wrist, but .* has no wrist; it has top, close"),
        (Unfit(action_width=7), {}, r"width 7, those of env 'pointmass' width 2"),
        (Unfit(action_layout="joints:2"), {}, r"actions are 'joints:2', of env 'pointmass' 'other:2'"),
        (Unfit(state_layout="position"), {}, r"state is 'position', of env 'pointmass' 'other:2'"),
        (Unfit(fps=10.0), {}, r"acts at 10 control steps a second, env 'pointmass' at 20; train it on"),
        (Unfit(), {"tasks": ("reach-rod",)}, r"did you mean 'reach-red'"),
        (Unfit(), {"tasks": ("reach-red", "reach-red")}, r"each one once"),
        (Unfit(), {"tasks": ()}, r"name at least one"),
        (Unfit(), {"env": "pointmas"}, r"did you mean 'pointmass'"),
        (Unfit(), {"episodes": 0}, r"episodes is 0"),
        (Unfit(), {"execute": 0}, r"execute is 0"),
        (Unfit(), {"execute": 21}, r"execute is 21, but a plan has only 20 actions"),
        (Unfit(), {"executor": "chunky"}, r"no executor 'chunky'; did you mean 'chunked'"),
        (Unfit(), {"latency": -1}, r"latency is -1; it must be from 0"),
        (Unfit(), {"latency": 5}, r"execute is 16 and latency 5, but a plan has only 20 actions"),
        (Unfit(), {"env": "libero", "episodes": 51}, r"^env 'libero' has 50 starts of a task to evaluate from, fewer"),
        (Unfit(), {"execute": 3, "latency": 5}, r"execute is 3, but a plan takes 5 control steps"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(policy, changes, message, tmp_path):
    settings = replace(Settings("pointmass", ("reach-red",)), **changes)
    with pytest.raises(UserError, match=message):
        evaluate(policy, settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_that_was_trained_again_is_another_one(seeing, settings, tmp_path, threads):
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"old")
    settings = replace(settings, policy="checkpoint", target=str(checkpoint))
    evaluate(seeing(), settings, tmp_path / "out", place=threads)
    (checkpoint / "README.md").write_text("what it is", encoding="utf-8")
    moved = checkpoint.rename(tmp_path / "moved")
    evaluate(seeing(), replace(settings, target=str(moved)), tmp_path / "out", place=threads)
    (moved / "model.safetensors").write_bytes(b"new")
    with pytest.raises(UserError, match="checkpoint_sha256 was"):
        evaluate(seeing(), replace(settings, target=str(moved)), tmp_path / "out")


@pytest.mark.parametrize("executor", registry.names("executors"))
@pytest.mark.parametrize("latency", [0, 2])
def test_every_executor_plays_whatever_the_latency_and_the_number_of_workers(
    executor, latency, seeing, settings, tmp_path, threads
):
    policy = seeing(noise=3.0)
    settings = replace(settings, execute=4, executor=executor, latency=latency)
    one, two = (
        timeless(evaluate(policy, settings, tmp_path / str(workers), workers=workers, place=threads).rows)
        for workers in (1, 2)
    )
    assert one == two
    assert {row["ended"] for row in one} <= {"success", "horizon"}
    assert all(row["plans"] == -(-row["steps"] // 4) for row in one)
    written = json.loads((tmp_path / "1" / "settings.json").read_text(encoding="utf-8"))
    assert (written["executor"], written["execute"], written["latency"]) == (executor, 4, latency)


def test_who_is_told_what_is_committed_plans_on_from_there(seeing, settings, tmp_path, threads):
    class Foreseeing(seeing):
        """Heads for the disc from where the committed actions will have led."""

        def _plan(self, observation, seed, imagine):
            planned = np.zeros((0, 2), np.float32) if observation.planned is None else observation.planned
            committed = planned[: observation.committed]
            dot = observation.state
            for action in committed:
                dot = np.clip(dot + np.float32(STRIDE) * action, -1, 1)
            plan = super()._plan(replace(observation, state=dot), seed, imagine)
            return replace(plan, actions=np.concatenate((committed, plan.actions))[: self.length])

    settings = replace(settings, execute=4, latency=3, record=9)
    rows = evaluate(Foreseeing(noise=0.0), settings, tmp_path, place=threads).rows
    assert {row.ended for row in rows} == {"success"}
    facts = [
        json.loads((folder / "plans.json").read_text(encoding="utf-8"))
        for folder in (tmp_path / "recordings").iterdir()
    ]
    longest = max(facts, key=lambda one: one["length"])
    assert longest["length"] >= 8
    first, second = longest["plans"][:2]
    assert (first["step"], second["step"]) == (0, 4)
    # The second plan begins with what was committed, and so what is executed is the one as well as the other.
    assert longest["actions"][:7] == first["actions"][:7]
    assert longest["actions"][4:8] == second["actions"][:4]


def test_a_policy_that_needs_no_view_is_recorded_in_the_envs_own(settings, tmp_path, threads):
    rows = evaluate(make_random("2"), replace(settings, record=1), tmp_path, place=threads).rows
    assert len(rows) == 6 and {row.ended for row in rows} <= {"success", "horizon"}
    executed = {file.name for file in (tmp_path / "recordings" / "reach-red-0").iterdir()}
    assert executed == {"plans.json", *(f"executed_{view}.mp4" for view in VIEWS)}


def test_the_processes_of_a_rollout_need_no_torch():
    code = "import sys, videopolicy.rollout.runner, videopolicy.envs.pointmass; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
