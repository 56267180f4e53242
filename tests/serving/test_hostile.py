"""Whatever is sent, the server answers or closes, and serves the others meanwhile."""

import asyncio
import random
import resource
import socket
import time
from contextlib import ExitStack, contextmanager

import msgpack
import numpy as np
import pytest
from tests.serving.serving import Drawn, Talk, running, seen, service
from websockets.exceptions import ConnectionClosed

from videopolicy.client.wire import pack
from videopolicy.errors import UserError
from videopolicy.serving.session import Session

MESSAGES = 10_000
SMALL = np.zeros((4, 4, 3), np.uint8)
HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
ARRAY = {b"__ndarray__": True, b"data": b"\0" * 48, b"dtype": "|u1", b"shape": [4, 4, 3]}
# What stands where an array, a text or a number should.
ODD = (
    None, True, -1, 2**63, 0.5, float("nan"), float("inf"), "", "x" * 300, b"\xff\xfe", [], [[[]]], {}, {"a": {}},
    {1: 2}, {b"__ndarray__": True}, [1, "a"],
    ARRAY | {b"shape": [10**9, 10**9]}, ARRAY | {b"shape": [-4, 4, 3]}, ARRAY | {b"shape": [0] * 60},
    ARRAY | {b"shape": "4"}, ARRAY | {b"dtype": "|O"}, ARRAY | {b"dtype": "<c8"}, ARRAY | {b"dtype": "|V16"},
    ARRAY | {b"dtype": "<U4"}, ARRAY | {b"dtype": 3}, ARRAY | {b"data": "text"}, ARRAY | {b"data": b""},
    {b"__npgeneric__": True, b"data": "x", b"dtype": "<f8"}, msgpack.ExtType(5, b"abc"),
)  # fmt: skip
KEYS = ("top", "instruction", "state", "seed", "timestamp", "planned", "committed", "imagine", "endpoint", "other")


def nested(depth):
    return b"\x91" * depth + b"\xc0"


def hostile(count, seed=0):
    """Messages that are wrong in many ways, and a few that are right."""
    rng = random.Random(seed)
    right = pack({"top": SMALL, "instruction": "reach", "seed": 3})
    for _ in range(count):
        how = rng.randrange(6)
        if how == 0:
            yield rng.randbytes(rng.randrange(80))
        elif how == 1:
            broken = bytearray(right)
            for _ in range(rng.randrange(1, 6)):
                broken[rng.randrange(len(broken))] = rng.randrange(256)
            yield bytes(broken)
        elif how == 2:
            yield right[: rng.randrange(len(right))]
        elif how == 3:
            yield nested(rng.choice((10, 100, 5000)))
        else:
            message = {"top": ARRAY, "instruction": "reach"}
            for key in rng.sample(KEYS, rng.randrange(1, 4)):
                message[key] = rng.choice(ODD)
            yield msgpack.packb(message)


def test_ten_thousand_wrong_messages_get_an_answer_or_a_line_each():
    served = service(Drawn())

    async def answer_all():
        outcomes = {"line": 0, "answer": 0}
        for number, data in enumerate(hostile(MESSAGES)):
            try:
                reply = await Session(served, number).answer(data)
            except UserError as error:
                assert "\n" not in str(error) or len(str(error)) < 1000
                outcomes["line"] += 1
            else:
                assert {"actions", "error", "reset"} & set(reply)
                outcomes["answer"] += 1
        return outcomes

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = asyncio.run(answer_all())
    served.engine.close()
    assert sum(outcomes.values()) == MESSAGES and outcomes["line"] > MESSAGES / 2 and outcomes["answer"] > 100
    # Kilobytes.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@contextmanager
def serving(**listening):
    with running(service(Drawn()), **listening) as port, Talk(port) as good:
        yield port, lambda: good.ask(seen())["actions"]


def raw(port, data=b""):
    link = socket.create_connection(("127.0.0.1", port), 30)
    link.sendall(data)
    return link


def closes(link):
    """Whether the other side ends the connection."""
    link.settimeout(60)
    try:
        while link.recv(4096):
            pass
    except ConnectionResetError:
        pass
    link.close()
    return True


def test_wrong_messages_over_the_wire_end_their_own_connection_alone():
    with serving() as (port, ask):
        for number, data in enumerate(hostile(150, seed=1)):
            with Talk(port) as bad:
                answer = bad.ask(data)
                if isinstance(answer, str):
                    with pytest.raises(ConnectionClosed):
                        bad.receive()
            if number % 10 == 0:
                assert ask().shape == (4, 2)


def test_a_message_that_is_too_long_is_not_even_read():
    with serving(max_size=10_000) as (port, ask):
        with Talk(port) as bad, pytest.raises(ConnectionClosed) as closed:
            bad.ask(b"\0" * 20_000)
        assert closed.value.rcvd.code == 1009
        assert ask().shape == (4, 2)


def test_whoever_is_silent_slow_or_half_there_is_given_up():
    with serving(ping=0.5, opening=0.5) as (port, ask):
        links = [
            # Nothing at all; half a handshake; a handshake and no answer to pings; half a frame.
            raw(port),
            raw(port, HANDSHAKE[:40]),
            raw(port, HANDSHAKE),
            raw(port, HANDSHAKE + b"\x82\xfe\x10\x00\0\0\0\0" + b"\0" * 100),
        ]
        drip = raw(port, HANDSHAKE + b"\x82\xfe\x10\x00\0\0\0\0")
        for _ in range(3):
            drip.sendall(b"\0")
            assert ask().shape == (4, 2)
        assert all(closes(link) for link in (*links, drip))
        assert ask().shape == (4, 2)


@pytest.mark.parametrize(
    "data", [b"\0" * 100_000, b"GET / HTTP/1.1\r\nA: " + b"a" * 100_000, b"POST / HTTP/1.1\r\n\r\n", HANDSHAKE * 3]
)
def test_what_is_no_handshake_is_closed(data):
    with serving(ping=0.5, opening=0.5) as (port, ask):
        link = socket.create_connection(("127.0.0.1", port), 30)
        try:
            link.sendall(data)
        except (ConnectionResetError, BrokenPipeError):
            link.close()
        else:
            assert closes(link)
        assert ask().shape == (4, 2)


def test_a_flood_of_connections_does_not_shut_out_a_client_that_is_there():
    with serving(max_clients=4, opening=1.0) as (port, ask), ExitStack() as stack:
        for _ in range(120):
            stack.enter_context(raw(port))
        for _ in range(5):
            assert ask().shape == (4, 2)
    # And one that comes later finds room again, as those who say nothing are put out.
    with serving(max_clients=4, opening=0.3) as (port, ask), ExitStack() as stack:
        for _ in range(120):
            stack.enter_context(raw(port))
        time.sleep(1)
        with Talk(port) as later:
            assert "actions" in later.ask(seen())


def test_a_client_that_never_reads_is_not_waited_for():
    with serving(ping=0.5) as (port, ask):
        frame = pack(seen())
        link = raw(port, HANDSHAKE)
        link.settimeout(0.2)
        masked = b"\x82\xfe" + len(frame).to_bytes(2, "big") + b"\0\0\0\0" + frame
        try:
            for _ in range(2000):
                link.sendall(masked)
        except (TimeoutError, ConnectionResetError, BrokenPipeError):
            pass
        assert ask().shape == (4, 2)
        link.close()
