"""A policy behind a websocket, as a robot's process asks it. It speaks openpi's protocol.

The server first sends a map that describes the policy. Then every message is a map with an observation, and is answered
by a map with `actions`. Messages carry no numbers, so after an answer that did not come the connection is given up:
otherwise the next question would get the last one's answer.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from socket import SHUT_RDWR
from ssl import SSLContext
from types import TracebackType

import numpy as np
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus, InvalidURI, WebSocketException
from websockets.protocol import State
from websockets.sync.client import ClientConnection, connect

from .errors import BadReply, Busy, ClientError, ConnectionLost, Refused, ServerError, TimedOut, TooOld
from .wire import WireError, pack, unpack

MAX_SIZE = 64 << 20
# Seconds between two attempts to connect: the first, and the longest; each is twice the one before.
FIRST_PAUSE, LONGEST_PAUSE = 0.05, 2.0
CLOSE_SECONDS = 1.0
LONGEST_TIMEOUT = 86400
# What a server of ours answers instead of actions, without closing the connection.
_REFUSALS: Mapping[object, type[ClientError]] = {"busy": Busy, "old": TooOld}


class Client:
    """Asks a server for actions.

    >>> with Client("ws://127.0.0.1:8000") as client:
    ...     actions = client.infer({"observation/image": image, "prompt": "press the button"})["actions"]

    Proxies that the environment names are not used. One call at a time is answered; others wait, within their time.
    `close` may be called from any thread, and ends a call that waits.

    Args:
        url: `ws://HOST:PORT`, or `wss://` for TLS.
        token: the server's, if it wants one. Over `ws://` everybody between can read it.
        timeout: seconds that a call may take in all, connecting included, unless it is given its own. (Only the
            look-up of a host's name, by the operating system, can take longer.)
        max_size: bytes of the longest message that is received.
        ssl: for `wss://`, which certificates are trusted; by default those that the system trusts.

    Raises:
        ValueError: the URL or the token has no such form.
        ClientError: see `connect`.
    """

    def __init__(
        self,
        url: str,
        token: str | None = None,
        *,
        timeout: float = 10.0,
        max_size: int = MAX_SIZE,
        ssl: SSLContext | None = None,
    ) -> None:
        if not url.startswith(("ws://", "wss://")):
            raise ValueError(f"{url!r} is no server's address; give ws://HOST:PORT or wss://HOST:PORT")
        if token is not None and not (token.isascii() and token.isprintable() and token):
            raise ValueError("a token is of printable ASCII characters, and has at least one")
        self._url, self._timeout, self._max_size, self._ssl = url, timeout, max_size, ssl
        self._headers = {"Authorization": f"Api-Key {token}"} if token is not None else {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._connection: ClientConnection | None = None
        self._metadata: dict[str, object] = {}
        self._connections = 0
        self._pause, self._next_attempt = FIRST_PAUSE, 0.0
        self.connect()

    @property
    def metadata(self) -> Mapping[str, object]:
        """What the server last said of its policy; which keys there are is the server's choice."""
        return self._metadata

    @property
    def extended(self) -> bool:
        """Whether the server understands what `videopolicy serve` adds to openpi's protocol."""
        versions = self._metadata.get("versions")
        return isinstance(versions, dict) and isinstance(versions.get("protocol"), int)

    @property
    def connections(self) -> int:
        """How many connections were made so far, the first one included."""
        return self._connections

    def connect(self, timeout: float | None = None) -> None:
        """Connects if there is no connection, and tries again until the time is over: the server may be starting.

        Raises:
            Refused, BadReply: the token is wrong, or no such server is there; at once.
            ConnectionLost, TimedOut, Busy, ServerError: what the last attempt met.
        """
        with self._exclusively(timeout) as until:
            self._connected(until)

    def infer(self, observation: Mapping[str, object], timeout: float | None = None) -> dict[str, object]:
        """The server's answer to one observation.

        Args:
            observation: what the policy is to see, under the names that the server wants; for values see `wire.pack`.
            timeout: seconds that this call may take; None for the client's.

        Returns:
            the server's map. `actions` is (A, D) float32, finite, and the caller's own to change; other arrays are
            read-only. Most servers add `server_timing`, a map of milliseconds.

        Raises:
            ClientError: there is no answer, or none to act upon: one of its kinds in `errors`.
            WireError: the observation cannot be sent.
        """
        reply = self._ask(dict(observation), timeout)
        if "error" in reply:
            kind = _REFUSALS.get(str(reply["error"]), ServerError)
            raise kind(str(reply.get("message") or reply["error"]))
        reply["actions"] = _actions(reply.get("actions"))
        return reply

    def reset(self, timeout: float | None = None) -> None:
        """Says that a new episode begins. Servers that do not know of episodes are told nothing.

        Raises:
            ClientError: as of `infer`.
        """
        self.connect(timeout)
        if self.extended:
            self._ask({"endpoint": "reset"}, timeout)

    def close(self) -> None:
        """Ends the connection, and what waits for it; once closed, a client stays so. Closing twice is fine."""
        self._closed.set()
        connection = self._connection
        if connection is not None:
            if self._lock.acquire(blocking=False):
                try:
                    with suppress(ClientError), _bounded(connection, CLOSE_SECONDS):
                        connection.close()
                finally:
                    self._lock.release()
            _cut(connection)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _exclusively(self, timeout: float | None) -> Iterator[float]:
        """No other call talks meanwhile; gives the moment at which the time is over."""
        seconds = self._timeout if timeout is None else timeout
        if not 0 <= seconds <= LONGEST_TIMEOUT:
            raise ValueError(f"a timeout of {seconds} s; from 0 to {LONGEST_TIMEOUT} s are right")
        until = time.monotonic() + seconds
        if not self._lock.acquire(timeout=seconds):
            raise TimedOut(f"another call took all of {seconds:g} s")
        try:
            yield until
        finally:
            self._lock.release()

    def _ask(self, message: dict[str, object], timeout: float | None) -> dict[str, object]:
        data = pack(message)
        with self._exclusively(timeout) as until:
            connection = self._connected(until)
            try:
                with _bounded(connection, until - time.monotonic()):
                    connection.send(data)
                return _receive(connection, until)
            except BaseException:
                self._give_up(connection)
                raise

    def _connected(self, until: float) -> ClientConnection:
        """The connection, made anew if it is gone."""
        connection = self._connection
        if connection is not None and connection.protocol.state is State.OPEN:
            return connection
        while True:
            self._check_open()
            try:
                if self._next_attempt > until:
                    raise ConnectionLost(f"{self._url} was not to be reached a moment ago")
                self._closed.wait(max(0.0, self._next_attempt - time.monotonic()))
                self._check_open()
                return self._attempt(until)
            except (Refused, BadReply):
                raise
            except ClientError:
                if self._closed.is_set() or self._next_attempt > until or time.monotonic() >= until:
                    raise

    def _attempt(self, until: float) -> ClientConnection:
        left = until - time.monotonic()
        if left <= 0:
            raise TimedOut(f"{self._url} was not to be reached in time")
        self._next_attempt = time.monotonic() + self._pause
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        with _translated(until):
            connection = connect(
                self._url,
                additional_headers=self._headers,
                compression=None,
                proxy=None,
                ssl=self._ssl,
                open_timeout=left,
                close_timeout=CLOSE_SECONDS,
                # A server may plan for longer than any ping is put up with; each call has its own bound.
                ping_interval=None,
                max_size=self._max_size,
            ).__enter__()
        # From here on `close` can end it, from another thread.
        self._connection = connection
        try:
            self._metadata = _receive(connection, until)
            self._check_open()
        except BaseException:
            self._give_up(connection)
            raise
        self._pause, self._next_attempt = FIRST_PAUSE, 0.0
        self._connections += 1
        return connection

    def _give_up(self, connection: ClientConnection) -> None:
        _cut(connection)
        self._connection = None

    def _check_open(self) -> None:
        if self._closed.is_set():
            raise ConnectionLost("this client was closed")


def _receive(connection: ClientConnection, until: float) -> dict[str, object]:
    """The next message of the server, a map."""
    with _translated(until):
        message = connection.recv(timeout=max(0.0, until - time.monotonic()))
    if isinstance(message, str):
        raise ServerError(message)
    try:
        reply = unpack(message)
    except WireError as error:
        raise BadReply(f"the server sent no message of this protocol: {error}") from error
    if not isinstance(reply, dict):
        raise BadReply(f"the server sent {type(reply).__name__} in place of a map")
    return reply


def _actions(given: object) -> np.ndarray:
    if not isinstance(given, np.ndarray) or given.ndim != 2 or 0 in given.shape:
        what = f"of shape {given.shape}" if isinstance(given, np.ndarray) else "no array"
        raise BadReply(f"'actions' is {what}; an array (A, D) is right")
    with np.errstate(over="ignore"):
        actions = np.array(given, dtype=np.float32)
    if not np.isfinite(actions).all():
        raise BadReply("'actions' has entries that are not finite")
    return actions


@contextmanager
def _translated(until: float) -> Iterator[None]:
    """What the network and its library raise, as errors of ours."""
    try:
        yield
    except InvalidURI as error:
        raise ValueError(f"no server's address: {error}") from error
    except InvalidStatus as error:
        status = error.response.status_code
        if status in (401, 403):
            raise Refused(f"HTTP {status}: the server wants another token") from error
        if status == 503:
            raise Busy("HTTP 503: the server takes no more clients now") from error
        raise BadReply(f"HTTP {status}: there is no policy at this address") from error
    except ConnectionClosed as error:
        # A connection that was cut because the time was over looks as if it had broken.
        if time.monotonic() >= until:
            raise TimedOut("no answer in time") from error
        raise ConnectionLost(f"the connection ended: {error}") from error
    except TimeoutError as error:
        raise TimedOut("no answer in time") from error
    # Where a server speaks before it is asked, the library may find its own state other than it asserts.
    except (InvalidHandshake, AssertionError) as error:
        raise ConnectionLost(f"no websocket at this address: {error}") from error
    except (OSError, WebSocketException, EOFError) as error:
        raise ConnectionLost(f"the server cannot be reached: {error}") from error


@contextmanager
def _bounded(connection: ClientConnection, seconds: float) -> Iterator[None]:
    """Within the block a connection that does not take what is sent is cut when the time is over."""
    timer = threading.Timer(max(0.0, seconds), _cut, [connection])
    timer.daemon = True
    timer.start()
    until = time.monotonic() + seconds
    try:
        with _translated(until):
            yield
    finally:
        timer.cancel()


def _cut(connection: ClientConnection) -> None:
    """Ends a connection at once, without a word to the server; whoever waits for it is woken."""
    with suppress(OSError):
        connection.socket.shutdown(SHUT_RDWR)
