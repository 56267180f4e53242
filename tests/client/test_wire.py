"""The form on the wire: what goes in comes out, openpi's programs read it, and nothing else is let in."""

import importlib
import sys
import tracemalloc
from time import perf_counter

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from tests.client.servers import array

from videopolicy.client.wire import MAX_DEPTH, MAX_VALUES, WireError, pack, unpack

KINDS = ["b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"]
DTYPES = [np.dtype(order + kind) for order in "<>" for kind in KINDS]
ARRAYS = st.sampled_from(DTYPES).flatmap(
    lambda d: npst.arrays(d, npst.array_shapes(min_dims=0, min_side=0, max_side=4))
)
PLAIN = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
VALUES = st.recursive(
    PLAIN | ARRAYS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)

# Written down from messages of openpi-client 0.1.2, for where that is not installed.
OPENPI = {
    "array": (
        b"\x81\xa1a\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x08\x00\x00\x80?\x00\x00\x00@"
        b"\xc4\x05dtype\xa3<f4\xc4\x05shape\x91\x02",
        {"a": np.float32([1, 2])},
    ),
    "scalar": (
        b"\x81\xa1s\x83\xc4\r__npgeneric__\xc3\xc4\x04data\xfd\xc4\x05dtype\xa3<i2",
        {"s": np.int16(-3)},
    ),
    "image": (
        b"\x82\xa6prompt\xa2go\xa5image\x84\xc4\x0b__ndarray__\xc3\xc4\x04data\xc4\x06\x00\x01\x02\x03\x04\x05"
        b"\xc4\x05dtype\xa3|u1\xc4\x05shape\x93\x01\x02\x03",
        {"prompt": "go", "image": np.arange(6, dtype=np.uint8).reshape(1, 2, 3)},
    ),
}


def same(one: object, other: object) -> bool:
    """Whether two values agree in type, dtype, shape and every bit."""
    if isinstance(one, dict):
        return isinstance(other, dict) and list(one) == list(other) and all(same(one[k], other[k]) for k in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, np.ndarray | np.generic):
        return one.dtype == other.dtype and np.shape(one) == np.shape(other) and one.tobytes() == other.tobytes()
    return type(one) is type(other) and (one == other or one != one)


@given(VALUES)
def test_what_goes_in_comes_out(value):
    assert same(value, unpack(pack(value)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (2, 3)])
def test_an_array_of_any_dtype_and_shape_comes_out(dtype, shape):
    given = (np.arange(np.prod(shape, dtype=int)) % 2).astype(dtype).reshape(shape)
    assert same(given, unpack(pack(given)))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_scalar_keeps_its_type(dtype):
    scalar = dtype.type(1)
    back = unpack(pack(scalar))
    # A float64 is a Python float too, and travels as one, as it does in openpi.
    assert back == scalar and type(back) is (float if isinstance(scalar, float) else type(scalar))


def test_what_is_not_contiguous_comes_out_in_order():
    given = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    for view in (given.T, given[:, ::-1, ::2], np.asfortranarray(given[0]), np.broadcast_to(given[0, 0], (2, 4))):
        assert same(np.ascontiguousarray(view), unpack(pack(view)))


def test_arrays_are_read_only_and_keep_nothing_of_the_message():
    message = bytearray(pack(np.arange(3)))
    back = unpack(message)
    message[:] = bytes(len(message))
    assert list(back) == [0, 1, 2] and not back.flags.writeable


@pytest.mark.parametrize("name", OPENPI)
def test_messages_of_openpi_are_ours(name):
    message, value = OPENPI[name]
    assert pack(value) == message
    assert same(value, unpack(message))


@given(VALUES)
def test_openpis_codec_and_ours_read_each_other(value):
    pytest.importorskip("openpi_client")
    theirs = importlib.import_module("openpi_client.msgpack_numpy")
    assert pack(value) == theirs.packb(value)
    assert same(value, theirs.unpackb(pack(value)))
    assert same(value, unpack(theirs.packb(value)))


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([None, "x"], dtype=object),
        np.complex64(1),
        np.zeros(2, "complex128"),
        np.zeros(2, [("a", "f4")]),
        np.void(b"abc"),
        np.array("text"),
        np.array([b"bytes"]),
        np.datetime64("2020-01-01"),
        np.zeros(1, np.longdouble),
        {1: 2},
        {b"key": 2},
        {1},
        object(),
        2**64,
        "\ud800",
        [[]] * MAX_VALUES,
    ],
    ids=lambda value: f"{type(value).__name__}-{getattr(value, 'dtype', '')}",
)
def test_what_has_no_form_is_not_sent(value):
    with pytest.raises(WireError):
        pack({"value": value})


def test_a_value_within_itself_is_not_sent():
    endless = []
    endless.append(endless)
    with pytest.raises(WireError, match="deep"):
        pack(endless)


def nested(levels: int, inner: object = None) -> object:
    for _ in range(levels):
        inner = [inner]
    return inner


def test_depth_is_bounded_alike_on_both_ends():
    deepest = nested(MAX_DEPTH, np.zeros(2))
    assert unpack(pack(deepest))
    with pytest.raises(WireError, match="deep"):
        pack([deepest])
    with pytest.raises(WireError, match="deep"):
        unpack(msgpack.packb(nested(400)))


