"""The websocket server: who may connect, what the frames are, and how it ends.

The frames are those of openpi's protocol: first the server sends a map about the policy; then each binary frame of the
client's, a map of what is seen, is answered by one. A request that is wrong is answered by a text frame, one line, and
the connection is closed with code 1011. HTTP on the same port: `/healthz` and `/metrics`.
"""

import asyncio
import traceback
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from time import monotonic

from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from videopolicy.client.wire import pack
from videopolicy.errors import UserError
from videopolicy.progress import say
from videopolicy.serving.listening import Listening, address, listen
from videopolicy.serving.session import Service, Session

# Connections beyond those of clients: health checks, and those that have said nothing yet.
SPARE = 32
# How the connection of a wrong request, and of a server that stops, is closed (RFC 6455, section 7.4.1).
FAILED, GOING_AWAY = 1011, 1001
GOODBYE = "the server stops"
SCHEMES = ("api-key", "bearer")


class PolicyServer:
    """Serves one policy to many clients.

    Args:
        service: what they are answered by; its engine has been started, and is not closed here.
        listening: where, and what it puts up with.
    """

    def __init__(self, service: Service, listening: Listening) -> None:
        self._service, self._listening = service, listening
        self._links: set[ServerConnection] = set()
        # Those that have been let in, and whether each is being answered.
        self._clients: dict[ServerConnection, bool] = {}
        self._number = 0
        self._stopping = False

    async def run(self, stop: asyncio.Event, ready: Callable[[int], None]) -> None:
        """Listens until it is told to stop, then finishes what is being answered, and returns.

        Args:
            stop: set it to end.
            ready: called with the port when clients may come.

        Raises:
            UserError: nobody can listen there.
        """
        # A browser says where its page is from; no page of anybody's is to move a robot.
        server = await listen(self._listening, self, self._handle, self._let_in, origins=[None])
        ready(next(iter(server.sockets)).getsockname()[1])
        try:
            await stop.wait()
        finally:
            await self._drain(server)

    def opened(self, link: ServerConnection) -> None:
        """Somebody has connected, and not said anything yet."""
        if len(self._links) >= self._listening.max_clients + SPARE:
            link.transport.abort()
        self._links.add(link)

    def closed(self, link: ServerConnection) -> None:
        """A connection is gone, whatever it was."""
        self._links.discard(link)
        self._clients.pop(link, None)
        self._service.engine.clients = len(self._clients)

    def _let_in(self, link: ServerConnection, request: Request) -> Response | None:
        """What is answered by HTTP; None lets a websocket in."""
        path = request.path.partition("?")[0]
        if path == "/healthz":
            return link.respond(HTTPStatus.OK, "OK\n")
        if not self._has_token(request):
            self._service.note("refused", words=f"{address(link)}: no token, or a wrong one")
            return link.respond(HTTPStatus.UNAUTHORIZED, "a token is needed\n")
        if path == "/metrics":
            text = self._service.metrics.text(len(self._clients), len(self._service.engine))
            response = link.respond(HTTPStatus.OK, text)
            del response.headers["Content-Type"]
            response.headers["Content-Type"] = "text/plain; version=0.0.4; charset=utf-8"
            return response
        if "websocket" not in request.headers.get("Upgrade", "").lower():
            return link.respond(HTTPStatus.NOT_FOUND, "here are /healthz, /metrics and a websocket\n")
        if self._stopping or len(self._clients) >= self._listening.max_clients:
            why = GOODBYE if self._stopping else f"{len(self._clients)} clients are connected already"
            self._service.note("refused", words=f"{address(link)}: {why}")
            return link.respond(HTTPStatus.SERVICE_UNAVAILABLE, f"{why}\n")
        self._clients[link] = False
        return None

    def _has_token(self, request: Request) -> bool:
        given = request.headers.get_all("Authorization")
        scheme, _, token = given[0].strip().partition(" ") if len(given) == 1 else ("", "", "")
        return self._listening.admits(token) and (self._listening.token is None or scheme.lower() in SCHEMES)

    async def _handle(self, link: ServerConnection) -> None:
        """Answers one client until it goes, or the server stops."""
        session, self._number = Session(self._service, self._number), self._number + 1
        self._service.engine.clients = len(self._clients)
        session.began(address(link))
        try:
            await self._talk(link, session)
        finally:
            session.ended()

    async def _talk(self, link: ServerConnection, session: Session) -> None:
        gone = asyncio.ensure_future(link.wait_closed())
        with suppress(ConnectionClosed):
            await link.send(pack(dict(self._service.metadata)))
            while not self._stopping:
                message = await link.recv()
                if self._stopping:
                    break
                self._clients[link] = True
                if not await self._exchange(link, session, message, gone):
                    return
                if link in self._clients:
                    self._clients[link] = False
            await link.close(GOING_AWAY, GOODBYE)

    async def _exchange(
        self, link: ServerConnection, session: Session, message: str | bytes, gone: asyncio.Future[None]
    ) -> bool:
        """Answers one message; whether the connection goes on."""
        arrived = monotonic()
        answer = asyncio.ensure_future(self._answer(session, message))
        await asyncio.wait({answer, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            answer.cancel()
            return False
        reply = answer.result()
        await link.send(reply)
        if isinstance(reply, str):
            await link.close(FAILED, "see the text before")
            return False
        session.sent(monotonic() - arrived)
        return True

    async def _answer(self, session: Session, message: str | bytes) -> str | bytes:
        """The frame to send: bytes, or the one line of an error."""
        try:
            if isinstance(message, str):
                raise UserError("an observation is a binary frame, not a text")
            return pack(await session.answer(message))
        except UserError as error:
            return session.failed(" ".join(str(error).split()))
        except Exception as error:
            say(f"error while answering a client:\n{''.join(traceback.format_exception(error))}")
            debug = self._listening.debug
            return session.failed(f"the server failed: {error!r}" if debug else "the server failed; its log says why")

    async def _drain(self, server: Server) -> None:
        """No more connections; ends those that wait, and those that are being answered once they are."""
        self._stopping = True
        server.close(close_connections=False)
        closing = []
        for link in list(self._links):
            if link not in self._clients:
                link.transport.abort()
            elif not self._clients[link]:
                closing.append(asyncio.ensure_future(link.close(GOING_AWAY, GOODBYE)))
        try:
            async with asyncio.timeout(self._listening.drain):
                await server.wait_closed()
        except TimeoutError:
            say(f"gave up {len(self._clients)} clients that were not done after {self._listening.drain:g} s")
            for link in list(self._links):
                link.transport.abort()
            await server.wait_closed()
        await asyncio.gather(*closing, return_exceptions=True)
