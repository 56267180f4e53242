"""Plug-ins by convention: a module that lies in the right place and defines its kind's entry.

The place is a file or a package in the kind's folder here, or an entry point of another distribution: group
`videopolicy.KIND`, the plug-in's name, and the module that defines the entry, as in a `pyproject.toml`

    [project.entry-points."videopolicy.backbones"]
    narrow = "acme_robots.narrow"

>>> entry("samplers", "euler")  # the function `videopolicy.diffusion.samplers.euler.sample`
>>> build("envs", "metaworld", task="drawer-open-v3")  # calls `videopolicy.envs.metaworld.make`

Beside its entry a plug-in may define what its contract test (`tests/contracts/`) wants to know: `EXAMPLE`, the smallest
real one, and `REQUIRES`, the modules without which it cannot run.
"""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from videopolicy.errors import UserError, unknown

# Our own distribution, and what the groups of entry points begin with.
OURS = "videopolicy"


@dataclass(frozen=True)
class Kind:
    """One kind of plug-ins.

    Attributes:
        entry: the name that each of them defines at its top level.
        singular: what one of them is called.
        folder: where ours lie, below this file.
    """

    entry: str
    singular: str
    folder: str


KINDS = {
    "datasets": Kind("open_dataset", "data format", "datasets"),
    "envs": Kind("make", "env", "envs"),
    "latents": Kind("Config", "latents", "latents"),
    "text": Kind("Config", "text encoder", "text"),
    "noise": Kind("Config", "noise law", "diffusion/noise"),
    "samplers": Kind("sample", "sampler", "diffusion/samplers"),
    "backbones": Kind("Config", "backbone", "backbones"),
    "heads": Kind("Config", "head", "heads"),
    "models": Kind("Config", "model", "models"),
    "policies": Kind("make", "policy", "policies"),
    "executors": Kind("make", "executor", "executors"),
    "presets": Kind("PRESET", "preset", "presets"),
}


@dataclass(frozen=True)
class Plugin:
    """Where a plug-in comes from.

    Attributes:
        module: its dotted name.
        distribution: what was installed to bring it.
    """

    module: str
    distribution: str


def names(kind: str) -> tuple[str, ...]:
    """The plug-ins of a kind, sorted; found without importing them.

    Raises:
        UserError: two distributions define one of the same name, or one of them names no module.
    """
    return tuple(_plugins(kind))


def module(kind: str, name: str) -> ModuleType:
    """The module of one plug-in, imported.

    Raises:
        UserError: no such plug-in, and the message lists the known ones; or one from outside cannot be imported.
    """
    if name not in names(kind):
        raise unknown(KINDS[kind].singular, name, names(kind))
    plugin = _plugins(kind)[name]
    try:
        return import_module(plugin.module)
    except ImportError as error:
        if plugin.distribution == OURS:
            raise
        raise UserError(
            f"{KINDS[kind].singular} {name!r}: {plugin.module} of the distribution {plugin.distribution} cannot be "
            f"imported ({error}); mend or uninstall it"
        ) from error


def entry(kind: str, name: str) -> Any:
    """The entry of one plug-in.

    Raises:
        UserError: what `module` refuses, or the module defines no entry.
    """
    home = module(kind, name)
    found = getattr(home, KINDS[kind].entry, None)
    # A class that is only imported there would be saved under the name of another module, and never found again.
    if found is None or (isinstance(found, type) and found.__module__ != home.__name__):
        raise UserError(
            f"{home.__name__} of the distribution {_plugins(kind)[name].distribution} defines no "
            f"{KINDS[kind].entry}, which makes a module a {KINDS[kind].singular}"
        )
    return found


def build(kind: str, name: str, *args: Any, **kwargs: Any) -> Any:
    """Calls a plug-in's entry with these arguments."""
    return entry(kind, name)(*args, **kwargs)


def plugin_of(cls: type) -> tuple[str, str] | None:
    """The kind and the name of the plug-in that this class is the entry of; None if it is of none."""
    for kind, about in KINDS.items():
        if cls.__qualname__ == about.entry:
            for name, plugin in _plugins(kind).items():
                if plugin.module == cls.__module__:
                    return kind, name
    return None


@cache
def _plugins(kind: str) -> dict[str, Plugin]:
    """By name, sorted."""
    found: dict[str, Plugin] = {}
    for name, plugin in (*_own(kind), *_from_outside(kind)):
        if name in found:
            raise UserError(
                f"the {KINDS[kind].singular} {name!r} comes with two distributions, {found[name].distribution} and "
                f"{plugin.distribution}; uninstall one of them, or give its plug-in another name"
            )
        found[name] = plugin
    return dict(sorted(found.items()))


def _own(kind: str) -> Iterator[tuple[str, Plugin]]:
    """Found by reading the files."""
    place = KINDS[kind].folder
    folder = Path(__file__).parent / place
    for file in (*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py")):
        if _defines(file, KINDS[kind].entry):
            name = file.parent.name if file.stem == "__init__" else file.stem
            yield name, Plugin(f"{OURS}.{place.replace('/', '.')}.{name}", OURS)


def _from_outside(kind: str) -> Iterator[tuple[str, Plugin]]:
    """Found by reading what other distributions say of themselves."""
    for point in _entry_points().select(group=f"{OURS}.{kind}"):
        distribution = point.dist.name if point.dist else "(unknown)"
        if not all(part.isidentifier() for part in point.value.split(".")):
            raise UserError(
                f"the distribution {distribution} says that the {KINDS[kind].singular} {point.name!r} is "
                f"{point.value!r}; it takes the name of a module, such as acme_robots.{point.name}"
            )
        yield point.name, Plugin(point.value, distribution)


@cache
def _entry_points() -> Any:
    """Of all distributions; finding them takes a moment."""
    return entry_points()


def _defines(file: Path, name: str) -> bool:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return True
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return True
    return False
