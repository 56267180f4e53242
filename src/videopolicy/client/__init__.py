"""A robot's side of a policy server: numpy, msgpack and websockets alone, so that it runs on any robot's computer."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .client import Client
    from .driver import Driver, Lateness
    from .errors import BadReply, Busy, ClientError, ConnectionLost, Refused, ServerError, Stopped, TimedOut, TooOld
    from .watchdog import Step, Watchdog
    from .wire import WireError, pack, unpack

__all__ = [
    "BadReply",
    "Busy",
    "Client",
    "ClientError",
    "ConnectionLost",
    "Driver",
    "Lateness",
    "Refused",
    "ServerError",
    "Step",
    "Stopped",
    "TimedOut",
    "TooOld",
    "Watchdog",
    "WireError",
    "pack",
    "unpack",
]


def __getattr__(name: str) -> object:
    # Loaded when they are asked for: an evaluation's executors need `chunks` alone, and neither websockets nor msgpack.
    for home in ("errors", "watchdog", "driver", "wire", "client") if name in __all__ else ():
        module = import_module(f".{home}", __name__)
        if hasattr(module, name):
            return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
