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
from videopolicy.policies.base import PlanRequest, Policy, PolicySpec
from videopolicy.rollout.results import Result
from videopolicy.rollout.transport.base import LostError
from videopolicy.rollout.workers import EpisodeJob, Failure, Setup, work
from videopolicy.types import Observation, Plan

KNOCK_SECONDS = 5.0


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

    def receive(self) -> PlanRequest | Result | Failure:
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
        # Ray must not restart one that dies: the scheduler begins its episode again.
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

    def answer(self, message: EpisodeJob | Plan) -> PlanRequest | Result | Failure:
        self._said.put(message)
        return self._answers.get()


class _Queues:
    """A pair of queues as `videopolicy.rollout.workers.Pipe`."""

    def __init__(self, said: "SimpleQueue[Any]", answers: "SimpleQueue[Any]") -> None:
        self.recv, self.send = said.get, answers.put


def place_policy(build: Callable[[], Policy]) -> Policy:
    """The policy where it runs fastest: one actor on each GPU of the cluster, or this process if it has none.

    Args:
        build: opens the policy; it is called once in each actor, or here.
    """
    gpus = int(_ray().cluster_resources().get("GPU", 0))
    return ReplicatedPolicy(build, gpus) if gpus else build()


class ReplicatedPolicy:
    """A policy of which each GPU holds a copy, and plans its share of every batch; a `Policy` itself.

    Args:
        build: opens the policy; it is called once in each actor.
        gpus: how many GPUs of the cluster to take.

    Raises:
        UserError: what `build` raises.
    """

    def __init__(self, build: Callable[[], Policy], gpus: int) -> None:
        # The envs' CPUs are not for the policy, which waits for its GPU most of the time.
        actor = _ray().remote(num_cpus=0, num_gpus=1)(_PolicyActor)
        self._copies = [actor.remote() for _ in range(gpus)]
        specs: list[PolicySpec] = _answers([copy.open.remote(build) for copy in self._copies])
        self._spec = specs[0]

    @property
    def spec(self) -> PolicySpec:
        """See `Policy.spec`; that of every copy."""
        return self._spec

    def plan(
        self, observations: Sequence[Observation], seeds: Sequence[int], imagine: bool | Sequence[bool]
    ) -> list[Plan]:
        """See `Policy.plan`."""
        wanted = [imagine] * len(seeds) if isinstance(imagine, bool) else list(imagine)
        shares = [share for share in np.array_split(np.arange(len(seeds)), len(self._copies)) if len(share)]
        plans = [
            copy.plan.remote([observations[i] for i in share], [seeds[i] for i in share], [wanted[i] for i in share])
            for copy, share in zip(self._copies, shares, strict=False)
        ]
        return [plan for share in _answers(plans) for plan in share]


class _PolicyActor:
    """The actor. It returns what is the user's to mend: raised, it would come back as Ray's own error."""

    def open(self, build: Callable[[], Policy]) -> PolicySpec | UserError:
        try:
            self._policy = build()
        except UserError as error:
            return error
        return self._policy.spec

    def plan(self, *batch: Any) -> list[Plan] | UserError:
        try:
            return self._policy.plan(*batch)
        except UserError as error:
            return error


def _answers(calls: Sequence[Any]) -> list[Any]:
    answers = _ray().get(calls)
    for answer in answers:
        if isinstance(answer, UserError):
            raise answer
    return answers