def raw(**changes: object) -> bytes:
    """An array's message with some of its entries replaced, or left out where None."""
    entries = {**array([2, 3], bytes(24)), **{key.encode(): value for key, value in changes.items()}}
    return msgpack.packb({key: value for key, value in entries.items() if value is not None})


BAD = {
    "object": raw(dtype="|O"),
    "void": raw(dtype="|V4"),
    "complex": raw(dtype="<c8", shape=[3]),
    "fields": raw(dtype="f4,f4", shape=[3]),
    "absurdly long text": raw(dtype="<U99999999999"),
    "text": raw(dtype="<U1"),
    "unknown dtype": raw(dtype="rm -rf"),
    "dtype in bytes": raw(dtype=b"<f4"),
    "dtype a list": raw(dtype=[["a", "<f4"]]),
    "date": raw(dtype="<M8[s]", shape=[3]),
    "long double": raw(dtype="<f16", shape=[]),
    "too little data": raw(shape=[2, 4]),
    "too much data": raw(shape=[2, 2]),
    "negative": raw(shape=[-2, -3]),
    "minus one": raw(shape=[-1, 3]),
    "huge": raw(shape=[2**62, 2**62]),
    "overflow to the right size": raw(shape=[2**63, 2, 3]),
    "huge and empty": raw(shape=[0, 2**62], data=b""),
    "large and empty": raw(shape=[0, 2**13, 2**13], data=b""),
    "many dimensions": raw(shape=[1] * 33, data=bytes(4)),
    "shape of floats": raw(shape=[2.0, 3.0]),
    "shape of booleans": raw(shape=[True, 6]),
    "shape a number": raw(shape=6),
    "shape a map": raw(shape={"a": 6}),
    "data as text": raw(data="x" * 24),
    "data a list": raw(data=[0] * 24),
    "mark false": raw(__ndarray__=False),
    "mark a number": raw(__ndarray__=1),
    "no dtype": raw(dtype=None),
    "no data": raw(data=None),
    "one entry more": raw(more=1),
    "booleans of 2": raw(dtype="|b1", data=b"\x02" * 6),
    "scalar out of range": msgpack.packb({b"__npgeneric__": True, b"data": 300, b"dtype": "|i1"}),
    "scalar of text": msgpack.packb({b"__npgeneric__": True, b"data": "1", b"dtype": "<f4"}),
    "scalar of a list": msgpack.packb({b"__npgeneric__": True, b"data": [1], b"dtype": "<f4"}),
    "scalar object": msgpack.packb({b"__npgeneric__": True, b"data": 1, b"dtype": "|O"}),
    "int keys": msgpack.packb({1: 2}),
    "bytes keys": msgpack.packb({b"a": 2}),
    "array as key": b"\x81" + msgpack.packb(array([0], b"")) + b"\x01",
    "list as key": b"\x81\x90\x01",
    "nil as key": b"\x81\xc0\x01",
    "key twice": b"\x82\xa1a\x01\xa1a\x02",
    "no utf-8": b"\xa2\xff\xfe",
    "key no utf-8": b"\x81\xa1\xff\x01",
    "empty": b"",
    "trailing": b"\x01\x01",
    "reserved": b"\xc1",
    "ext": msgpack.packb(msgpack.ExtType(5, b"x")),
    "timestamp": msgpack.packb(msgpack.Timestamp(1)),
    "short, says long list": b"\xdd\xff\xff\xff\xff",
    "short, says long map": b"\xdf\xff\xff\xff\xff",
    "short, says long text": b"\xdb\xff\xff\xff\xff",
    "short, says long bytes": b"\xc6\xff\xff\xff\xff",
    "short, nested long lists": b"\xdd\x00\x00\x00\x10" * 4,
    "many empty maps": b"\xdd\x00\x10\x00\x00" + b"\x80" * 0x100000,
}


@pytest.mark.parametrize("name", BAD)
def test_a_message_against_the_rules_is_refused(name):
    with pytest.raises(WireError) as caught:
        unpack(BAD[name])
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_text_is_no_message():
    with pytest.raises(WireError):
        unpack("text")


@pytest.mark.parametrize("name", OPENPI)
def test_a_message_cut_anywhere_is_refused(name):
    message, _ = OPENPI[name]
    for end in range(len(message)):
        with pytest.raises(WireError):
            unpack(message[:end])


def test_a_message_costs_memory_and_time_by_its_length():
    """Nested headers that each say "as many as the message has bytes", and lists of nothing but empty maps."""
    size = 1 << 20
    header = b"\xdd" + size.to_bytes(4, "big")
    messages = [(header * (size // 5))[:size], header + b"\x80" * size, header + b"\xa1a" * (size // 2), bytes(size)]
    for message in messages:
        tracemalloc.start()
        began = perf_counter()
        with pytest.raises(WireError):
            unpack(message)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 3 * size
        assert perf_counter() - began < 5


def test_a_large_array_is_not_copied_often():
    image = np.zeros((8 << 20,), np.uint8)
    message = pack(image)
    tracemalloc.start()
    unpack(message)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1.5 * image.nbytes


def test_the_codec_loads_nothing_of_the_rest():
    assert "videopolicy.client.wire" in sys.modules
    wire = importlib.import_module("videopolicy.client.wire")
    assert not any(name.startswith("torch") for name in vars(wire))
