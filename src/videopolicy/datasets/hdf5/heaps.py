"""A file that libhdf5 reads through, which looks at the heaps of texts in it before libhdf5 does.

Texts and rows of their own length lie in collections of objects one after the other, the last of which is the free
space (HDF5 file format 3.0, III.E). Where damage makes that 0 bytes long, libhdf5 1.14 and 2.0 never come to the end of
the collection.
"""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import h5py

# A collection begins with its signature, its version and three zeros, and says how long it is; so does each object.
_START, _HEAD, _OBJECT = b"GCOL\1\0\0\0", 16, 16
# Bytes in which libhdf5 looks for what the file says of itself; what it reads in larger pieces are values.
_HEADS = 2**16


class HeapCheckedFile(io.FileIO):
    """A file, opened for reading.

    Raises:
        OSError: on reading of a heap that has no end.
    """

    def readinto(self, buffer: memoryview) -> int:
        """Fills the buffer as far as the file goes."""
        at = self.tell()
        count = super().readinto(buffer) or 0
        if count > _HEADS:
            return count
        # A signature may lie in what is read for something else, and be used from there later.
        content = bytes(buffer[:count])
        place = content.find(_START)
        while place >= 0:
            self._check(at + place)
            place = content.find(_START, place + 1)
        self.seek(at + count)
        return count

    def _check(self, start: int) -> None:
        self.seek(start)
        head = self.read(_HEAD)
        size = int.from_bytes(head[8:], "little") if len(head) == _HEAD else 0
        end, at = start + size, start + _HEAD
        while at + _OBJECT <= end:
            self.seek(at)
            described = self.read(_OBJECT)
            if len(described) < _OBJECT:
                return
            index, length = struct.unpack("<H6xQ", described)
            if not index:
                if not length:
                    raise OSError(f"{self.name}: a heap of texts has no end")
                return
            at += _OBJECT + -(-length // 8) * 8


@contextmanager
def opened_with_care(file: Path) -> Iterator[h5py.File]:
    """An HDF5 file to read from, closed afterwards.

    Raises:
        OSError: another process is writing it, or it cannot be read.
    """
    access = h5py.h5p.create(h5py.h5p.FILE_ACCESS)
    access.set_fclose_degree(h5py.h5f.CLOSE_STRONG)
    # Opened by libhdf5 itself, too, which locks it: whoever writes it shows.
    with h5py.File(file, "r", locking="best-effort"), HeapCheckedFile(file) as checked:
        access.set_fileobj_driver(h5py.h5fd.fileobj_driver, checked)
        with h5py.File(h5py.h5f.open(os.fsencode(file), h5py.h5f.ACC_RDONLY, access)) as root:
            yield root
