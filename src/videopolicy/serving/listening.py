"""Where a server listens, what it puts up with, and who may connect: what robots' port and the page's share."""

import asyncio
import hmac
import logging
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.http11 import Request, Response

from videopolicy.errors import UserError

LOOPBACK, PORT = "127.0.0.1", 8000
MEBIBYTE = 2**20


@dataclass(frozen=True)
class Listening:
    """Where the server listens, and what it puts up with.

    Attributes:
        host: a name or an address of this machine.
        port: 0 for one that is free.
        token: what a client must show; None if anybody may connect.
        tls: the certificate; None for none.
        max_size: bytes of a message.
        max_clients: connections at a time.
        ping: seconds without an answer to a ping, and between pings, after which a client is given up.
        opening: seconds that a client has for its opening handshake.
        drain: seconds that requests have to finish when the server stops.
        debug: whether clients are told of errors inside.
    """

    host: str = LOOPBACK
    port: int = PORT
    token: str | None = None
    tls: ssl.SSLContext | None = None
    max_size: int = 64 * MEBIBYTE
    max_clients: int = 64
    ping: float = 20.0
    opening: float = 10.0
    drain: float = 30.0
    debug: bool = False

    def admits(self, token: str) -> bool:
        """Whether a token is the right one, compared in constant time whatever it is; any is, if none is wanted."""
        if self.token is None:
            return True
        return hmac.compare_digest(*(text.strip().encode("utf-8", "surrogatepass") for text in (token, self.token)))


class Owner(Protocol):
    """Knows of its connections from the first byte to the last."""

    def opened(self, link: ServerConnection) -> None:
        """Somebody has connected, and not said anything yet."""

    def closed(self, link: ServerConnection) -> None:
        """A connection is gone, whatever it was."""


class _Owned(ServerConnection):
    def __init__(self, *args, owner: Owner, **options) -> None:
        super().__init__(*args, **options)
        self._owner = owner

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._owner.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._owner.closed(self)


def address(link: ServerConnection) -> str:
    """Where somebody connects from."""
    peer = link.remote_address
    return str(peer[0]) if peer else "unknown"


async def listen(
    at: Listening,
    owner: Owner,
    handle: Callable[[ServerConnection], Awaitable[None]],
    let_in: Callable[[ServerConnection, Request], Response | None],
    *,
    origins: Sequence[None] | None = None,
    option: str = "--port",
) -> Server:
    """Opens the port.

    Args:
        at: where.
        owner: is told of connections.
        handle: talks with those that are let in.
        let_in: what a request is answered by; None lets a websocket in.
        origins: [None] refuses all web pages; None leaves them to `let_in`.
        option: by which another port can be had, for the message.

    Raises:
        UserError: nobody can listen there.
    """
    # What the library says of broken clients would fill the log; what matters is counted, or said by the server.
    logger = logging.getLogger("videopolicy.serving")
    logger.disabled = not at.debug
    try:
        return await serve(
            handle,
            at.host,
            at.port,
            origins=origins,
            compression=None,
            process_request=let_in,
            open_timeout=at.opening,
            ping_interval=at.ping,
            ping_timeout=at.ping,
            close_timeout=at.ping,
            max_size=at.max_size,
            # One message is worked on, one waits; then the client's own buffers must fill.
            max_queue=1,
            logger=logger,
            ssl=at.tls,
            create_connection=cast(type[ServerConnection], partial(_Owned, owner=owner)),
        )
    except OSError as error:
        why = error.strerror or str(error)
        raise UserError(f"cannot listen at {at.host}, port {at.port}: {why}; try another {option} or --host") from error
