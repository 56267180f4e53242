"""Who may write where: an output is no part of something else, and one process at a time owns it.

The lock is a file beside the output, `.NAME.lock`, that says who holds it. The system lets go of it with the process,
however that ends, so that one left behind is in nobody's way.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

from videopolicy.errors import UserError, name_path_in_errors
from videopolicy.places import check_place
from videopolicy.progress import say

# What a network drive answers that has no locks.
_WITHOUT_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}
# Others may remove a folder or a lock between two steps of ours; so often in a row they do not.
_TRIES, _SECONDS = 20, 0.05
_this_thread = threading.local()


@contextmanager
def owned(path: Path, verb: str, reads: Iterable[Path | str] = ()) -> Iterator[None]:
    """Within the block, this output is where it may be, and no other process writes it; see `locked`.

    Args:
        path: a folder or a file, which need not be there.
        verb: what writes it, as a user calls it ("train").
        reads: what is read meanwhile; what does not exist is passed over.

    Raises:
        UserError: another process owns it, or `check_place` refuses it.
        OSError: no file can be made there.
    """
    place, mine = path.resolve(), _owned_here()
    # What is inside an output of this process is a part of it.
    if not mine & {place, *place.parents}:
        check_place(path, verb, reads)
    with locked(path, verb):
        yield


@contextmanager
def locked(path: Path, verb: str) -> Iterator[None]:
    """Within the block, no other process is in one for the same place; this thread may be, and then keeps the place.

    What a killed process left half written there is removed first. Afterwards nothing of the lock is left, nor a
    folder that was made for it and stayed empty.

    Args:
        path: a folder or a file, which need not be there.
        verb: what writes it, as a user calls it ("train").

    Raises:
        UserError: another process owns it.
        OSError: no file can be made there.
    """
    place, mine = path.resolve(), _owned_here()
    if place in mine:
        yield
        return
    missing = [folder for folder in (place, *place.parents) if not folder.exists()]
    lock, file = None, _lock_file(place)
    mine.add(place)
    try:
        with name_path_in_errors(path):
            lock = _taken(file, path, verb)
            if lock is not None:
                _sweep(place)
        yield
    finally:
        mine.discard(place)
        if lock is not None:
            # Before it is let go of: whoever has opened this very file sees then that it is gone.
            file.unlink(missing_ok=True)
            os.close(lock)
        for folder in missing:
            with suppress(OSError):
                folder.rmdir()


def _owned_here() -> set[Path]:
    if not hasattr(_this_thread, "places"):
        _this_thread.places = set()
    return _this_thread.places


def _lock_file(place: Path) -> Path:
    # Beside what is mounted there is another disk, or another machine's; and there one may have no rights.
    inside = place.is_dir() and (place.is_mount() or not os.access(place.parent, os.W_OK))
    return place / ".lock" if inside else place.with_name(f".{place.name}.lock")


def _taken(file: Path, path: Path, verb: str) -> int | None:
    """The lock file, opened and locked; None where files cannot be locked."""
    for left in reversed(range(_TRIES)):
        try:
            descriptor = _opened(file)
        except FileNotFoundError:
            # Another process that made the folder too has just removed it; or no folder can be made there at all.
            if left:
                continue
            raise UserError(
                f"cannot write to {path}: no folder can be made in {file.parent}; name another place"
            ) from None
        answer = _flock(descriptor)
        if answer == 0 and _is_still(file, descriptor):
            _sign(descriptor, verb)
            return descriptor
        holder = _holder(descriptor) if answer == errno.EWOULDBLOCK else ""
        os.close(descriptor)
        if answer in _WITHOUT_LOCKS:
            file.unlink(missing_ok=True)
            _warn(file.parent)
            return None
        if answer not in (0, errno.EWOULDBLOCK):
            raise OSError(answer, os.strerror(answer), str(file))
        if holder or (answer and not left):
            raise UserError(
                f"{path} is being written by {holder or 'another process'}; wait until it is done, stop it, or name "
                "another place"
            )
        time.sleep(_SECONDS)
    raise UserError(f"{path}: other processes begin and end there all the time; try again, or name another place")


def _opened(file: Path) -> int:
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        return os.open(file, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError:
        # Another user's; it can be locked all the same.
        if not file.exists():
            raise
        return os.open(file, os.O_RDONLY)


def _flock(descriptor: int) -> int:
    """Locks a file without waiting; 0, or the number of the error."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno or errno.EIO
    return 0


def _is_still(file: Path, descriptor: int) -> bool:
    """Whether it is the file that was opened; who owned it before may have removed it since."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), file.stat())
    return False


def _sign(descriptor: int, verb: str) -> None:
    about = {"verb": verb, "pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%F %T")}
    # Another user's file stays as it was: the lock counts, not what it says.
    with suppress(OSError):
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(about).encode(), 0)


def _holder(descriptor: int) -> str:
    """Who says in the file that it owns it; "" while nobody does."""
    try:
        about = json.loads(os.pread(descriptor, 4096, 0))
        return f"`videopolicy {about['verb']}` (process {about['pid']} on {about['host']}, since {about['since']})"
    except (ValueError, KeyError, TypeError):
        return ""


def _sweep(place: Path) -> None:
    """Removes what killed processes left half written: no other one is at it now."""
    left = re.compile(rf"\.{re.escape(place.name)}\.\d+\.partial")
    for path in place.parent.iterdir():
        if left.fullmatch(path.name):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


@cache
def _warn(folder: Path) -> None:
    say(
        f"note: files in {folder} cannot be locked (a network drive?); two commands that write the same there are not "
        "noticed"
    )
