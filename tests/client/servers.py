"""Servers for the client's tests, written from the protocol's description and not from the product's code."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus

import msgpack
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

METADATA = {"chunk": 4, "versions": {"protocol": 1}}
Behaviour = Callable[[ServerConnection], None]


def array(shape: list[int], data: bytes, dtype: str = "<f4") -> dict[bytes, object]:
    return {b"__ndarray__": True, b"data": data, b"dtype": dtype, b"shape": shape}


def zeros(steps: int = 4, width: int = 2) -> bytes:
    """A reply with actions that are all zero."""
    return msgpack.packb(
        {"actions": array([steps, width], bytes(4 * steps * width)), "server_timing": {"infer_ms": 1.0}}
    )


def behave(answer: Callable[[dict], bytes | str | None], metadata: dict = METADATA) -> Behaviour:
    """Metadata first, then an answer to each message; None hangs up without a word."""

    def talk(connection: ServerConnection) -> None:
        connection.send(msgpack.packb(metadata))
        for message in connection:
            reply = answer(msgpack.unpackb(message))
            if reply is None:
                return
            connection.send(reply)

    return talk


class Running:
    """A server on a port of the loopback interface that can be killed and started again."""

    def __init__(self, behaviour: Behaviour, token: str | None = None) -> None:
        self._behaviour, self._token = behaviour, token
        self.port = 0
        self.headers: list[str | None] = []
        self.start()

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._open: set[ServerConnection] = set()
        self._server = serve(
            self._handle, "127.0.0.1", self.port, compression=None, max_size=None, process_request=self._admit
        )
        self.port = self._server.socket.getsockname()[1]
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """No goodbye: sockets are cut, as when a process dies."""
        self._server.shutdown()
        for connection in list(self._open):
            connection.close_socket()
        self._thread.join(5)

    def _admit(self, connection: ServerConnection, request):
        given = request.headers.get("Authorization")
        self.headers.append(given)
        if self._token is not None and given != f"Api-Key {self._token}":
            return connection.respond(HTTPStatus.UNAUTHORIZED, "wrong token\n")
        return None

    def _handle(self, connection: ServerConnection) -> None:
        self._open.add(connection)
        try:
            self._behaviour(connection)
        except (ConnectionClosed, OSError):
            pass
        finally:
            self._open.discard(connection)


@contextmanager
def running(behaviour: Behaviour, token: str | None = None) -> Iterator[Running]:
    server = Running(behaviour, token)
    try:
        yield server
    finally:
        server.kill()
