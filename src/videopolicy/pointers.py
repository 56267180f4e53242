"""Files that hold nothing of what they are called: pointers of Git LFS, which `git clone` leaves, and empty ones."""

from pathlib import Path

from videopolicy.errors import UserError

_POINTER = b"version https://git-lfs.github.com/spec/"


def refuse_pointer(file: Path) -> None:
    """Raises UserError if a file is not there itself, but a pointer of Git LFS to it."""
    if is_pointer(file):
        raise UserError(f"{file}: is a pointer of Git LFS, not the file itself; get it with `git lfs pull`")


def is_pointer(file: Path) -> bool:
    """Whether a file is a pointer of Git LFS."""
    try:
        with file.open("rb") as opened:
            return opened.read(len(_POINTER)) == _POINTER
    except OSError:
        return False


def refuse_empty(file: Path) -> None:
    """Raises UserError if a file holds not a byte, OSError if it cannot be read."""
    with file.open("rb") as opened:
        if not opened.read(1):
            raise empty(file)


def empty(file: Path) -> UserError:
    """What is said of a file that holds nothing."""
    return UserError(f"{file}: is empty; its writing was cut short, or its download; copy or download it again")
