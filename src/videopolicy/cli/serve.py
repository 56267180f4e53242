"""Serves a checkpoint to robots: a websocket server that speaks openpi's protocol, with limits, a token and metrics."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from videopolicy.configs import check_limits, limited
from videopolicy.errors import UserError
from videopolicy.policies.base import Precision
from videopolicy.processes import stop_signals

if TYPE_CHECKING:
    from videopolicy.policies.checkpoint import CheckpointPolicy
    from videopolicy.serving.limits import ActionLimits
    from videopolicy.serving.listening import Listening
    from videopolicy.serving.server import PolicyServer
    from videopolicy.serving.session import Service

TOKEN = "VIDEOPOLICY_TOKEN"
# Requests that are planned at once on a GPU; on a CPU it is one, as a batch is no faster there.
GPU_BATCH = 8
MOST = 10**6


@dataclass(frozen=True)
class Command:
    """Serve a checkpoint to robots and simulators, by websocket, until it is told to stop.

    Any client of openpi's can talk to it; see docs/serving.md for what it sends and is sent. It listens on this machine
    alone, unless told otherwise by --host; then use --token and, on a network of others, --certificate and --key.

    Example: videopolicy serve runs/button/checkpoint --style libero --limits training --max-age 0.5
    """

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """The checkpoint folder that training wrote."""
    host: str = "127.0.0.1"
    """Address to listen at; 0.0.0.0 is every interface of this machine."""
    port: int = limited(8000, 0, 65535)
    """Port to listen at; 0 takes one that is free."""
    style: str = "native"
    """Keys that the robot sends: native, libero, droid, aloha, or a .toml file (see docs/serving.md)."""
    page: int | None = limited(None, 0, 65535)
    """Port of a web page that shows what robots see, what is planned for them and how long it takes; 0: a free one."""
    token: str | None = None
    """What clients must show, as `Authorization: Api-Key TOKEN`; by default that in the variable VIDEOPOLICY_TOKEN."""
    certificate: Path | None = None
    """File with the TLS certificate, and those that vouch for it; clients then connect to wss://."""
    key: Path | None = None
    """File with the certificate's private key."""
    limits: str | None = None
    """Hold actions to the ranges of the training data (training), or to those in a .toml file."""
    max_age: float | None = limited(None, 0.001, MOST)
    """Seconds; an observation whose timestamp is older is refused."""
    max_size: float = limited(64, 0.01, 4096)
    """MiB that a message may have."""
    max_clients: int = limited(64, 1, 10_000)
    """Clients that may be connected at a time."""
    queue: int = limited(64, 1, MOST)
    """Requests that may wait at a time; one more is answered `busy`."""
    batch: int | None = limited(None, 1, 1024)
    """Requests that are planned at once, at most; by default 1 on a CPU, 8 on a GPU."""
    drain: float = limited(30, 0.1, 3600)
    """Seconds that requests have to finish when the server is told to stop."""
    seed: int = limited(0, 0, 2**63 - 1)
    """Seeds the noise of the plans of clients that send no seed."""
    imagine: bool = False
    """Send the imagined video, too, to clients that ask for it; the page shows it, drawn when no client waits."""
    mode: str = "exact"
    """exact, the checkpoint's own way to sample a plan, or another that `videopolicy tune` gave it."""
    precision: Precision = "float32"
    """Of the weights in memory; bfloat16 takes half of it."""
    compile: bool = False
    """Compile the video model; on a GPU, a plan is one CUDA graph. Minutes at the start, faster plans."""
    debug: bool = False
    """Tell clients of errors inside the server, and log broken connections."""

    def run(self) -> None:
        """Serves until SIGTERM or Ctrl-C; requests in flight then finish.

        Raises:
            UserError: a bad setting or checkpoint, a port that is taken, or an extra that is not installed.
        """
        check_limits(self)
        try:
            from videopolicy.serving.listening import Listening
            from videopolicy.serving.server import PolicyServer
        except ModuleNotFoundError as error:
            missing = (error.name or "").partition(".")[0]
            if missing in ("websockets", "msgpack"):
                raise UserError(f"serving needs {missing}: pip install 'videopolicy[serve]'") from error
            raise
        token = self._token()
        listening = Listening(
            host=self.host,
            port=self.port,
            token=token,
            tls=self._tls(),
            max_size=round(self.max_size * 2**20),
            max_clients=self.max_clients,
            drain=self.drain,
            debug=self.debug,
        )
        if token is None and not _is_loopback(self.host):
            print(f"note: whoever reaches {self.host} can use this server; give a --token")
        service = self._service()
        try:
            asyncio.run(self._serve(PolicyServer(service, listening), service, listening))
        finally:
            service.engine.close()

    def _service(self) -> "Service":
        """Opens the checkpoint and warms it up."""
        from videopolicy.cli._threads import choose_threads
        from videopolicy.policies.checkpoint import make

        choose_threads()
        policy = make(self.checkpoint, mode=self.mode, precision=self.precision, compile=self.compile)
        # Whoever connects says what to do.
        policy.model.text.stay_open()
        return self._opened(policy)

    def _opened(self, policy: "CheckpointPolicy") -> "Service":
        from videopolicy.durable import sha256
        from videopolicy.policies.benchmark import random_observations
        from videopolicy.serving.engine import Engine
        from videopolicy.serving.metadata import metadata
        from videopolicy.serving.observations import Reader, style
        from videopolicy.serving.page.latest import Latest
        from videopolicy.serving.session import Service

        spec, width = policy.spec, None if policy.origin is None else len(policy.origin)
        reader = Reader(style(self.style, spec), width, spec.state_layout)
        limits = self._limits(policy)
        for line in (*(f"note: {note}" for note in spec.notes), *reader.style.lines):
            print(line)
        batch = self.batch or (1 if policy.model.device.type == "cpu" else GPU_BATCH)
        engine = Engine(policy, batch=batch, queue=self.queue)
        engine.start(random_observations(policy, 1)[0])
        about = metadata(
            spec,
            reader.style,
            state_width=width,
            checkpoint=sha256(self.checkpoint / "model.safetensors"),
            limited=limits is not None,
            max_age=self.max_age,
            imagine=self.imagine,
        )
        return Service(
            engine,
            spec,
            reader,
            about,
            limits=limits,
            seed=self.seed,
            max_age=self.max_age,
            imagine=self.imagine,
            latest=None if self.page is None else Latest(spec.execute),
        )

    def _limits(self, policy: "CheckpointPolicy") -> "ActionLimits | None":
        from videopolicy.serving.limits import TRAINING, ActionLimits

        if self.limits is None:
            return None
        if self.limits == TRAINING:
            normalizer = policy.model.normalizer
            if normalizer is None:
                raise UserError("--limits training: this checkpoint has no ranges of actions; give a .toml file")
            print("note: the checkpoint keeps no step changes, so that actions are held to their ranges alone")
            limits = ActionLimits.of(normalizer, policy.model.config.relative)
        else:
            limits = ActionLimits.read(Path(self.limits))
        limits.check_width(policy.spec.action_width)
        return limits

    def _token(self) -> str | None:
        token = token_of(self.token)
        if token is not None and not (token.isascii() and token.isprintable() and token == token.strip() and token):
            raise UserError("a token is of printable ASCII characters, without blanks at its ends")
        return token

    def _tls(self) -> ssl.SSLContext | None:
        if (self.certificate is None) != (self.key is None):
            raise UserError("TLS takes both --certificate and --key")
        if self.certificate is None:
            return None
        for option, file in (("--certificate", self.certificate), ("--key", self.key)):
            if file is None or not file.is_file():
                raise UserError(f"{option} {file}: no such file")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        try:
            context.load_cert_chain(self.certificate, self.key)
        except ssl.SSLError as error:
            raise UserError(
                f"{self.certificate} and {self.key}: no certificate and its key ({error.reason})"
            ) from error
        return context

    async def _serve(self, server: "PolicyServer", service: "Service", listening: "Listening") -> None:
        stop, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in stop_signals():
            loop.add_signal_handler(number, stop.set)
        secure = "s" if listening.tls else ""
        host = f"[{self.host}]" if ":" in self.host else self.host

        def ready(port: int) -> None:
            # Whoever started it reads this line, perhaps through a pipe.
            print(f"serving {self.checkpoint} at ws{secure}://{host}:{port}", flush=True)

        async with self._page(service, listening) as port:
            if port is not None:
                print(f"page at http{secure}://{host}:{port}", flush=True)
            await server.run(stop, ready)

    @asynccontextmanager
    async def _page(self, service: "Service", listening: "Listening") -> AsyncIterator[int | None]:
        """The port of the page, if one is wanted."""
        if self.page is None or service.latest is None:
            yield None
            return
        from videopolicy.serving.page.server import LivePage

        name = "/".join(self.checkpoint.resolve().parts[-2:])
        async with LivePage(service, service.latest, replace(listening, port=self.page), name).open() as port:
            yield port


def token_of(given: str | None) -> str | None:
    """The token that was given, or else that of the environment; None if there is none."""
    return given if given is not None else os.environ.get(TOKEN)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
