"""What an evaluation measures, as it is asked for and as `settings.json` keeps it."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from videopolicy.configs import limited
from videopolicy.rollout.protocols import MOST_EPISODES, Protocol

MOST_SEED = 2**63 - 1


@dataclass(frozen=True)
class Evaluated:
    """What is measured; with other values it is another evaluation.

    Attributes:
        env: the env's plug-in ("metaworld").
        tasks: the tasks to play, by the env's names.
        episodes: episodes of each task; episode i begins in the state of seed EVALUATION_SEED_OFFSET + i, or of the
            protocol's seed i, if it lists them.
        execute: how many actions of each plan are executed before the next is asked for.
        executor: the executor's plug-in ("chunked").
        latency: simulated control steps from a request for a plan to its arrival.
        seed: seeds the plans' noise, not the envs.
        record: the first so many episodes of each task are recorded, and every failure; 0 records nothing.
        policy: the policy's plug-in, for the record; "" if it came from elsewhere.
        target: what its `make` was given, likewise: the folder of a checkpoint.
    """

    env: str
    tasks: tuple[str, ...]
    episodes: int = limited(20, 1, MOST_EPISODES)
    execute: int = limited(16, 1, MOST_EPISODES)
    executor: str = "chunked"
    latency: int = limited(0, 0, MOST_EPISODES)
    seed: int = limited(0, 0, MOST_SEED)
    record: int = limited(6, 0, MOST_EPISODES)
    policy: str = ""
    target: str = ""

    @property
    def checkpoint(self) -> Path | None:
        """The folder of the policy, if it came from one."""
        return Path(self.target) if self.policy == "checkpoint" else None


@dataclass(frozen=True)
class Settings(Evaluated):
    """What an evaluation is asked to measure.

    Attributes:
        protocol: the benchmark that all this comes from, if any; its horizons and seeds hold.
    """

    protocol: Protocol | None = None


@dataclass(frozen=True)
class Recorded(Evaluated):
    """What `settings.json` holds: protocol and checkpoint by their contents, as both can change under their names.

    Attributes:
        protocol: the protocol's name, if any.
        protocol_sha256: of its file.
        checkpoint_sha256: of the files of the policy's folder, if it came from one.
        sampling: how the policy samples, under the names of `evaluate`'s options.
        renderer: what rendered the envs' images on the machine that it was begun on, "" if the env does that itself.
        identity: what else tells the policy from another of the same name (see `PolicySpec`).
    """

    protocol: str | None = None
    protocol_sha256: str | None = None
    checkpoint_sha256: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)
    renderer: str = ""
    identity: Mapping[str, str] = field(default_factory=dict)

    def facts(self) -> dict[str, Any]:
        """Everything by name, the options of sampling and what else tells the policy beside the rest."""
        values = asdict(self)
        sampling, identity = values.pop("sampling"), values.pop("identity")
        return {**values, **sampling, **identity}
