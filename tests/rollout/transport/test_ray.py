"""On a Ray cluster of this one machine; skipped where Ray is not installed."""

import socket
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from tests.small import observation

from videopolicy.errors import UserError
from videopolicy.rollout.results import timeless
from videopolicy.rollout.runner import evaluate
from videopolicy.rollout.transport import ray as transport

pytestmark = pytest.mark.slow

ray = pytest.importorskip("ray")


def test_an_address_where_nobody_answers_is_one_line():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{nobody.getsockname()[1]}"
        with pytest.raises(UserError, match=f"--ray {address}: .*refused") as error, transport.cluster(address, 1):
            pass
    assert len(str(error.value).splitlines()) == 1


def test_results_and_recordings_are_those_of_one_machine(seeing, settings, threads, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = replace(settings, record=1)
    with transport.cluster("local", 2):
        planner = transport.planner(partial(seeing, noise=3.0))
        # From a relative path, which an actor elsewhere would take for its own.
        evaluate(planner, settings, tmp_path.relative_to(tmp_path) / "there", place=transport.RaySite)
    there = evaluate(planner, settings, tmp_path / "there", place=threads)
    assert planner.batches, "no GPU, and yet planned elsewhere"
    here = evaluate(seeing(noise=3.0), settings, tmp_path / "here", place=threads)
    assert timeless(there.rows) == timeless(here.rows)
    recorded = [{folder.name for folder in (tmp_path / where / "recordings").iterdir()} for where in ("here", "there")]
    assert recorded[0] == recorded[1] >= {"reach-red-0", "reach-blue-0"}


@pytest.fixture(scope="module")
def two_gpus():
    """A cluster that believes it has two GPUs."""
    ray.init(address="local", num_cpus=2, num_gpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


def test_each_gpu_has_a_policy_that_plans_its_share_in_order(two_gpus, seeing):
    planner = transport.planner(seeing.opened)
    assert isinstance(planner, transport.ReplicatedPolicy)
    assert (planner.views, planner.size, planner.execute) == (("top", "close"), 32, 5)
    seen, seeds, wanted = [observation(seed) for seed in range(3)], [5, 6, 7], [True, False, False]
    there, here = planner.plan(seen, seeds, wanted), seeing().plan(seen, seeds, wanted)
    np.testing.assert_array_equal([plan.actions for plan in there], [plan.actions for plan in here])
    assert [plan.imagined is None for plan in there] == [False, True, True]
    assert len(planner.plan(seen[:1], seeds[:1], False)) == 1


def test_an_actor_that_dies_costs_its_episode_one_retry(two_gpus, seeing, settings, tmp_path):
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

    results = evaluate(Killing(), replace(settings, tasks=("reach-red",)), tmp_path, workers=1, place=Remembering)
    assert [(row.retries, row.ended) for row in results.rows] == [(1, "success"), (0, "success"), (0, "success")]
    assert len(opened) == 2
