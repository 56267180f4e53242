"""Files and folders that are on the disk for good before anything relies on them."""

import errno
import hashlib
import os
import shutil
from contextlib import suppress
from pathlib import Path

from videopolicy.errors import name_path_in_errors
from videopolicy.progress import say

# What disks answer that cannot say when something is written for good, as some network drives: no fault of the files.
_UNKNOWN_TO_THE_DISK = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF}
# And where folders cannot be opened.
_NO_FOLDERS = _UNKNOWN_TO_THE_DISK | {errno.EACCES, errno.EPERM, errno.EISDIR}
_warned = False


def sync(path: Path) -> None:
    """Returns once a file, or a folder and everything in it, is on the disk; where that cannot be told, at once.

    Raises:
        OSError: it cannot be written out.
    """
    if path.is_dir():
        for inner in path.iterdir():
            sync(inner)
    _sync(path)


def sha256(path: Path) -> str:
    """The hash of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_text(path: Path, text: str) -> None:
    """Writes a small file, as UTF-8; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes | memoryview) -> None:
    """Writes a file; it appears, or replaces the one that is there, whole or not at all.

    Raises:
        OSError: it cannot be written; the message names it.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with name_path_in_errors(path):
            aside.write_bytes(data)
            _sync(aside)
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)


def usual_modes(folder: Path) -> None:
    """Gives each file in a folder the mode of any new file: some libraries write theirs for this user alone.

    Raises:
        OSError: the folder cannot be written.
    """
    # The umask cannot be read without changing it for all threads.
    probe = folder / ".mode"
    probe.touch()
    mode = probe.stat().st_mode
    probe.unlink()
    for file in folder.rglob("*"):
        if file.is_file() and file.stat().st_mode != mode:
            # Some network drives know no modes.
            with suppress(PermissionError):
                file.chmod(mode)


def left_behind(folder: Path) -> Path:
    """Where `replace_folder` keeps what stands at `folder` while the new one takes its place."""
    return folder.with_name(f".{folder.name}.old")


def replace_folder(aside: Path, folder: Path) -> None:
    """Replaces a folder by one that was written aside, on the same disk, and gives its files their usual modes.

    A folder cannot take another's place in one step on every file system. Killed between the two steps, the old one
    is whole at `left_behind(folder)` and the new one at `aside`.

    Raises:
        OSError: it cannot be done; the old one stays, or is put back.
    """
    usual_modes(aside)
    sync(aside)
    old = left_behind(folder)
    if folder.exists():
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
    try:
        aside.rename(folder)
    except BaseException:
        if old.exists():
            old.rename(folder)
        raise
    _sync(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def sync_open(descriptor: int, path: Path) -> None:
    """Returns once what was written to an open file is on the disk; where that cannot be told, at once.

    Args:
        descriptor: of the file.
        path: of the file, for messages.

    Raises:
        OSError: it cannot be written out.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNKNOWN_TO_THE_DISK:
            raise
        _warn(path if path.is_dir() else path.parent)


def _sync(path: Path) -> None:
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        if not path.is_dir() or error.errno not in _NO_FOLDERS:
            raise
        _warn(path)
        return
    try:
        with name_path_in_errors(path):
            sync_open(descriptor, path)
    finally:
        os.close(descriptor)


def _warn(folder: Path) -> None:
    """Once a process: a second line would say nothing new."""
    global _warned
    if not _warned:
        say(
            f"note: {folder}: this disk cannot say when files are written for good (as some network drives); all goes "
            "on, but a power cut may cost the newest files"
        )
    _warned = True
