"""Which format a data set on disk has, so that nobody need say."""

from pathlib import Path

from videopolicy import registry
from videopolicy.datasets.base import Dataset
from videopolicy.datasets.notes import refuse
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.errors import UserError

# What a format's file may define beside its entry: `recognises(path: Path) -> bool`. It looks at the names of files
# and, where formats share a suffix, at what lies at the top of the first file that can be opened, and no further. It
# says no to a path that does not exist. A format without it is opened only by its name.
_RECOGNISES = "recognises"


def open_any(path: Path, format: str | None = None, reading: Reading = AS_IT_IS) -> Dataset:
    """Opens a data set of any format.

    Args:
        path: where it lies.
        format: a name from `videopolicy.datasets`; None looks at what is there.
        reading: what its files leave open.

    Raises:
        UserError: no such path or format, nothing that a format recognises, or several that do; else what the
            format's own `open_dataset` says; or `reading` is strict, and something is left out or mended.
    """
    path = Path(path)
    dataset = registry.build("datasets", guess_format(path) if format is None else format, path, reading)
    if reading.strict:
        refuse(dataset.notes)
    return dataset


def guess_format(path: Path) -> str:
    """The one format that recognises what is there.

    Raises:
        UserError: no such path, or none or several recognise it; the message says what would be right.
    """
    if not path.exists():
        raise UserError(f"{path}: no such data set; give the folder or the file that holds the demonstrations")
    known = registry.names("datasets")
    found = [name for name in known if _recognises(name, path)]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f"{path}: looks like {' and like '.join(found)}; choose one of them with --format")
    right = f"give the folder that it is in: {path.parent}" if path.is_file() else "is it the right folder?"
    raise UserError(f"{path}: holds no data set of a known format ({', '.join(known)}); {right}")


def _recognises(name: str, path: Path) -> bool:
    recognises = getattr(registry.module("datasets", name), _RECOGNISES, None)
    return recognises is not None and recognises(path)
