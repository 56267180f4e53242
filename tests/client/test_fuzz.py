"""Whatever bytes come, there is a value or a WireError, soon and in little memory."""

import random
import tracemalloc
from time import perf_counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.client.test_wire import BAD, OPENPI

from videopolicy.client.wire import WireError, pack, unpack

VALID = [
    *(message for message, _ in OPENPI.values()),
    pack({"observation/image": np.zeros((4, 5, 3), np.uint8), "observation/state": np.zeros(7, ">f8"), "prompt": "go"}),
    pack(
        {
            "a": [np.float32(1), np.bool_(True), None, {"b": {"c": [1, -1, 2**63, 1.5, b"x", "é"]}}],
            "d": np.zeros((0, 3)),
        }
    ),
    pack({"endpoint": "reset"}),
]
# Bytes that begin something: they hit more than others do.
HEADS = bytes([*range(0x80, 0xA4), *range(0xC0, 0xE0), 0x00, 0x7F, 0xFF])
COUNT = 5_000


def mutated(draw: random.Random) -> bytes:
    """A valid or a nearly valid message, broken in one to four places."""
    message = bytearray(draw.choice(VALID if draw.random() < 0.8 else [b for b in BAD.values() if len(b) < 1000]))
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(message) + 1)
        match draw.randrange(6):
            case 0:
                message[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                message[at : at + 1] = bytes([draw.choice(HEADS)])
            case 2:
                del message[at : at + draw.randint(1, 8)]
            case 3:
                message[at:at] = draw.randbytes(draw.randint(1, 8))
            case 4:
                other = draw.choice(VALID)
                start = draw.randrange(len(other))
                message[at:at] = other[start : start + draw.randint(1, 40)]
            case _:
                message[at:at] = bytes([draw.choice(HEADS)]) * draw.randint(1, 40)
    return bytes(message)


def tried(message: bytes) -> bool:
    """Whether a message is a value; a value must be one that can be sent again."""
    try:
        value = unpack(message)
    except WireError as error:
        assert str(error)
        return False
    pack(value)
    return True


@pytest.mark.parametrize("seed", range(3))
def test_broken_messages(seed):
    draw = random.Random(seed)
    messages = [mutated(draw) for _ in range(COUNT)]
    tracemalloc.start()
    began = perf_counter()
    values = sum(map(tried, messages))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Some mutations leave a message whole: all of them refused would mean that nothing was tried.
    assert COUNT / 100 < values < COUNT / 2
    assert peak < 1 << 20
    assert perf_counter() - began < 60


def test_random_bytes():
    draw = random.Random(0)
    for _ in range(COUNT):
        length = draw.randint(0, 64)
        tried(draw.randbytes(length) if draw.random() < 0.5 else bytes(draw.choices(HEADS, k=length)))


@settings(max_examples=200)
@given(st.binary(max_size=200) | st.lists(st.sampled_from(VALID) | st.binary(max_size=3)).map(b"".join))
def test_bytes_that_hypothesis_chooses(message):
    tried(message)
