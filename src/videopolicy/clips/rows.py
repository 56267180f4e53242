"""A large .npy file, read and written by rows, without mapping it.

Pages of a memory map that were touched count as this process's memory until the system takes them back: after an epoch
that is the whole file. And a map ends the process without a word when the disk is full or the file is cut short.
"""

import errno
import math
import os
from pathlib import Path

import numpy as np
from jaxtyping import Int
from numpy.lib.format import open_memmap

from videopolicy.durable import sync_open
from videopolicy.errors import UserError, name_path_in_errors


class Rows:
    """The rows of an array on disk, (*leading, *row); the leading dimensions count as one.

    Safe to use from many threads, and from processes that were forked: there is no position in the file.

    Attributes:
        path: the file.
        shape: of one row.
        dtype: of its values.
    """

    def __init__(self, path: Path, leading: int = 1, *, writable: bool = False) -> None:
        """Opens a file.

        Args:
            path: as `numpy.save` or `create` wrote it.
            leading: dimensions that number the rows.
            writable: whether rows may be written.

        Raises:
            OSError: the file cannot be opened.
            ValueError: it is no array, or shorter than its header says.
        """
        array = np.load(path, mmap_mode="r")
        self.path, self.shape, self.dtype = path, array.shape[leading:], array.dtype
        self._count, self._offset = math.prod(array.shape[:leading]), array.offset
        self._size = math.prod(self.shape) * self.dtype.itemsize
        self._file = path.open("r+b" if writable else "rb", buffering=0)

    @classmethod
    def create(cls, path: Path, dtype: type, leading: tuple[int, ...], row: tuple[int, ...]) -> "Rows":
        """A new file of zeros, whose room on the disk is taken at once where that can be, opened for writing."""
        with name_path_in_errors(path):
            open_memmap(path, mode="w+", dtype=dtype, shape=(*leading, *row))
            with path.open("r+b") as file:
                _reserve(file.fileno(), path.stat().st_size)
        return cls(path, len(leading), writable=True)

    def read(self, rows: Int[np.ndarray, "*k"]) -> np.ndarray:
        """These rows, (*k, *row).

        Raises:
            IndexError: no such row.
            UserError: the file was cut short meanwhile.
        """
        if np.any(rows < 0) or np.any(rows >= self._count):
            raise IndexError(f"{self.path} has rows 0 to {self._count - 1}, not {rows}")
        found = np.empty((*rows.shape, *self.shape), self.dtype)
        room, size, file = found.reshape(-1).view(np.uint8).data, self._size, self._file.fileno()
        for place, row in enumerate(rows.ravel().tolist()):
            if os.preadv(file, [room[place * size : (place + 1) * size]], self._offset + row * size) != size:
                raise UserError(f"{self.path}: cut short; remove its folder, and it is built again")
        return found

    def write(self, start: int, values: np.ndarray) -> None:
        """Writes rows from `start` on, (n, *row)."""
        room = np.ascontiguousarray(values, self.dtype).reshape(-1).view(np.uint8).data
        done, place = 0, self._offset + start * self._size
        with name_path_in_errors(self.path):
            while done < len(room):
                done += os.pwrite(self._file.fileno(), room[done:], place + done)

    def flush(self) -> None:
        """Returns once everything is on the disk."""
        with name_path_in_errors(self.path):
            sync_open(self._file.fileno(), self.path)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _reserve(descriptor: int, size: int) -> None:
    """Takes a file's room on the disk at once; a Mac and some disks cannot, where a full one is found out later."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, 0, size)
        except OSError as error:
            if error.errno not in (errno.EINVAL, errno.ENOTSUP):
                raise
