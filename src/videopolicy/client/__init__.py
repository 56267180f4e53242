"""A robot's side of a policy server: numpy, msgpack and websockets alone, so that it runs on any robot's computer."""

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
