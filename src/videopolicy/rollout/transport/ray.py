"""Envs' processes, and policies on GPUs, on the machines of a Ray cluster.

The cluster's machines have this package installed, at this version, and the folder of the results in common. Ray
carries objects between them as pickles, as it does all its own: use a cluster only of machines that you trust.
"""

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from queue import SimpleQueue
from threading import Thread
from typing import Any

import numpy as np

from videopolicy.errors import UserError
from videopolicy.policies.base import Planner
from videopolicy.rollout.results import Result
from videopolicy.rollout.transport.base import LostError
from videopolicy.rollout.workers import EpisodeJob, Failure, Request, Setup, work
from videopolicy.types import Observation, Plan

KNOCK_SECONDS = 5.0
# What is known of a policy before it plans.
FACTS = ("views", "size", "action_width", "action_layout", "state_layout", "tasks", "execute", "sampling")


@contextmanager
def cluster(address: str, workers: int) -> Iterator[None]:
    """Within the block, this process is connected to a cluster.

    Args:
        address: of a cluster, as `ray start` prints it; or "local", which starts one here and ends it afterwards.
        workers: how many envs it must have a CPU for.

    Raises:
        UserError: Ray is not installed, nobody answers, or the cluster is too small.
    """
    if not find_spec("ray"):
        raise UserError("--ray needs the extra: pip install 'videopolicy[ray]'")
    ray = _ray()
    # A CPU more or less is no matter here, where nobody else shares them; on a cluster it is Ray that counts them.
    own = {"num_cpus": workers, "include_dashboard": False} if address == "local" else {}
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", **own)
    except (OSError, ValueError) as error:
        reason = (str(error).splitlines() or ["no answer"])[0]
        raise UserError(f"--ray {address}: {reason}; give `local`, or the address that `ray start` prints") from error
    try:
        cpus = int(ray.cluster_resources().get("CPU", 0))
        if workers > cpus:
            raise UserError(f"--ray {address}: the cluster has {cpus} CPUs, one an env; give --workers {cpus} at most")
        yield
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    # Where nobody answers, Ray itself would go on trying for minutes.
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host, int(port)), KNOCK_SECONDS).close()


def _ray() -> Any:
    # Most who evaluate have no cluster, and need not have it installed.
    return import_module("ray")


class RayLink:
    """An actor that plays in one env; see `videopolicy.rollout.transport.base.Link`."""

    def __init__(self, actor: Any) -> None:
        self.actor = actor
        self.answer: Any = None

    def send(self, message: EpisodeJob | Plan) -> None:
        """See `Link.send`."""
        self.answer = self.actor.answer.remote(message)

    def receive(self) -> Request | Result | Failure:
        """See `Link.receive`."""
        ray = _ray()
        try:
            return ray.get(self.answer)
        except ray.exceptions.RayError as error:
            raise LostError(str(error)) from error


class RaySite:
    """One actor an env, each on a CPU of the cluster; see `videopolicy.rollout.transport.base.Site`."""

    def __init__(self, setup: Setup, workers: int) -> None:
        self._setup = setup
        # One that dies is not begun again behind our back.
        self._actor = _ray().remote(num_cpus=1, max_restarts=0)(_WorkerActor)

    def open(self) -> RayLink:
        """See `Site.open`."""
        return RayLink(self._actor.remote(self._setup))

    def ready(self, links: Sequence[RayLink], seconds: float) -> list[RayLink]:
        """See `Site.ready`."""
        ray, answers = _ray(), [link.answer for link in links]
        ready, _ = ray.wait(answers, num_returns=1, timeout=seconds)
        if ready:
            ready, _ = ray.wait(answers, num_returns=len(answers), timeout=0)
        return [link for link in links if link.answer in ready]

    def close(self, links: Sequence[RayLink]) -> None:
        """See `Site.close`."""
        for link in links:
            _ray().kill(link.actor)


class _WorkerActor:
    """The actor: the same work as in a process of this machine, in a thread that keeps the env for itself."""

    def __init__(self, setup: Setup) -> None:
        self._said, self._answers = SimpleQueue[Any](), SimpleQueue[Any]()
        Thread(target=work, args=(_Queues(self._said, self._answers), setup), daemon=True).start()

    def answer(self, message: EpisodeJob | Plan) -> Request | Result | Failure:
        self._said.put(message)
        return self._answers.get()


class _Queues:
    """A pair of queues as `videopolicy.rollout.workers.Pipe`."""

    def __init__(self, said: "SimpleQueue[Any]", answers: "SimpleQueue[Any]") -> None:
        self.recv, self.send = said.get, answers.put


def planner(build: Callable[[], Any]) -> Any:
    """The policy where it runs fastest: one actor on each GPU of the cluster, or this process if it has none.

    Args:
        build: opens the policy; it is called once in each actor, or here.
    """
    gpus = int(_ray().cluster_resources().get("GPU", 0))
    return ReplicatedPolicy(build, gpus) if gpus else build()


class ReplicatedPolicy:
    """A policy of which each GPU holds a copy, and plans its share of every batch; a `Planner`."""

    views: tuple[str, ...]
    size: int
    action_width: int
    action_layout: str
    state_layout: str
    tasks: tuple[str, ...]
    execute: int
    sampling: Any

    def __init__(self, build: Callable[[], Planner], gpus: int) -> None:
        ray = _ray()
        # The envs' CPUs are not for the policy, which waits for its GPU most of the time.
        actor = ray.remote(num_cpus=0, num_gpus=1)(_Copy)
        self._copies = [actor.remote(build) for _ in range(gpus)]
        vars(self).update(ray.get(self._copies[0].facts.remote()))

    def plan(
        self, observations: Sequence[Observation], seeds: Sequence[int], imagine: bool | Sequence[bool]
    ) -> list[Plan]:
        """See `Planner.plan`."""
        wanted = [imagine] * len(seeds) if isinstance(imagine, bool) else list(imagine)
        shares = [share for share in np.array_split(np.arange(len(seeds)), len(self._copies)) if len(share)]
        plans = [
            copy.plan.remote([observations[i] for i in share], [seeds[i] for i in share], [wanted[i] for i in share])
            for copy, share in zip(self._copies, shares, strict=False)
        ]
        return [plan for share in _ray().get(plans) for plan in share]


class _Copy:
    def __init__(self, build: Callable[[], Any]) -> None:
        self._planner = build()

    def facts(self) -> dict[str, Any]:
        return {name: getattr(self._planner, name) for name in FACTS}

    def plan(self, *batch: Any) -> list[Plan]:
        return self._planner.plan(*batch)
