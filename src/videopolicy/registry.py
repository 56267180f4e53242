"""Plug-ins by convention: a file in one of these packages that defines the package's entry is a plug-in.

>>> entry("samplers", "euler")  # the function `videopolicy.diffusion.samplers.euler.sample`
>>> build("envs", "metaworld", task="drawer-open-v3")  # calls `videopolicy.envs.metaworld.make`
"""

import ast
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from videopolicy.errors import unknown

# Package -> the name that a plug-in file defines at its top level.
ENTRIES = {
    "datasets": "open_dataset",
    "envs": "make",
    "latents": "Config",
    "text": "Config",
    "samplers": "sample",
    "backbones": "Config",
    "heads": "Config",
    "policies": "make",
    "executors": "make",
    "presets": "PRESET",
}

# Those that do not lie beside this file.
PLACES = {"samplers": "diffusion/samplers"}

SINGULAR = {"datasets": "data format", "latents": "latents", "policies": "policy", "text": "text encoder"}


def module(package: str) -> str:
    """The dotted name of a package of plug-ins."""
    return "videopolicy." + PLACES.get(package, package).replace("/", ".")


@cache
def names(package: str) -> tuple[str, ...]:
    """The plug-ins of a package, sorted; found by reading the files, without importing them."""
    folder = Path(__file__).parent / PLACES.get(package, package)
    files = [*folder.glob("[!_]*.py"), *folder.glob("[!_]*/__init__.py")]
    return tuple(sorted(_name(file) for file in files if _defines(file, ENTRIES[package])))


def entry(package: str, name: str) -> Any:
    """The entry of one plug-in.

    Raises:
        UserError: no such plug-in; the message lists the known ones.
    """
    if name not in names(package):
        raise unknown(SINGULAR.get(package, package.removesuffix("s")), name, names(package))
    return getattr(
        import_module(f"videopolicy.{PLACES.get(package, package).replace('/', '.')}.{name}"), ENTRIES[package]
    )


def build(package: str, name: str, *args: Any, **kwargs: Any) -> Any:
    """Calls a plug-in's entry with these arguments."""
    return entry(package, name)(*args, **kwargs)


def _name(file: Path) -> str:
    return file.parent.name if file.stem == "__init__" else file.stem


def _defines(file: Path, name: str) -> bool:
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return True
        targets = getattr(node, "targets", [getattr(node, "target", None)])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return True
    return False
