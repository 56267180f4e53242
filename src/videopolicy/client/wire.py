"""What goes over the wire: values and numpy arrays as one msgpack message, in the form that openpi's programs use.

An array is a map with bytes as keys: `b"__ndarray__"` (true), `b"data"` (its bytes in C order), `b"dtype"` (as `"<f4"`)
and `b"shape"`. A numpy scalar is one with `b"__npgeneric__"` (true), `b"data"` (a plain number) and `b"dtype"`. All
other maps have text as keys. Nothing is unpickled or evaluated, and a message takes no more memory than a few times its
own length, plus what `MAX_VALUES` values of Python's take.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import msgpack
import numpy as np

# Levels of maps and lists, one within the other; an array is two of them.
MAX_DEPTH = 16
# Numbers, texts, maps and so on in a message. An array counts as a dozen of them, however large it is.
MAX_VALUES = 1 << 16
# Of an array without elements, how many it would have if its dimensions of length 0 were left out.
MAX_EMPTY = 1 << 24

_NDARRAY, _SCALAR, _DATA, _DTYPE, _SHAPE = b"__ndarray__", b"__npgeneric__", b"data", b"dtype", b"shape"
_ARRAY_KEYS = {_NDARRAY, _DATA, _DTYPE, _SHAPE}
_SCALAR_KEYS = {_SCALAR, _DATA, _DTYPE}
_KINDS = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_DTYPES = {order + kind: np.dtype(order + kind) for kind in _KINDS for order in ("<", ">", "=", "|")}
_MAX_DIMENSIONS = 32

# By the first byte of a value: how many bytes follow it, or give the length of what follows.
_FIXED = {0xC0: 0, 0xC2: 0, 0xC3: 0, 0xCA: 4, 0xCB: 8}
_FIXED.update({first: 1 << (first & 3) for first in (*range(0xCC, 0xD0), *range(0xD0, 0xD4))})
_FIXED.update(dict.fromkeys((*range(0x80), *range(0xE0, 0x100)), 0))
_BYTES = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_LISTS = {0xDC: 2, 0xDD: 4}
_MAPS = {0xDE: 2, 0xDF: 4}


class WireError(ValueError):
    """A message that is not in the wire's form, or a value that has no such form; says what was wrong, in a line."""


def pack(value: object) -> bytes:
    """One message.

    Args:
        value: None, bool, int of 64 bits, float, str, bytes, numpy arrays and scalars of booleans, integers and floats
            of up to 64 bits in either byte order, and lists, tuples and maps (with str as keys) of these. A tuple
            arrives as a list, and a `numpy.float64`, which is a Python float too, as a float.

    Raises:
        WireError: something else is in it, or it is beyond the limits above.
    """
    try:
        message = msgpack.packb(_plain(value, MAX_DEPTH), use_bin_type=True)
    except WireError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise WireError(f"cannot be sent: {_line(error)}") from error
    assert isinstance(message, bytes)
    _check_form(message)
    return message


def unpack(data: bytes) -> object:
    """What a message says: the inverse of `pack`. Arrays are read-only views of bytes that belong to them alone.

    Raises:
        WireError: the message is broken, incomplete, too deep, has something after its end, or breaks a rule of the
            form. There is no other error, whatever the bytes are.
    """
    if not isinstance(data, (bytes, bytearray, memoryview)):
        raise WireError(f"a message is bytes, not {type(data).__name__}")
    data = bytes(data)
    _check_form(data)
    try:
        return msgpack.unpackb(data, raw=False, strict_map_key=True, object_pairs_hook=_from_pairs)
    except WireError:
        raise
    except (ValueError, TypeError, OverflowError, msgpack.exceptions.UnpackException) as error:
        raise WireError(f"not a message: {_line(error)}") from error


def _plain(value: object, depth: int) -> object:
    """The same value in msgpack's own types."""
    if value is None or isinstance(value, (bool, int, float, str, bytes)):
        return value
    if isinstance(value, (np.ndarray, np.generic)):
        return _plain_array(value)
    if depth == 0:
        raise WireError(f"maps and lists are more than {MAX_DEPTH} levels deep")
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise WireError(f"a map's keys must be text, not {type(key).__name__}")
        return {key: _plain(entry, depth - 1) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry, depth - 1) for entry in value]
    raise WireError(f"{type(value).__name__} cannot be sent; numpy arrays, numbers, text, lists and maps can")


def _plain_array(array: np.ndarray | np.generic) -> dict[bytes, object]:
    dtype = array.dtype.str
    if dtype not in _DTYPES:
        raise WireError(f"arrays of {array.dtype} cannot be sent; booleans, integers and floats of up to 64 bits can")
    if isinstance(array, np.ndarray):
        return {_NDARRAY: True, _DATA: array.tobytes(), _DTYPE: dtype, _SHAPE: list(array.shape)}
    return {_SCALAR: True, _DATA: array.item(), _DTYPE: dtype}


