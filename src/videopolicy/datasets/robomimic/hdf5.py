"""Looks into an HDF5 file without trusting it: nothing outside the file is read, and damage is named."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5l  # pyright: ignore[reportAttributeAccessIssue]

from videopolicy.errors import UserError

Array = np.ndarray[Any, np.dtype[Any]]


@contextmanager
def opened(file: Path) -> Iterator[h5py.File]:
    """A file to read from, closed afterwards: a handle that outlived this would be shared by forked processes.

    Raises:
        UserError: no such file, or libhdf5 cannot read what is asked of it; the message names the file.
    """
    with named(file), h5py.File(file, "r", locking="best-effort") as root:
        yield root


@contextmanager
def named(where: object) -> Iterator[None]:
    """Whatever libhdf5 and h5py raise for a damaged file becomes one line that says where.

    Raises:
        UserError: names `where`, and what was raised.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise UserError(f"{where}: no such file") from error
    except (OSError, RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError, MemoryError) as error:
        said = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise UserError(f"{where}: not readable; it is cut short, damaged, or not HDF5 ({said})") from error


def group(parent: h5py.Group, name: str) -> h5py.Group:
    """The group of this name inside another.

    Raises:
        UserError: there is none, or it lies elsewhere.
    """
    found = _child(parent, name)
    if not isinstance(found, h5py.Group):
        raise UserError(f"{_where(parent, name)} is not a group")
    return found


def names(parent: h5py.Group) -> list[str]:
    """What lies in a group, in the file's own order."""
    return [str(name) for name in parent]


def holds(parent: h5py.Group, name: str) -> bool:
    """Whether there is something of this name in a group; a link is not followed to find out."""
    return parent.id.links.exists(name.encode())


def array(parent: h5py.Group, name: str) -> h5py.Dataset:
    """The array of this name inside a group, of which nothing is read yet.

    Raises:
        UserError: there is none, or its values lie in another file.
    """
    found = _child(parent, name)
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise UserError(f"{_where(parent, name)} is not an array")
    if found.is_virtual or found.external:
        raise UserError(f"{_where(parent, name)} keeps its values in another file, which is not read; copy them in")
    return found


def rows(values: h5py.Dataset, start: int, stop: int) -> Array:
    """Rows start to stop - 1 of an array, and no others.

    Raises:
        UserError: some of the array was never written, where libhdf5 would give zeros.
    """
    if values.chunks is None:
        whole = values.id.get_storage_size() >= values.size * values.dtype.itemsize
    else:
        needed = math.prod(math.ceil(side / part) for side, part in zip(values.shape, values.chunks, strict=True))
        whole = values.id.get_num_chunks() >= needed
    if not whole:
        raise UserError(f"{values.file.filename}: {values.name} was not written to its end; record it again")
    return values[start:stop]


def text(holder: h5py.Group | h5py.Dataset, name: str) -> str:
    """A text among the attributes of a group, "" if there is none.

    Raises:
        UserError: it is something other than text.
    """
    if name not in holder.attrs:
        return ""
    value = holder.attrs[name]
    if isinstance(value, bytes):
        value = value.decode()
    if not isinstance(value, str):
        raise UserError(f"{_where(holder, name)} is an attribute that should be text, but is {type(value).__name__}")
    return value


def record(holder: h5py.Group, name: str) -> dict[str, Any]:
    """An attribute that holds a JSON object, empty if there is none.

    Raises:
        UserError: it is something else.
    """
    said = text(holder, name)
    if not said:
        return {}
    try:
        value = json.loads(said)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{_where(holder, name)} is an attribute that should be JSON, but is not ({error})") from error
    if not isinstance(value, dict):
        raise UserError(f"{_where(holder, name)} is an attribute that should be a JSON object")
    return value


def count(holder: h5py.Group, name: str) -> int | None:
    """A whole number among the attributes, which some writers keep as text; None if there is none.

    Raises:
        UserError: it is something else.
    """
    if name not in holder.attrs:
        return None
    value = holder.attrs[name]
    try:
        return int(np.asarray(value).item())
    except (TypeError, ValueError) as error:
        raise UserError(f"{_where(holder, name)} is an attribute that should be a number, but is {value!r}") from error


def _child(parent: h5py.Group, name: str) -> Any:
    if not holds(parent, name):
        raise UserError(f"{parent.file.filename}: {parent.name} lacks {name!r}")
    if parent.id.links.get_info(name.encode()).type != h5l.TYPE_HARD:
        raise UserError(f"{_where(parent, name)} is a link to elsewhere, which is not followed; copy what it points to")
    return parent[name]


def _where(parent: h5py.Group | h5py.Dataset, name: str) -> str:
    return f"{parent.file.filename}: {str(parent.name).rstrip('/')}/{name}"
