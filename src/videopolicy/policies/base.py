"""What the rest of the project asks of a policy: observations in, plans out."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from videopolicy.clips.statistics import FrameStatistics
from videopolicy.types import Observation, Plan

# Of a network's weights in memory.
Precision = Literal["float32", "bfloat16", "float16"]


@dataclass(frozen=True)
class PolicySpec:
    """What must be known of a policy before it plans; plain values, so that any process can be told.

    Attributes:
        views: the views that an observation must hold; () if it needs none.
        size: height and width of their images, in pixels.
        action_width: D, the width of an action.
        chunk: A, the actions of a plan.
        execute: how many actions of a plan to execute before asking again, unless told otherwise.
        action_layout: what an action's dimensions mean (see `videopolicy.actions.layout`), "" if unspecified.
        state_layout: what the dimensions of the state in an observation must mean, "" if it is not used.
        fps: control steps a second that its actions are meant for, None if unspecified.
        tasks: what it was trained on, by the env's names; () if unspecified.
        sampling: how it draws plans, by names of its own; an evaluation's settings record it.
        notes: what a user should be warned of, one line each.
        frames: view -> what the frames that it learnt from look like, so that an env's can be compared with them; {}
            if unspecified.
        identity: what else tells it from another policy of the same name, such as the contents of what a server
            serves; an evaluation's settings record it, too, and goes on with nothing else.
    """

    views: tuple[str, ...]
    size: int
    action_width: int
    chunk: int
    execute: int
    action_layout: str = ""
    state_layout: str = ""
    fps: float | None = None
    tasks: tuple[str, ...] = ()
    sampling: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    frames: Mapping[str, FrameStatistics] = field(default_factory=dict)
    identity: Mapping[str, str] = field(default_factory=dict)


class Policy(Protocol):
    """Batched and stateless, so that one policy serves many episodes at once.

    A plug-in of `videopolicy.policies` defines `make(target: str, **options) -> Policy`, where the target is what
    stands behind the colon of `--policy NAME:TARGET`, and the options are keywords of its own.
    """

    @property
    def spec(self) -> PolicySpec:
        """What must be known of it before it plans; the same at all times."""
        ...

    def plan(
        self, observations: Sequence[Observation], seeds: Sequence[int], imagine: bool | Sequence[bool]
    ) -> list[Plan]:
        """One plan per observation, in order.

        Args:
            observations: what is seen now, of independent episodes.
            seeds: the seed of each plan's noise; a plan depends on its own observation and seed alone.
            imagine: whether to return the imagined video, for all or for each.
        """
        ...


@dataclass(frozen=True)
class PlanRequest:
    """Asks for one plan.

    Attributes:
        observation: what is seen now.
        seed: of the plan's noise.
        imagine: whether the imagined video is wanted too.
    """

    observation: Observation
    seed: int
    imagine: bool


def derive_seed(*names: int | str) -> int:
    """A seed in [0, 2^63) that depends on these names alone, not on the process or the order of the calls."""
    digest = hashlib.sha256("\0".join(str(name) for name in names).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
