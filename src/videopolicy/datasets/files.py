"""Looks at the files of a data set: which there are, and why one cannot be read."""

from collections.abc import Collection, Iterator
from pathlib import Path

from videopolicy.errors import UserError, explain_os_error
from videopolicy.pointers import empty, refuse_pointer


def visible(path: Path, suffixes: Collection[str] = ()) -> list[Path]:
    """The files in a folder and below it, in linked folders too; sorted, without those whose names begin with a dot.

    A link to a file that is not there is among them, and a folder where a file of such a suffix should be, so that
    whoever opens it can say so.

    Args:
        path: the folder; one that is not there holds no files.
        suffixes: in lower case; () for all.
    """
    return sorted(_walk(path, suffixes, ())) if path.is_dir() else []


def _walk(folder: Path, suffixes: Collection[str], above: tuple[Path, ...]) -> Iterator[Path]:
    real = folder.resolve()
    # A linked folder that holds a link to a folder above it would go on for ever.
    if real in above:
        return
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        wanted = not suffixes or path.suffix.lower() in suffixes
        if path.is_dir():
            inside = list(_walk(path, suffixes, (*above, real)))
            # One that is called like a file, and holds none, stands in a file's place.
            yield from inside or ([path] if suffixes and wanted else ())
        elif wanted and (path.is_file() or path.is_symlink()):
            yield path


def read_text(file: Path) -> str:
    """A small file of UTF-8 text, with or without a byte-order mark.

    Raises:
        UserError: it is missing, a pointer of Git LFS, empty, or no UTF-8; or it cannot be read.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such file, but the data set needs it") from error
    except OSError as error:
        raise unreadable(file, error) from error
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from error
    refuse_pointer(file)
    if not text.strip():
        raise empty(file)
    return text


def unreadable(file: Path, error: OSError) -> UserError:
    """What the operating system says of a file that it does not give out."""
    told = explain_os_error(OSError(error.errno, error.strerror, str(file)))
    return told or UserError(f"{file}: cannot be read; the disk or the network behind it fails")
