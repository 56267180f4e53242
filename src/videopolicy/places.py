"""Where an output must not go: into a data set, a checkpoint or another run, which it would spoil."""

from collections.abc import Iterable
from pathlib import Path

from videopolicy.errors import UserError

DATA_SET, CHECKPOINT, RUN, EVALUATION = "data set", "checkpoint", "run", "evaluation"
# What writes beside a run's own files, and may do so in a folder of the run.
_GUESTS = {"evaluate", "diagnose", "imagine", "report", "check", "bench", "tune"}
_WRITE_FILES = {"report", "check", "bench", "tune"}
# What goes on with its own kind.
_OWN = {"train": RUN, "evaluate": EVALUATION, "drive": DATA_SET}
# What a run has from its first steps on.
_OF_A_RUN = ("tensorboard", "losses.jsonl", "state")
# Folders and files of runs and evaluations, which these change as they go on.
_PARTS = {"state", "recordings", "config.json", "settings.json", "results.jsonl", "losses.jsonl"}


def kind_of(folder: Path) -> str | None:
    """What a folder is, told by the names of its files; None if it is nothing of ours."""
    if (folder / "meta" / "info.json").is_file():
        return DATA_SET
    if (folder / "config.json").is_file() and (folder / "model.safetensors").is_file():
        return CHECKPOINT
    if (folder / "settings.json").is_file() and (folder / "results.jsonl").is_file():
        return EVALUATION
    if (folder / "config.json").is_file() and any((folder / name).exists() for name in _OF_A_RUN):
        return RUN
    return None


def check_place(path: Path, verb: str, reads: Iterable[Path | str] = ()) -> None:
    """Refuses an output that would be a part of something else.

    Args:
        path: the folder or the file that is to be written.
        verb: what writes it, as a user calls it ("train").
        reads: what is read meanwhile; what does not exist is passed over.

    Raises:
        UserError: it is there and no file, or no folder, whichever is written; it is or lies in a data set or a
            checkpoint, in what is read, or in another run, other than what looks at that run; or it holds what is read.
    """
    place = path.resolve()
    kind = kind_of(place)
    for given in map(Path, reads):
        if given.exists():
            _check_given(path, place, given, goes_on=kind is not None and kind == _OWN.get(verb))
    if kind is not None and kind != _OWN.get(verb):
        raise UserError(f"{path} holds {_a(kind)}; name a folder of its own for what `videopolicy {verb}` writes")
    for around in place.parents:
        _check_around(path, verb, around, place.relative_to(around).parts[0])
    _check_sort(path, file=verb in _WRITE_FILES)


def _check_sort(path: Path, file: bool) -> None:
    # A device would be replaced by a file, too, where one has the rights.
    if path.exists() and not (path.is_file() if file else path.is_dir()):
        there = "a folder" if path.is_dir() else "a file" if path.is_file() else "a device or a pipe"
        raise UserError(f"{path} is {there}; name a {'file' if file else 'folder'}")


def _check_around(path: Path, verb: str, around: Path, part: str) -> None:
    kind = kind_of(around)
    run = kind in (RUN, EVALUATION)
    if kind is None or (run and verb in _GUESTS and part not in _PARTS):
        return
    raise UserError(f"{path} is inside the {kind} {around}; name a place outside" + " of its own files" * run)


def _check_given(path: Path, place: Path, given: Path, goes_on: bool) -> None:
    here = given.resolve()
    if here == place or here in place.parents:
        where = f"is inside {given}, which is read" if here != place else "is what is read"
        raise UserError(f"{path} {where}; name a place outside")
    # A run that is gone on with may hold the data that it was begun with, as a demo's does.
    if place in here.parents and not goes_on:
        raise UserError(f"{path} holds {given}, which is read; name a folder of its own")


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
