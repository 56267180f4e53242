"""What a plug-in tells its contract test: the smallest real example of itself, and what it cannot run without."""

import os
from importlib import import_module
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from videopolicy import registry

EXAMPLE, REQUIRES = "EXAMPLE", "REQUIRES"


def variants(kind: str) -> list[str]:
    """Every name of a kind, and "NAME:EXAMPLE_OTHER" for each further example in the plug-in's module."""
    found = []
    for name in registry.names(kind):
        others = [attribute for attribute in vars(registry.module(kind, name)) if attribute.startswith(f"{EXAMPLE}_")]
        found += [name, *(f"{name}:{other}" for other in others)]
    return found


def plugin(variant: str) -> str:
    """The plug-in's name of one of `variants`."""
    return variant.partition(":")[0]


def example(kind: str, name: str) -> Any:
    """The plug-in's `EXAMPLE`: a configuration, an env's task, a policy's target, or a function that writes data.

    It stands in the plug-in's module or, if it needs code of the tests, it is the `example` of
    `tests/KIND/examples/NAME.py`. Where there is neither, it is the configuration with its defaults, or the env's first
    task. Of a name out of `variants`, it is the example that the name says.
    """
    name, _, other = name.partition(":")
    module = registry.module(kind, name)
    if other or hasattr(module, EXAMPLE):
        return getattr(module, other or EXAMPLE)
    if (Path(__file__).parents[1] / kind / "examples" / f"{name}.py").is_file():
        return import_module(f"tests.{kind}.examples.{name}").example
    return module.TASKS[0] if kind == "envs" else registry.build(kind, name)


def quick_and_slow(kind: str) -> list[Any]:
    """Every name of a kind, as a test's parameter; those that require a package of their own are marked slow."""
    slow = {name for name in registry.names(kind) if getattr(registry.module(kind, name), REQUIRES, ())}
    return [pytest.param(name, marks=[pytest.mark.slow] if name in slow else []) for name in registry.names(kind)]


def skip_unless_it_can_run(kind: str, name: str) -> None:
    """Skips the test where a module that the plug-in `REQUIRES` is absent.

    In CI the extras of our own distribution are all there: a plug-in that needs one is never skipped.
    """
    for required in getattr(registry.module(kind, plugin(name)), REQUIRES, ()):
        declared = required in (metadata("videopolicy").get_all("Provides-Extra") or ())
        if find_spec(required) is None and not (declared and "CI" in os.environ):
            pytest.skip(f"{name} needs {required}")
