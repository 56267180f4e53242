"""Opens an HDF5 file without trusting it: nothing outside the file is read, and damage is named."""

import errno
import json
import math
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from h5py import h5l  # pyright: ignore[reportAttributeAccessIssue]

from videopolicy.datasets.files import visible
from videopolicy.datasets.hdf5.heaps import opened_with_care
from videopolicy.errors import UserError
from videopolicy.pointers import refuse_empty, refuse_pointer

SUFFIXES = (".hdf5", ".h5")
Array = np.ndarray[Any, np.dtype[Any]]
# Groups in groups that are gone through; hard links can go in circles.
_DEPTH = 4
_AGAIN = "copy or download it again"


def files_at(path: Path) -> list[Path]:
    """The HDF5 files that a path stands for: itself, or those in the folder and below it; [] if there are none."""
    if path.is_dir():
        return visible(path, SUFFIXES)
    return [path] if path.suffix.lower() in SUFFIXES and path.is_file() else []


def root_names(path: Path) -> set[str] | None:
    """What lies at the top of the first file that can be opened; None if none can.

    A folder holds one kind of file, so that a format is told from another by one of them.
    """
    for file in files_at(path):
        try:
            with opened(file) as root:
                return set(names(root))
        except UserError:
            continue
    return None


@contextmanager
def opened(file: Path) -> Iterator[h5py.File]:
    """A file to read from, closed afterwards: a handle that outlived this would be shared by forked processes.

    Raises:
        UserError: no such file, a pointer of Git LFS, no HDF5, or libhdf5 cannot read what is asked of it; the message
            names the file.
    """
    refuse_pointer(file)
    with named(file):
        # libhdf5 has one complaint for whatever it cannot open.
        refuse_empty(file)
        if not h5py.is_hdf5(file):
            raise UserError(f"{file}: is not HDF5, or its beginning is damaged; {_AGAIN}")
        with opened_with_care(file) as root:
            yield root


@contextmanager
def named(where: object) -> Iterator[None]:
    """Whatever libhdf5 and h5py raise for a damaged file becomes one line that says where.

    Raises:
        UserError: names `where`, and what to do.
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{where}: {_cause(error)}") from error
    except (RuntimeError, ValueError, KeyError, TypeError, AttributeError, IndexError, MemoryError) as error:
        raise UserError(f"{where}: is damaged; {_AGAIN}") from error


def group(parent: h5py.Group, path: str) -> h5py.Group:
    """The group at this path inside another; itself if the path is "".

    Raises:
        UserError: there is none, or it lies elsewhere.
    """
    for name in filter(None, path.split("/")):
        found = _child(parent, name)
        if not isinstance(found, h5py.Group):
            raise UserError(f"{_where(parent, name)} is not a group")
        parent = found
    return parent


def names(parent: h5py.Group) -> list[str]:
    """What lies in a group, in the file's own order."""
    return [str(name) for name in parent]


def holds(parent: h5py.Group, name: str) -> bool:
    """Whether there is something of this name in a group; a link is not followed to find out."""
    return parent.id.links.exists(name.encode())


def array(parent: h5py.Group, path: str) -> h5py.Dataset:
    """The array at this path inside a group, of which nothing is read yet.

    Raises:
        UserError: there is none, or its values lie in another file.
    """
    above, _, name = path.rpartition("/")
    parent = group(parent, above)
    return _as_array(parent, name, _child(parent, name))


def arrays(parent: h5py.Group, word: str = "", depth: int = _DEPTH) -> Iterator[tuple[str, h5py.Dataset]]:
    """The path of each array in a group, and in the groups inside it, with the array.

    Args:
        parent: the group.
        word: that must be in the name of what lies in it; "" for all.
        depth: how many groups into groups.

    Raises:
        UserError: something lies elsewhere.
    """
    for name in names(parent):
        if word not in name:
            continue
        found = _child(parent, name)
        if not isinstance(found, h5py.Group):
            yield name, _as_array(parent, name, found)
        elif depth:
            yield from ((f"{name}/{path}", values) for path, values in arrays(found, depth=depth - 1))


