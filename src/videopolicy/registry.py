"""Plug-ins by convention: a file in one of these packages that defines the package's entry is a plug-in.

>>> entry("samplers", "euler")  # the function `videopolicy.samplers.euler.sample`
>>> build("worlds", "metaworld", task="drawer-open-v3")  # calls `videopolicy.worlds.metaworld.make`
"""

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from videopolicy.errors import unknown

# Package -> the name that a plug-in file defines at its top level.
ENTRIES = {
    "demos": "open_dataset",
    "worlds": "make",
    "latents": "Config",
    "text": "Config",
    "samplers": "sample",
    "backbones": "Config",
    "heads": "Config",
    "policies": "make",
    "presets": "PRESET",
}

SINGULAR = {"demos": "data format", "latents": "latents", "policies": "policy", "text": "text encoder"}


@cache
def names(package: str) -> tuple[str, ...]:
    """The plug-ins of a package, sorted; found by reading the files, without importing them."""
    folder = Path(__file__).parent / package
    return tuple(sorted(file.stem for file in folder.glob("[!_]*.py") if _defines(file, ENTRIES[package])))


def entry(package: str, name: str) -> Any:
    """The entry of one plug-in.

    Raises:
        UserError: no such plug-in; the message lists the known ones.
    """
    if name not in names(package):
        raise unknown(SINGULAR.get(package, package.removesuffix("s")), name, names(package))
    return getattr(import_module(f"videopolicy.{package}.{name}"), ENTRIES[package])


def build(package: str, name: str, *args: Any, **kwargs: Any) -> Any:
    """Calls a plug-in's entry with these arguments."""
    return entry(package, name)(*args, **kwargs)


def _defines(file: Path, name: str) -> bool:
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return True
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return True
    return False
