"""A server in a thread, policies that need no network, and the little of a client that the tests need."""

import asyncio
from contextlib import contextmanager
from threading import Event, Thread

import numpy as np
from websockets.sync.client import connect

from videopolicy.client.wire import pack, unpack
from videopolicy.policies.base import PolicySpec
from videopolicy.policies.random import RandomPolicy
from videopolicy.serving.engine import Engine
from videopolicy.serving.listening import Listening
from videopolicy.serving.metadata import metadata
from videopolicy.serving.observations import Reader, Style
from videopolicy.serving.server import PolicyServer
from videopolicy.serving.session import Service
from videopolicy.types import Observation

IMAGE = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3).astype(np.uint8)
STYLE = Style({"top": "top"}, ("state",))


class Drawn(RandomPolicy):
    """Random actions from one view; what the instruction says may go wrong, and it may have to wait."""

    def __init__(self, width=2):
        super().__init__(width)
        self.spec = PolicySpec(views=("top",), size=32, action_width=width, chunk=4, execute=2, tasks=("reach",))
        self.go, self.begun, self.batches = Event(), Event(), []
        self.go.set()

    def plan(self, observations, seeds, imagine):
        self.batches.append(list(seeds))
        self.begun.set()
        assert self.go.wait(60)
        words = [observation.instruction for observation in observations]
        if "break" in words:
            raise RuntimeError("secret of the inside")
        plans = super().plan(observations, seeds, imagine)
        for plan, said in zip(plans, words, strict=True):
            if said == "nan":
                plan.actions[1, 0] = np.nan
        return plans


def seen(instruction="reach", **more):
    return {"top": IMAGE, "instruction": instruction, **more}


def service(policy, *, batch=1, queue=64, state_width=None, style=STYLE, **more) -> Service:
    """With an engine that is warm."""
    engine = Engine(policy, batch=batch, queue=queue)
    images = {view: np.zeros((policy.spec.size, policy.spec.size, 3), np.uint8) for view in policy.spec.views}
    engine.start(Observation(images, "go", None if state_width is None else np.zeros(state_width, np.float32)))
    about = metadata(
        policy.spec, style, state_width=state_width, checkpoint="abc", limited=False, max_age=None, imagine=False
    )
    return Service(engine, policy.spec, Reader(style, state_width), about, **more)


@contextmanager
def running(served: Service, port=0, **listening):
    """A server in a thread, at a free port unless one is given; yields the port."""
    stop, ready, state = Event(), Event(), {}

    async def main():
        ending = asyncio.Event()
        state.update(loop=asyncio.get_running_loop(), stop=ending)

        def told(port):
            state["port"] = port
            ready.set()

        await PolicyServer(served, Listening(port=port, **listening)).run(ending, told)

    thread = Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(30)
    try:
        yield state["port"]
    finally:
        stop.set()
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(60)
        served.engine.close()
        assert not thread.is_alive()


class Talk:
    """A client of the protocol, no more."""

    def __init__(self, port, **options):
        self.socket = connect(f"ws://127.0.0.1:{port}", compression=None, max_size=None, **options)
        self.metadata = unpack(self.socket.recv(timeout=60))

    def ask(self, message):
        self.send(message)
        return self.receive()

    def send(self, message):
        self.socket.send(message if isinstance(message, bytes | str) else pack(message))

    def receive(self):
        answer = self.socket.recv(timeout=60)
        return answer if isinstance(answer, str) else unpack(answer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()