def rows(values: h5py.Dataset, start: int, stop: int) -> Array:
    """Rows start to stop - 1 of an array, and no others.

    Raises:
        UserError: some of the array was never written, where libhdf5 would give zeros.
    """
    if not _is_written(values, start, stop):
        raise UserError(f"{values.file.filename}: {values.name} was not written to its end; record it again")
    return values[start:stop]


def _is_written(values: h5py.Dataset, start: int, stop: int) -> bool:
    """Whether an array is stored to its end, and each part of some rows of it in a place of its own."""
    if values.chunks is None:
        return values.id.get_storage_size() >= values.size * values.dtype.itemsize
    sides = list(zip(values.shape, values.chunks, strict=True))
    if values.id.get_num_chunks() < math.prod(math.ceil(side / part) for side, part in sides):
        return False
    first = range(start // values.chunks[0] * values.chunks[0], stop, values.chunks[0])
    corners = product(first, *(range(0, side, part) for side, part in sides[1:]))
    # Looked up as libhdf5 does; of what it does not find in a damaged index, it gives zeros.
    stored = [values.id.get_chunk_info_by_coord(corner) for corner in corners]
    places = {one.byte_offset for one in stored if one.byte_offset and one.size}
    return len(places) == len(stored)


def text(holder: h5py.Group, name: str) -> str:
    """A text among the attributes of a group, "" if there is none.

    Raises:
        UserError: it is something other than text.
    """
    if name not in holder.attrs:
        return ""
    value = holder.attrs[name]
    try:
        # h5py hands out bytes that are no UTF-8 as halves of surrogate pairs.
        value = value.decode() if isinstance(value, bytes) else value
        if isinstance(value, str):
            value.encode()
            return value
    except UnicodeError as error:
        raise UserError(f"{_where(holder, name)} is an attribute that should be UTF-8 text") from error
    raise UserError(f"{_where(holder, name)} is an attribute that should be text")


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
        raise UserError(f"{_where(holder, name)} is an attribute that should be JSON") from error
    if not isinstance(value, dict):
        raise UserError(f"{_where(holder, name)} is an attribute that should be a JSON object")
    return value


def number(holder: h5py.Group, name: str) -> float | None:
    """A number among the attributes, which some writers keep as text; None if there is none.

    Raises:
        UserError: it is something else.
    """
    if name not in holder.attrs:
        return None
    try:
        return float(np.asarray(holder.attrs[name]).item())
    except (TypeError, ValueError) as error:
        raise UserError(f"{_where(holder, name)} is an attribute that should be a number") from error


def _child(parent: h5py.Group, name: str) -> Any:
    if not holds(parent, name):
        raise UserError(f"{_where(parent, name)} is missing")
    if parent.id.links.get_info(name.encode()).type != h5l.TYPE_HARD:
        raise UserError(f"{_where(parent, name)} is a link to elsewhere, which is not followed; copy what it points to")
    return parent[name]


def _as_array(parent: h5py.Group, name: str, found: Any) -> h5py.Dataset:
    if not isinstance(found, h5py.Dataset) or found.shape is None:
        raise UserError(f"{_where(parent, name)} is not an array")
    if found.is_virtual or found.external:
        raise UserError(f"{_where(parent, name)} keeps its values in another file, which is not read; copy them in")
    return found


def _where(parent: h5py.Group, name: str) -> str:
    return f"{parent.file.filename}: {str(parent.name).rstrip('/')}/{name}"


def _cause(error: OSError) -> str:
    """What a person can do about a file that libhdf5 or the system does not read."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, IsADirectoryError):
        return "is a folder where a file is needed"
    if isinstance(error, PermissionError):
        return "this user may not read it; change its permissions"
    if error.errno == errno.EIO:
        return "the disk, or the network behind it, fails"
    if isinstance(error, BlockingIOError) or "already open for write" in str(error):
        return "is being written, or was not closed by what wrote it; wait for that, or record it again"
    return f"is {'cut short' if 'truncated' in str(error) else 'damaged'}; {_AGAIN}"
