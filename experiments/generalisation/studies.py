"""The questions: what is recorded, whose actions are known, and what is played."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import halves
from results import CLIPS

from videopolicy.datasets.base import Dataset
from videopolicy.rollout.protocols import load

HERE = Path(__file__).parent
LIBERO = HERE.parent / "libero_object"
MT10 = tuple(task.name for task in load("mt10").tasks)
LOOKED_AT = ("button-press-topdown-v3", "drawer-close-v3", "window-open-v3")
HELD_OUT = "window-close-v3"
SHOWN = ("alphabet_soup", "cream_cheese", "salad_dressing", "ketchup", "milk", "chocolate_pudding")


@dataclass(frozen=True)
class Study:
    """One question.

    Attributes:
        protocol: what is played, by name or as a file.
        tasks: what is recorded, 50 demonstrations each.
        conditions: name -> which demonstrations keep their actions, as settings of a list of data sets.
        data: the folder that the demonstrations are recorded in, which studies may share.
        minutes: of training on one core, of everything that a policy is made of.
        clips: whether every policy sees as many clips as cloning does in these minutes, however long it takes for them.
        scarce: whether few demonstrations have actions, or none of what is played: a policy of video then learns its
            video first, of all.
        env: where.
        views: that are recorded.
        ways: name -> how it acts, as options of `videopolicy evaluate`; "" is the policy's own way.
    """

    protocol: str
    tasks: tuple[str, ...]
    conditions: Mapping[str, Callable[[Dataset], dict[str, Any]]]
    data: str
    minutes: float
    clips: bool = False
    scarce: bool = False
    env: str = "metaworld"
    views: tuple[str, ...] = ("corner2",)
    ways: Mapping[str, tuple[object, ...]] = field(default_factory=lambda: {"": ()})


def first(count: int) -> Callable[[Dataset], dict[str, Any]]:
    """The first so many demonstrations keep their actions."""
    return lambda data: {"actions_of": list(range(count))}


def every(data: Dataset) -> dict[str, Any]:
    """All of them do."""
    return {}


STUDIES = {
    "many_tasks": Study("mt10", MT10, {"all": every}, data="mt10", minutes=16),
    "few_actions": Study(
        str(HERE / "few_actions.toml"),
        (halves.TASK,),
        {f"{count:02}": first(count) for count in (1, 2, 5, 10)},
        data=halves.TASK,
        minutes=6,
        scarce=True,
    ),
    "half_space": Study(
        str(HERE / "half_space.toml"),
        (halves.TASK,),
        {"left": lambda data: {"actions_of": halves.left(data)}},
        data=halves.TASK,
        minutes=6,
        scarce=True,
    ),
    "held_out_task": Study(
        str(HERE / "held_out_task.toml"),
        MT10,
        {"nine": lambda data: {"actions_for": [task for task in MT10 if task != HELD_OUT]}},
        data="mt10",
        minutes=10,
        scarce=True,
        # One step hardly imagines; does a video that is drawn to its end show better what to do?
        ways={"": (), "ten_steps": ("--sampler", "euler", "--steps", 10)},
    ),
    # Does what reads the actions know a scene again that looks otherwise?
    "unseen_look": Study(str(HERE / "unseen_look.toml"), LOOKED_AT, {"all": every}, data="three_tasks", minutes=6),
    # Does decoupling pay when acting in one pass of the video model?
    "decoupling": Study(
        str(HERE / "five_tasks.toml"),
        MT10,
        {"all": every},
        data="mt10",
        minutes=10,
        ways={
            "one_pass": ("--sampler", "one_pass", "--steps", 10),
            "ten_passes": ("--sampler", "euler", "--steps", 10),
        },
    ),
    "libero_object": Study(
        str(LIBERO / "two_tasks.toml"),
        tuple(task.name for task in load(str(LIBERO / "two_tasks.toml")).tasks),
        {"all": every},
        data="libero_object",
        minutes=16,
        env="libero",
        views=("agentview", "eye_in_hand"),
    ),
    # Are objects carried that no demonstration shows?
    "unseen_objects": Study(
        "unseen_objects",
        tuple(f"pick_up_the_{name}_and_place_it_in_the_basket" for name in SHOWN),
        {"all": every},
        data="libero_six",
        minutes=16,
        env="libero",
        views=("agentview", "eye_in_hand"),
    ),
}
# Every question again, at equal clips in the place of equal time.
STUDIES |= {f"{name}{CLIPS}": replace(study, clips=True) for name, study in STUDIES.items()}
