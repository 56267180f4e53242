"""What can go wrong between a robot and a policy's server; each says in a line what it was."""

from __future__ import annotations


class ClientError(Exception):
    """The server did not answer as it should have. The next call connects anew if that is needed."""


class ConnectionLost(ClientError):
    """The server cannot be reached, or went away before it had answered."""


class TimedOut(ClientError):
    """No answer within the time that the call was given; one that comes later is thrown away."""


class Refused(ClientError):
    """The server does not let this client in: the token is missing or wrong."""


class Busy(ClientError):
    """The server has too much to do; ask again a moment later."""


class TooOld(ClientError):
    """The server found the observation too old to act upon."""


class ServerError(ClientError):
    """The server could not answer this message; the text is the server's."""


class BadReply(ClientError):
    """What the server sent is not what a policy's server sends; do not act upon it."""


class Stopped(Exception):
    """No fresh action came in time, and the robot is to stop.

    Attributes:
        late: seconds since the action was due.
        cause: what the server's last failure was, if one is known.
    """

    def __init__(self, late: float, cause: Exception | None = None) -> None:
        why = f": {type(cause).__name__}, {cause}" if cause else ""
        super().__init__(f"no fresh action for {late:.3f} s{why}")
        self.late = late
        self.cause = cause
