"""The one error that a user can mend: the command line prints it as a single line and exits with 2."""

import errno
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from math import inf
from pathlib import Path

_ROOM = "make room, then give the same command again"
_FOLDER = "a folder is needed there"
_RIGHTS = "choose a place that this user may use"
# What the operating system can refuse because of the user's disk or paths, and what would be right.
_REMEDIES = {
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EFBIG: _ROOM,
    errno.EIO: "the disk or the network behind it fails",
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
    errno.EROFS: _RIGHTS,
    errno.EEXIST: _FOLDER,
    errno.ENOTDIR: _FOLDER,
    errno.EISDIR: "a file is needed there",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.ENOENT: "was it removed or renamed meanwhile?",
}


class UserError(Exception):
    """Bad input. The message says what was wrong, where, and what would be right, in one line."""


def unknown(kind: str, name: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among the known ones, with the nearest one as a suggestion.

    Args:
        kind: what was looked for, as a user would call it ("task", "preset").
        name: what was asked for.
        known: every name that would have been right.
    """
    known = sorted(known)
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return UserError(f"no {kind} {name!r}; {hint}known: {', '.join(known) or 'none'}")


def first_line(error: Exception) -> str:
    """The first line of what an error says."""
    return (str(error) or repr(error)).splitlines()[0]


def check_range(name: str, value: float, least: float, most: float) -> None:
    """Refuses a number that makes no sense, or would keep the machine busy for ever.

    Args:
        name: what the user calls it ("--episodes").
        value: what was given; NaN and infinity are never within.
        least: the smallest that is right.
        most: the largest; infinity if every finite number from `least` on is right.

    Raises:
        UserError: says what would be right.
    """
    if not least <= value <= most or abs(value) == inf:
        right = f"a finite number, at least {least}" if most == inf else f"from {least} to {most}"
        raise UserError(f"{name} is {value}; it must be {right}")


def explain_os_error(error: OSError) -> UserError | None:
    """The line for a full disk, a path that may not be used, and the like; None if the user is not at fault."""
    remedy = _REMEDIES.get(error.errno or 0)
    if remedy is None or (error.errno == errno.ENOENT and error.filename is None):
        return None
    where = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    return UserError(f"{where}{os.strerror(error.errno or 0)}; {remedy}")


def user_mistake(error: Exception) -> UserError | None:
    """What of an error is the user's to mend, in a line; None if it is a bug."""
    if isinstance(error, UserError):
        return error
    return explain_os_error(error) if isinstance(error, OSError) else None


@contextmanager
def name_path_in_errors(path: Path) -> Iterator[None]:
    """Within the block, what the operating system refuses without saying where is about this path.

    A file that was opened with success and then finds the disk full has forgotten its name.
    """
    try:
        yield
    except OSError as error:
        if error.filename is not None or error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
