"""Which of a data set's features are its views, its actions and its states, and what is left of them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from videopolicy.datasets.lerobot import spec
from videopolicy.datasets.lerobot.info import Feature, Info
from videopolicy.datasets.notes import Note
from videopolicy.datasets.reading import Reading
from videopolicy.errors import UserError, unknown

# What others call the actions and the state.
ACTIONS, STATES = (spec.ACTION, "actions"), (spec.STATE, "state")
_NUMBERS = ("float", "int", "uint", "bool")


@dataclass(frozen=True)
class Columns:
    """What is read of a data set's features.

    Attributes:
        views: view -> feature.
        action: columns that make up an action, in order; none for video without actions.
        state: the same of the state.
        notes: what is not read.
    """

    views: Mapping[str, str]
    action: tuple[str, ...]
    state: tuple[str, ...]
    notes: tuple[Note, ...]


def choose(info: Info, reading: Reading) -> Columns:
    """Tells views, actions and states by their names, unless it is said which they are.

    Raises:
        UserError: no views; or a column that was named is not there, or has no numbers.
    """
    numbers = {name: feature for name, feature in info.features.items() if _is_numbers(name, feature)}
    action = _chosen(info, numbers, reading.action_columns, ACTIONS)
    state = _chosen(info, numbers, reading.state_columns, STATES)
    cameras, notes = _cameras(info)
    if not cameras:
        raise UserError(
            f"{info.file}: names no camera: no feature is of type video or image, depth aside; at least one is needed"
        )
    rest = {name: feature for name, feature in numbers.items() if name not in (*action, *state)}
    actions = {} if action else _beginning(rest, "action")
    states = {} if state else _beginning(rest, spec.STATE, "state")
    if actions:
        notes.append(_candidates(info, "action", actions))
    if states:
        notes.append(_candidates(info, "state", states))
    if others := {name: feature for name, feature in rest.items() if name not in actions | states}:
        notes.append(Note("unused", f"{info.file}: columns that are neither action nor state: {_wide(others)}"))
    return Columns(_view_names(cameras), action, state, tuple(notes))


def _is_numbers(name: str, feature: Feature) -> bool:
    own = name in spec.INDEX_COLUMNS
    return not own and not feature.picture and feature.dtype.startswith(_NUMBERS) and len(feature.shape) < 3


def _chosen(info: Info, numbers: Mapping[str, Feature], asked: Sequence[str], usual: Sequence[str]) -> tuple[str, ...]:
    for name in asked:
        if name not in numbers:
            raise UserError(f"{info.file}: {unknown('column of numbers', name, numbers)}")
    return tuple(asked) or next(((name,) for name in usual if name in info.features), ())


def _beginning(columns: Mapping[str, Feature], *words: str) -> dict[str, Feature]:
    return {name: feature for name, feature in columns.items() if name.startswith(words)}


def _candidates(info: Info, kind: Literal["action", "state"], could: Mapping[str, Feature]) -> Note:
    """Columns that could be what none is called; which they are, and in which order, is for a person to say."""
    name = {"action": spec.ACTION, "state": spec.STATE}[kind]
    why = f"no column is called {name}, so that no {kind}s are read; what could be the {kind}: {_wide(could)}"
    # Without its actions a data set is another one; many do without states.
    lost = "left out" if kind == "action" else "unused"
    return Note(lost, f"{info.file}: {why}; --{kind}-columns {' '.join(could)} joins these in this order")


def _wide(features: Mapping[str, Feature]) -> str:
    return ", ".join(f"{name} ({feature.width})" for name, feature in features.items())


def _cameras(info: Info) -> tuple[list[str], list[Note]]:
    """The features that are views, and what is left out."""
    cameras, notes = [], []
    for key, feature in info.features.items():
        if feature.picture and feature.depth:
            notes.append(Note("unused", f"{info.file}: {key} is a depth map; only pictures in colour are read"))
        elif feature.picture:
            cameras.append(key)
        elif len(feature.shape) == 3:
            notes.append(
                Note("unused", f"{info.file}: {key} is of type {feature.dtype}; of pictures, video and image are read")
            )
    return cameras, notes


def _view_names(cameras: Sequence[str]) -> dict[str, str]:
    """View -> feature key; short names, where they are not taken twice."""
    short = Counter(map(spec.view_name, cameras))
    return {spec.view_name(key) if short[spec.view_name(key)] == 1 else key: key for key in cameras}
