"""Video generators as robot policies.

These names are the library's entry (`examples/` uses them); everything else is in its own module. They are imported
when they are first asked for, so that a robot's or a simulator's process loads no torch.
"""

from importlib import import_module
from typing import Any

# Name -> the module that has it, and what it is called there.
_ENTRIES = {
    "Chunked": ("executors.chunked", "Chunked"),
    "Observation": ("types", "Observation"),
    "make_env": ("envs.base", "make_env"),
    "open_dataset": ("datasets.formats", "open_any"),
    "open_policy": ("policies.checkpoint", "make"),
    "preset": ("presets.base", "preset"),
    "train": ("training.run", "train"),
}


def __getattr__(name: str) -> Any:
    if name not in _ENTRIES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _ENTRIES[name]
    return getattr(import_module(f"{__name__}.{module}"), attribute)


def __dir__() -> list[str]:
    return sorted(_ENTRIES)
