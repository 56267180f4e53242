"""One part of a model, on its way from other names and shapes to ours."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from videopolicy.errors import UserError
from videopolicy.porting.sources import Weights

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Row:
    """What became of a group of weights.

    Attributes:
        source: what its names start with.
        tensors: how many.
        numbers: their elements.
        became: our name for it, or why it is left out.
    """

    source: str
    tensors: int
    numbers: int
    became: str


@dataclass(frozen=True)
class Piece:
    """A part of the policy with its weights.

    Attributes:
        config: its shape, as far as the weights tell.
        state: its weights under the policy's names.
    """

    config: Any
    state: dict[str, Tensor]


def row(source: str, weights: Weights, became: str) -> Row:
    """The row of a group."""
    return Row(source, len(weights), sum(weight.numel() for weight in weights.values()), became)


def shapes(weights: Weights) -> Shapes:
    """The shape of every weight."""
    return {name: tuple(weight.shape) for name, weight in weights.items()}


def check(found: Weights, expected: Shapes, where: str) -> None:
    """Holds weights against what they must be.

    Args:
        found: the weights.
        expected: the shape of each that is needed, under the same names.
        where: the file, and what the names start with.

    Raises:
        UserError: one is missing, one too many, or of another shape; named with its full name.
    """
    for missing in [name for name in expected if name not in found][:1]:
        raise UserError(f"{where}{missing} is missing{_more(expected.keys() - found.keys())}")
    for extra in [name for name in found if name not in expected][:1]:
        raise UserError(f"{where}{extra} does not belong there{_more(found.keys() - expected.keys())}")
    wrong = [name for name, weight in found.items() if tuple(weight.shape) != expected[name]]
    for name in wrong[:1]:
        here, there = tuple(found[name].shape), expected[name]
        raise UserError(f"{where}{name} is {_by(here)}, but must be {_by(there)}{_more(wrong)}")


def lookup(weights: Weights, name: str, where: str) -> Tensor:
    """One weight that tells the size of a part.

    Raises:
        UserError: it is missing.
    """
    if name not in weights:
        raise UserError(f"{where}{name} is missing")
    return weights[name]


def indices(weights: Weights, start: str) -> list[int]:
    """The numbers that follow `start` in the names, sorted."""
    rests = (name.removeprefix(start).split(".")[0] for name in weights if name.startswith(start))
    return sorted({int(rest) for rest in rests if rest.isdecimal()})


def _more(names: Iterable[str]) -> str:
    others = len(set(names)) - 1
    return f" (and {others} more)" if others else ""


def _by(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape)) or "one number"
