"""Video generators as robot policies. These names are the library's entry; everything else is in its own module.

They are imported when they are first asked for, so that a robot's or a simulator's process loads no torch.
"""

from importlib import import_module
from typing import Any

_PLACES = {
    "Observation": "types",
    "UserError": "errors",
    "make_env": "envs.base",
    "open_dataset": "datasets.formats",
    "open_policy": "policies.base",
    "preset": "presets.base",
    "train": "training.run",
    "Chunked": "executors.chunked",
}
__all__ = sorted(_PLACES)


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
