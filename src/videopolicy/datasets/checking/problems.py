"""What can be wrong with a data set, and what to do about it."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from videopolicy.datasets.notes import Note


@dataclass(frozen=True)
class ProblemKind:
    """A kind of problem.

    Attributes:
        name: what is wrong, in a few words.
        severity: "error" if training would fail or learn what is wrong, "warning" if a person should look.
        remedy: what to do; {data}, {fps} and {size} stand for the data set's path, its usual rate and smallest side.
    """

    name: str
    severity: Literal["error", "warning"]
    remedy: str


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Attributes:
        kind: what sort of thing.
        detail: where exactly, in words.
        episodes: their numbers on disk; () if it concerns the set as a whole.
    """

    kind: ProblemKind
    detail: str
    episodes: tuple[int, ...] = ()


# Control steps of the longest clip of the presets: the current one, and 32 more.
WINDOW = 33

_LEFT_OUT = (
    "mend these episodes, or go on without them: convert and train leave them out; with --strict, they stop instead"
)
UNREADABLE = ProblemKind("cannot be read", "error", _LEFT_OUT)
LOST = ProblemKind(
    "parts of the data set cannot be read",
    "error",
    "do what each line says, or go on without these parts, as convert and train do; with --strict, they stop instead",
)
VIDEO_ONLY = ProblemKind(
    "no actions, where others have some",
    "error",
    "store the actions, or go on without them: train learns from the video alone; convert leaves these episodes out, "
    "as a data set has actions throughout or not at all",
)
MENDED = ProblemKind(
    "read otherwise than the files say",
    "warning",
    "nothing need be done to use the data as it is read; videopolicy check {data} --repair DST writes a data set whose "
    "files say the same",
)
ASSUMED = ProblemKind(
    "assumed, as the files do not say it", "warning", "look whether it is so; each line says how to change it"
)
NOT_FINITE = ProblemKind("actions or states that are not numbers", "error", _LEFT_OUT)
COUNTS = ProblemKind("frames, actions and states differ in number", "error", _LEFT_OUT)
RATES = ProblemKind("different frame rates", "error", "bring them to one: videopolicy convert {data} DST --fps {fps}")
SIZES = ProblemKind(
    "different image sizes in one view", "error", "bring them to one: videopolicy convert {data} DST --size {size}"
)
LAYOUT = ProblemKind("the action layout is not that of the actions", "error", "name every dimension of the action once")
TIME = ProblemKind(
    "time stamps that jump", "warning", "frames were lost or written late; look whether the motion jumps, too"
)
DARK = ProblemKind("dark frames", "warning", "look at the camera's recording; remove the episodes if it saw nothing")
FROZEN = ProblemKind("frozen frames", "warning", "look whether the camera hung; remove the episodes if it did")
TWINS = ProblemKind(
    "two views show the same", "warning", "leave one out with --views, or look which camera was connected twice"
)
UNDECLARED = ProblemKind("the declared range cannot be read", "warning", "write the data set anew: videopolicy convert")
RANGE = ProblemKind("actions outside the declared range", "warning", "mend what is declared, or remove outliers")
OUTLIERS = ProblemKind(
    "values far outside the usual range",
    "warning",
    "remove these episodes if the values are wrong; actions are scaled by their smallest and largest value, or with "
    "train --normalize quantile by their 1 % and 99 % quantiles",
)
GRIPPER = ProblemKind(
    "gripper starts closed", "warning", "if the hand was empty at first, its two ends are swapped in the action layout"
)
STILL = ProblemKind("actions never change", "warning", "remove the episodes, or leave out their actions")
COPIES = ProblemKind(
    "recorded twice", "warning", "remove the copies, or they weigh double and leak into what is held out"
)
SHORT = ProblemKind(
    f"fewer than {WINDOW} steps",
    "warning",
    "record longer episodes; these are left out of training with the presets' windows",
)
UNSAID = ProblemKind("no instruction", "warning", "say what is done in these episodes, as the policy is told in words")


def noted(notes: Iterable[Note]) -> list[Problem]:
    """What a reader left out, mended or assumed."""
    lost = [note for note in notes if note.kind == "left out"]
    others: dict[str, ProblemKind] = {"video only": VIDEO_ONLY, "mended": MENDED, "assumed": ASSUMED}
    return [
        *(Problem(UNREADABLE if note.episodes else LOST, note.text, note.episodes) for note in lost),
        *(Problem(others[note.kind], note.text, note.episodes) for note in notes if note.kind in others),
    ]


def grouped(problems: Iterable[Problem]) -> dict[ProblemKind, list[Problem]]:
    """The problems by kind, errors first, each kind in the order of episodes."""
    groups: dict[ProblemKind, list[Problem]] = {}
    for problem in sorted(problems, key=lambda p: (p.kind.severity, p.episodes[:1])):
        groups.setdefault(problem.kind, []).append(problem)
    return groups
