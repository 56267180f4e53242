"""On a Ray cluster of this one machine, with GPUs that it only pretends to have; skipped where Ray is not installed."""

import socket
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from tests.small import observation, small_model

from videopolicy import checkpoint
from videopolicy.cli.main import main
from videopolicy.errors import UserError
from videopolicy.rollout.results import read_evaluation, timeless
from videopolicy.rollout.runner import evaluate
from videopolicy.rollout.transport import ray as transport

try:
    import ray
except ImportError:
    ray = None

pytestmark = [pytest.mark.slow, pytest.mark.ray]

PATIENCE = 60


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch):
    """Every process that a test has started, or that those have started, ends with it; gives what marks them."""
    mark = f"VIDEOPOLICY_TEST={uuid4()}"
    monkeypatch.setenv(*mark.split("="))
    yield mark
    ray.shutdown()
    tries = 0
    while (left := marked(mark)) and tries < 10 * PATIENCE:
        tries += 1
        time.sleep(0.1)
    assert not left


def marked(mark):
    """The processes that have inherited this from the environment, and their command lines."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if mark.encode() in (process / "environ").read_bytes() and "resource_tracker" not in command:
                found[process.name] = command
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


@pytest.fixture
def pretend(monkeypatch):
    """Makes clusters that are started here believe that they have so many GPUs."""

    def pretend(gpus):
        monkeypatch.setattr(ray, "init", partial(ray.init, num_gpus=gpus))

    return pretend


def test_an_address_where_nobody_answers_is_one_line():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(UserError, match=f"--ray {address}: .*refused") as error, transport.cluster(address, 1):
            pass
    assert len(str(error.value).splitlines()) == 1


def test_results_and_recordings_are_those_of_one_machine(seeing, settings, threads, pretend, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = replace(settings, record=1)
    pretend(0)
    with transport.cluster("local", 2):
        policy = transport.place_policy(partial(seeing, noise=3.0))
        # From a relative path, which an actor elsewhere would take for its own.
        evaluate(policy, settings, tmp_path.relative_to(tmp_path) / "there", place=transport.RaySite)
    there = evaluate(policy, settings, tmp_path / "there", place=threads)
    assert policy.batches, "no GPU, and yet planned elsewhere"
    here = evaluate(seeing(noise=3.0), settings, tmp_path / "here", place=threads)
    assert timeless(there.rows) == timeless(here.rows)
    recorded = [{folder.name for folder in (tmp_path / where / "recordings").iterdir()} for where in ("here", "there")]
    assert recorded[0] == recorded[1] >= {"reach-red-0", "reach-blue-0"}


def test_the_command_gives_the_same_with_a_policy_on_a_gpu_of_the_cluster(pretend, tmp_path, monkeypatch, capsys):
    folder, placed, place = tmp_path / "checkpoint", [], transport.place_policy
    checkpoint.save(small_model(), checkpoint.Provenance("joint", 1, ("reach-red",)), folder)
    monkeypatch.setattr(transport, "place_policy", lambda build: placed.append(place(build)) or placed[-1])
    pretend(1)
    command = ["evaluate", "--checkpoint", str(folder), "--env", "pointmass", "--task", "reach-red", "reach-blue"]
    command += ["--episodes", "2", "--steps", "1", "--latency", "1", "--record", "0"]
    outputs = []
    for where, more in (("there", ["--ray", "local"]), ("here", [])):
        main([*command, "--out", str(tmp_path / where), *more])
        outputs.append(capsys.readouterr().out)
    assert outputs[0] == outputs[1] and "the policy was trained on reach-red" in outputs[0]
    assert [type(one) for one in placed] == [transport.ReplicatedPolicy]
    there, here = (read_evaluation(tmp_path / where) for where in ("there", "here"))
    assert there[0] == here[0] and there[0].sampling["sampler"] == "euler"
    assert timeless(there[1]) == timeless(here[1]) and len(here[1]) == 4


def test_each_gpu_has_a_policy_that_plans_its_share_in_order(pretend, seeing, nothing_is_left):
    class Picky(seeing):
        def plan(self, observations, seeds, imagine):
            if 0 in seeds:
                raise UserError("0 is no seed")
            return super().plan(observations, seeds, imagine)

    def refuse():
        raise UserError("there is no such policy")

    pretend(2)
    with transport.cluster("local", 1):
        with pytest.raises(UserError, match=r"^there is no such policy$"):
            transport.place_policy(refuse)
        replicated = transport.place_policy(Picky)
        assert isinstance(replicated, transport.ReplicatedPolicy)
        assert len(marked(nothing_is_left)) > 2
        assert replicated.spec == seeing().spec
        seen, seeds, wanted = [observation(seed) for seed in range(3)], [5, 6, 7], [True, False, False]
        there, here = replicated.plan(seen, seeds, wanted), seeing().plan(seen, seeds, wanted)
        np.testing.assert_array_equal([plan.actions for plan in there], [plan.actions for plan in here])
        assert [plan.imagined is None for plan in there] == [False, True, True]
        assert len(replicated.plan(seen[:1], seeds[:1], False)) == 1
        with pytest.raises(UserError, match=r"^0 is no seed$"):
            replicated.plan(seen, [1, 2, 0], False)


def test_an_actor_that_dies_costs_its_episode_one_retry(pretend, seeing, settings, tmp_path):
    opened = []

    class Remembering(transport.RaySite):
        def open(self):
            opened.append(super().open())
            return opened[-1]

    class Killing(seeing):
        def plan(self, *batch):
            if len(opened) == 1:
                ray.kill(opened[0].actor)
            return super().plan(*batch)

    settings = replace(settings, tasks=("reach-red",))
    pretend(0)
    with transport.cluster("local", 2):
        results = evaluate(Killing(), settings, tmp_path, workers=1, place=Remembering)
    assert [(row.retries, row.ended) for row in results.rows] == [(1, "success"), (0, "success"), (0, "success")]
    assert len(opened) == 2