def _from_pairs(pairs: Sequence[tuple[object, object]]) -> object:
    """A map of the message: a plain one, an array or a scalar."""
    entries = dict(pairs)
    if len(entries) != len(pairs):
        raise WireError("a map has a key twice")
    if all(isinstance(key, str) for key in entries):
        return entries
    keys = set(entries)
    if keys == _ARRAY_KEYS and entries[_NDARRAY] is True:
        return _array(entries[_DATA], _dtype(entries[_DTYPE]), entries[_SHAPE])
    if keys == _SCALAR_KEYS and entries[_SCALAR] is True:
        return _scalar(entries[_DATA], _dtype(entries[_DTYPE]))
    raise WireError("a map has bytes as keys, but is neither an array nor a scalar of numpy's")


def _dtype(name: object) -> np.dtype:
    dtype = _DTYPES.get(name) if isinstance(name, str) else None
    if dtype is None:
        raise WireError(f"dtype {str(name)[:20]!r} of an array; booleans, integers and floats are right, such as '<f4'")
    return dtype


def _array(data: object, dtype: np.dtype, shape: object) -> np.ndarray:
    if not isinstance(data, bytes):
        raise WireError("an array's data must be bytes")
    if not isinstance(shape, list) or len(shape) > _MAX_DIMENSIONS:
        raise WireError(f"an array's shape must be a list of at most {_MAX_DIMENSIONS} lengths")
    if not all(type(length) is int and 0 <= length < 1 << 63 for length in shape):
        raise WireError("an array's shape must be of whole numbers that are not negative")
    if math.prod(shape) * dtype.itemsize != len(data):
        raise WireError(f"an array's shape and dtype do not go with its {len(data)} bytes")
    if not data and math.prod(length for length in shape if length) > MAX_EMPTY:
        raise WireError("an array without elements has too large a shape")
    # Bytes that are neither 0 nor 1 would be booleans that are neither true nor false.
    if dtype.kind == "b" and data.strip(b"\x00\x01"):
        raise WireError("an array of booleans has other bytes than 0 and 1")
    return np.ndarray(shape=tuple(shape), dtype=dtype, buffer=data)


def _scalar(number: object, dtype: np.dtype) -> np.generic:
    if dtype.kind == "b":
        right = isinstance(number, bool)
    elif dtype.kind == "f":
        right = type(number) in (int, float)
    else:
        limits = np.iinfo(dtype)
        right = type(number) is int and limits.min <= number <= limits.max
    if not right:
        raise WireError(f"a scalar of dtype {dtype} has a value that is none")
    # Too large a number for a narrow float is infinity, and no reason for a warning.
    with np.errstate(over="ignore"):
        return dtype.type(number)


def _check_form(data: bytes) -> None:
    """Refuses what must not be built at all, before anything is: by the lengths alone, and in bounded time.

    Otherwise a short message of nested or empty lists would become a thousand times as much memory.
    """
    at, end, values = 0, len(data), 0
    # Of every list and map that is open, how many values it still lacks.
    open_lists = [1]
    while open_lists:
        if open_lists[-1] == 0:
            open_lists.pop()
            continue
        open_lists[-1] -= 1
        values += 1
        if at >= end:
            raise WireError("the message ends before it is complete")
        if values > MAX_VALUES:
            raise WireError(f"the message has more than {MAX_VALUES} values")
        at, children = _skip(data, at)
        if children is not None:
            if children > end - at:
                raise WireError("the message ends before it is complete")
            open_lists.append(children)
            if len(open_lists) > MAX_DEPTH + 3:
                raise WireError(f"maps and lists are more than {MAX_DEPTH} levels deep")
    if at != end:
        raise WireError(f"{end - at} bytes after the end of the message" if at < end else "the message is cut off")


def _skip(data: bytes, at: int) -> tuple[int, int | None]:
    """Where the value at a place ends; of a list or map, where its values begin and how many there are."""
    first = data[at]
    at += 1
    if first in _FIXED:
        return at + _FIXED[first], None
    if 0xA0 <= first < 0xC0:
        return at + (first & 0x1F), None
    if 0x90 <= first < 0xA0:
        return at, first & 0x0F
    if 0x80 <= first < 0x90:
        return at, 2 * (first & 0x0F)
    for kinds in (_BYTES, _LISTS, _MAPS):
        if first in kinds:
            after = at + kinds[first]
            length = int.from_bytes(data[at:after], "big")
            if kinds is _BYTES:
                return after + length, None
            return after, length if kinds is _LISTS else 2 * length
    raise WireError(f"a value of a kind that the wire does not have (0x{first:02x})")


def _line(error: Exception) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
