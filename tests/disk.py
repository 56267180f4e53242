"""What a disk can be like, as far as a test can have it: full, or shared with other users."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from stat import S_IMODE


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """Within, the system lets no file of this process, or of those that it starts, grow beyond `size` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Within, new files and folders lack these rights."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> tuple[set[int], set[int]]:
    """The modes of all files in a folder, and those of the folder and all folders in it."""
    inside = [folder, *folder.rglob("*")]
    return tuple({S_IMODE(path.stat().st_mode) for path in inside if path.is_dir() == folders} for folders in (0, 1))
