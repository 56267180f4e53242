"""Files that are not there themselves: what `git clone` leaves where Git LFS keeps them elsewhere."""

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
