"""Families of video transformers: how each is described and named where it is published."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from videopolicy.backbones.transformer import TransformerConfig
from videopolicy.errors import UserError
from videopolicy.porting.sources import Weights


@dataclass(frozen=True)
class Shape:
    """What a description or the weights tell of a transformer.

    Attributes:
        config: its shape.
        channels: C, of the latents that it denoises.
        text_width: W, of the tokens that it attends to.
    """

    config: TransformerConfig
    channels: int
    text_width: int


@dataclass(frozen=True)
class Family:
    """How to read one family of video transformers.

    Attributes:
        title: for messages.
        class_name: of diffusers' transformer.
        fits: whether a backbone of this configuration is one of it.
        pipeline: diffusers' class that draws as the model does.
        scheduler: makes the one that the pipeline is published with.
        license: of the weights as the Hugging Face hub names it, and in words.
        described: the shape, of diffusers' descriptions of transformer and pipeline, and a template for what they do
            not tell; a fact that is missing raises KeyError or TypeError, one that this project's backbone does not
            have UserError. Where families share a class, the template says which of them is wanted.
        sized: the same of weights by their authors' names, the file's name before messages.
        original: diffusers' name of each weight -> its authors'.
        prefix: what all names may begin with in the authors' files.
        beside: what else stands there that is no weight: beginnings or endings of names.
        settings: of the pipeline of a backbone so configured, beside its parts.
        absent: parts of the pipeline, beside those that read text, that a model does not have.
    """

    title: str
    class_name: str
    fits: Callable[[Any], bool]
    pipeline: str
    scheduler: Callable[[], Any]
    license: tuple[str, str]
    described: Callable[[Mapping[str, Any], Any], Shape]
    sized: Callable[[Weights, Any, str], Shape]
    original: Callable[[Iterable[str]], dict[str, str]]
    prefix: str = ""
    beside: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    settings: Callable[[Any], Mapping[str, Any]] = lambda _: {}


def check_facts(facts: Mapping[str, Any], needed: Mapping[str, tuple[Any, str]], but: str) -> None:
    """Checks a description for what every network of a family has.

    Args:
        facts: the description.
        needed: the value of each fact, where it is told, and in words what the network is otherwise.
        but: what the message goes on with.

    Raises:
        UserError: one of them is otherwise.
    """
    for name, (value, otherwise) in needed.items():
        if facts.get(name, value) != value:
            raise UserError(f"a transformer {otherwise} ({name}), {but}")


def patch_side(facts: Mapping[str, Any], backbone: str) -> int:
    """Side in latents of a description's patches.

    Raises:
        UserError: they are not square, or span several frames.
    """
    length, *sides = facts["patch_size"]
    if length != 1 or sides[0] != sides[1]:
        raise UserError(f"patches of {facts['patch_size']}, but backbone {backbone!r} has square ones of single frames")
    return sides[0]
