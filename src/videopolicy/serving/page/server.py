"""The server of the page: one HTML that holds nothing of anybody's, and a websocket that fills it.

The HTML is the same for everybody, needs no other file, and is kept by its Content-Security-Policy from running or
fetching anything else. Its script opens a websocket and sends the token as the first message (an empty text if there
is none), before which it is sent nothing. So no cookie is needed, and no address with a token in it reaches the server.

A reader that is slow is sent less: each is sent the newest state when it has taken the one before.
"""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from http import HTTPStatus
from importlib.resources import files
from ipaddress import ip_address
from string import Template
from typing import Any
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from videopolicy.progress import say
from videopolicy.serving import page
from videopolicy.serving.listening import Listening, address, listen
from videopolicy.serving.page.imagining import Imagining
from videopolicy.serving.page.latest import Latest
from videopolicy.serving.page.state import Album, about, state
from videopolicy.serving.session import Service

# Pages that may be open at a time, and bytes of what one sends: a token.
READERS, MAX_SIZE = 16, 4096
# Seconds between two states at least; and so many times what making the last one took, so that it never takes much.
INTERVAL, SHARE = 0.4, 8.0
# How a page without the token is closed (RFC 6455, section 7.4.1).
FORBIDDEN = 1008


class LivePage:
    """Shows in browsers what a policy server does.

    Args:
        service: of that server; its `latest` is shown.
        latest: the same.
        listening: where, and with which token.
        name: of what is served.
    """

    def __init__(self, service: Service, latest: Latest, listening: Listening, name: str) -> None:
        self._service, self._latest = service, latest
        self._listening = replace(listening, max_size=MAX_SIZE, max_clients=READERS)
        self._about = json.dumps({"about": about(service, name)})
        self._html, self._policy = _html()
        self._album = Album()
        self._links: set[ServerConnection] = set()
        self._readers: set[asyncio.Task[None]] = set()
        # Set when somebody looks; and once for each state.
        self._watched, self._made = asyncio.Event(), asyncio.Event()
        self._state, self._pictures = "", dict[str, str]()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[int]:
        """Listens until it is left, without waiting for any reader; yields the port.

        Raises:
            UserError: nobody can listen there.
            Exception: what the policy raises when it imagines.
        """
        server = await listen(self._listening, self, self._handle, self._let_in, option="--page")
        tasks = [_task(self._make_states())]
        try:
            if self._service.imagine:
                imagining = Imagining(self._service.engine, self._latest, self._watched.is_set)
                await imagining.warm_up()
                tasks.append(_task(imagining.run()))
            yield next(iter(server.sockets)).getsockname()[1]
        finally:
            server.close(close_connections=False)
            tasks += self._readers
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for link in list(self._links):
                link.transport.abort()
            await server.wait_closed()

    def opened(self, link: ServerConnection) -> None:
        """Somebody has connected, and not said anything yet."""
        if len(self._links) >= self._listening.max_clients:
            link.transport.abort()
        self._links.add(link)

    def closed(self, link: ServerConnection) -> None:
        """A connection is gone, whatever it was."""
        self._links.discard(link)

    def _let_in(self, link: ServerConnection, request: Request) -> Response | None:
        if not self._is_own(request):
            return link.respond(HTTPStatus.FORBIDDEN, "open the page by the address of this machine\n")
        if "websocket" in request.headers.get("Upgrade", "").lower():
            return None
        if request.path.partition("?")[0] != "/":
            return link.respond(HTTPStatus.NOT_FOUND, "the page is at /\n")
        response = link.respond(HTTPStatus.OK, self._html)
        del response.headers["Content-Type"]
        response.headers.update(
            {
                "Content-Type": "text/html; charset=utf-8",
                "Content-Security-Policy": self._policy,
                "X-Content-Type-Options": "nosniff",
                "Referrer-Policy": "no-referrer",
                "Cache-Control": "no-store",
            }
        )
        return response

    def _is_own(self, request: Request) -> bool:
        """Whether a request is of this page, and of no other site's in the same browser."""
        hosts, origins = request.headers.get_all("Host"), request.headers.get_all("Origin")
        if len(hosts) != 1 or len(origins) > 1 or not all(origin.partition("://")[2] == hosts[0] for origin in origins):
            return False
        try:
            host = urlsplit(f"//{hosts[0]}").hostname or ""
        except ValueError:
            return False
        # Any name may be made to lead here, by whoever owns it; without a token that would be enough.
        return self._listening.token is not None or host in ("localhost", self._listening.host) or _is_address(host)

    async def _handle(self, link: ServerConnection) -> None:
        """Sends states to one reader for as long as it takes them."""
        with suppress(ConnectionClosed, TimeoutError, asyncio.CancelledError):
            given = await asyncio.wait_for(link.recv(), self._listening.opening)
            if not isinstance(given, str) or not self._listening.admits(given):
                self._service.note("refused", words=f"{address(link)}: no token for the page, or a wrong one")
                await link.close(FORBIDDEN, "a token is needed")
                return
            sending = asyncio.create_task(self._send(link))
            self._readers.add(sending)
            try:
                await sending
            finally:
                self._readers.discard(sending)

    async def _send(self, link: ServerConnection) -> None:
        await link.send(self._about)
        has: set[str] = set()
        while True:
            self._watched.set()
            await self._made.wait()
            text, pictures = self._state, self._pictures
            new = json.dumps({name: picture for name, picture in pictures.items() if name not in has})
            has = set(pictures)
            await link.send(f'{{"state":{text},"pictures":{new}}}')

    async def _make_states(self) -> None:
        """Makes the state again and again while somebody looks, in little of the time."""
        while True:
            if not self._readers:
                self._watched.clear()
            await self._watched.wait()
            begun = time.monotonic()
            values, pictures = state(self._service, self._latest, self._service.engine.clients)
            self._state = json.dumps(values)
            self._pictures = await asyncio.to_thread(self._album.encode, pictures, self._service.spec.size)
            made, self._made = self._made, asyncio.Event()
            made.set()
            await asyncio.sleep(max(INTERVAL, SHARE * (time.monotonic() - begun)))


def _task(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Runs beside the server, which goes on if this fails."""

    def ended(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            say(f"the page failed, and is not brought up to date any more: {error!r}")

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    return task


def _html() -> tuple[str, str]:
    """The page, and the Content-Security-Policy that lets it do no more than it does."""
    style, script, html = (
        files(page).joinpath(name).read_text(encoding="utf-8") for name in ("page.css", "page.js", "page.html")
    )
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    policy = (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; img-src data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return Template(html).substitute(style=style, script=script), policy


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True
