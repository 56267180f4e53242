"""What becomes of an episode whose env breaks, with envs in threads, which start at once."""

from dataclasses import dataclass, replace
from threading import Event, current_thread
from typing import Any

import numpy as np
import pytest

from videopolicy.envs.base import EVALUATION_SEED_OFFSET
from videopolicy.envs.pointmass import PointMass
from videopolicy.errors import UserError
from videopolicy.rollout import scheduler
from videopolicy.rollout.protocols import Protocol, ProtocolTask
from videopolicy.rollout.results import timeless
from videopolicy.rollout.runner import evaluate
from videopolicy.rollout.workers import Setup
from videopolicy.types import Observation


class Breaking(PointMass):
    """Does something in step 3 of the episodes for which it is asked to."""

    def __init__(self, task, views, size, broken):
        super().__init__(task, views, size)
        self._how, self._when, self._hang, self._seed = broken.how, broken.when, broken.hang, None

    def reset(self, *, seed=None, options=None):
        self._seed = seed
        return super().reset(seed=seed)

    @property
    def broken(self):
        return self._steps >= 3 and self._when(self.task, self._seed - EVALUATION_SEED_OFFSET)

    def step(self, action):
        state, *rest = super().step(action)
        if self._how == "raise" and self.broken:
            raise RuntimeError("the solver has lost its way")
        if self._how == "hang" and self.broken:
            self._hang()
        return (state * np.nan if self._how == "state" and self.broken else state), *rest

    def observe(self):
        seen = super().observe()
        if self._how == "image" and self.broken:
            images = {view: image.astype(np.float32) * np.nan for view, image in seen.images.items()}
            return Observation(images, seen.instruction, seen.state)
        return seen


@dataclass(frozen=True)
class BreakingSetup(Setup):
    broken: Any

    def open_env(self, task):
        return Breaking(task, self.views, self.size, self.broken)


@pytest.fixture
def broken(threads, monkeypatch):
    """Makes sites whose envs break: how, and when(task, episode). Time stands still until nothing but it can go on."""
    now, hanging, released = 0.0, set(), Event()

    class Site(threads):
        def __init__(self, setup, workers):
            super().__init__(BreakingSetup(**vars(setup), broken=self), workers)

        def hang(self):
            hanging.add(current_thread())
            released.wait()

        def ready(self, links, seconds):
            nonlocal now
            ready = super().ready(links, min(seconds, 0.005))
            if not ready and all(link.thread in hanging for link in links):
                now += seconds
            return ready

    monkeypatch.setattr(scheduler, "monotonic", lambda: now)
    yield lambda how, when: type("Broken", (Site,), {"how": how, "when": staticmethod(when)})
    released.set()


def only(task, episode):
    return lambda its, number: (its, number) == (task, episode)


def once(task, episode):
    """As `only`, but the second attempt goes well."""
    seen = []

    def when(its, number):
        if (its, number) == (task, episode) and len(seen) < 1:
            seen.append(number)
            return True
        return False

    return when


def endings(results):
    return {(row.task, row.episode): row.ended for row in results.rows}


@pytest.mark.parametrize(("how", "ended"), [("raise", "crashed"), ("hang", "timed out")])
def test_an_episode_that_dies_twice_is_a_failure_that_says_so_and_the_others_go_on(
    how, ended, broken, seeing, settings, tmp_path, capsys
):
    site = broken(how, only("reach-red", 0))
    results = evaluate(seeing(), settings, tmp_path, place=site)
    assert endings(results).pop(("reach-red", 0)) == ended
    (dead,) = [row for row in results.rows if row.ended == ended]
    assert (dead.success, dead.retries, dead.plans) == (False, 1, 1)
    assert sorted(endings(results).values()) == sorted([ended] + ["success"] * 5)
    said = capsys.readouterr().err
    assert f"episode 0 of reach-red {ended}; it begins again" in said
    assert f"episode 0 of reach-red {ended}; it counts as a failure" in said
    assert ("the solver has lost its way" in said) == (how == "raise")


@pytest.mark.parametrize("how", ["raise", "hang"])
def test_the_second_attempt_of_an_episode_is_as_if_there_had_been_no_first(
    how, broken, threads, seeing, settings, tmp_path
):
    whole = timeless(evaluate(seeing(), settings, tmp_path / "whole", place=threads).rows)
    site = broken(how, once("reach-blue", 1))
    again = timeless(evaluate(seeing(), settings, tmp_path / "again", place=site).rows)
    assert [row["retries"] for row in again] == [0, 1, 0, 0, 0, 0]
    assert [row | {"retries": 0} for row in again] == whole


@pytest.mark.parametrize("how", ["state", "image"])
def test_an_env_without_numbers_ends_the_episode_as_a_failure(how, broken, seeing, settings, tmp_path):
    site = broken(how, only("reach-red", 1))
    results = evaluate(seeing(), replace(settings, execute=4, record=9), tmp_path, place=site)
    assert endings(results).pop(("reach-red", 1)) == "nan from the env"
    assert sorted(endings(results).values()) == ["nan from the env"] + ["success"] * 5
    recorded = {folder.name for folder in (tmp_path / "recordings").iterdir()}
    assert len(recorded) == 5 and "reach-red-1" not in recorded


def test_a_policy_without_numbers_ends_the_episode_as_a_failure(threads, seeing, settings, tmp_path):
    class Diverging(seeing):
        def _plan(self, observation, seed, imagine):
            plan = super()._plan(observation, seed, imagine)
            return replace(plan, actions=plan.actions * (np.nan if "red" in observation.instruction else 1))

    results = evaluate(Diverging(), replace(settings, record=1), tmp_path, place=threads)
    ended = [(row.task, row.ended, row.steps) for row in results.rows if not row.success]
    assert ended == [("reach-red", "nan from the policy", 0)] * 3
    assert {row.ended for row in results.rows if row.success} == {"success"}


def test_where_every_episode_dies_the_run_stops_and_keeps_none_of_them(broken, seeing, settings, tmp_path):
    site = broken("raise", lambda task, episode: True)
    with pytest.raises(UserError, match=r"every episode so far died twice; .*: RuntimeError: the solver has lost") as e:
        evaluate(seeing(), settings, tmp_path, place=site)
    assert len(str(e.value).splitlines()) == 1
    assert not (tmp_path / "results.jsonl").exists()


def test_fewer_episodes_than_that_stop_it_too(broken, seeing, settings, tmp_path):
    site = broken("raise", lambda task, episode: True)
    with pytest.raises(UserError, match="every episode so far died twice"):
        evaluate(seeing(), replace(settings, tasks=("reach-red",), episodes=1), tmp_path, place=site)


def test_a_resumed_run_whose_last_episode_dies_ends(broken, threads, seeing, settings, tmp_path):
    evaluate(seeing(), settings, tmp_path, place=threads)
    site = broken("raise", lambda task, episode: episode > 2)
    results = evaluate(seeing(), replace(settings, episodes=4), tmp_path, place=site)
    assert sorted(row.ended for row in results.rows) == ["crashed"] * 2 + ["success"] * 6


def with_horizon(settings, steps):
    tasks = tuple(ProtocolTask(task, horizon=steps) for task in settings.tasks)
    return replace(settings, protocol=Protocol("short", "Short", "pointmass", tasks, 3, None, None, None, "0"))


@pytest.mark.parametrize("steps", [4, 60])
def test_the_protocols_horizon_holds_whatever_the_envs_own(steps, threads, seeing, settings, tmp_path):
    class Lost(seeing):
        def _plan(self, observation, seed, imagine):
            plan = super()._plan(observation, seed, imagine)
            return replace(plan, actions=plan.actions * 0)

    results = evaluate(Lost(), with_horizon(settings, steps), tmp_path, place=threads)
    assert {(row.steps, row.success, row.ended) for row in results.rows} == {(steps, False, "horizon")}


def test_another_protocol_is_another_evaluation(threads, seeing, settings, tmp_path):
    settings = with_horizon(settings, 4)
    evaluate(seeing(), settings, tmp_path, place=threads)
    with pytest.raises(UserError, match="protocol_sha256 was 0, now 1"):
        evaluate(seeing(), replace(settings, protocol=replace(settings.protocol, sha256="1")), tmp_path, place=threads)
