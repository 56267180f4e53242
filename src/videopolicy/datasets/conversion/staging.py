"""The folder beside a data set that is being made, where a conversion that was stopped goes on."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from videopolicy.errors import UserError, name_path_in_errors
from videopolicy.ownership import owned

_RECIPE, _UNSURE = "recipe.json", "recipe.json.partial"


@contextmanager
def staging(target: Path, recipe: dict[str, Any], verb: str = "convert") -> Iterator[Path]:
    """Within the block, the folder is this process's own; what was made in it from the same recipe is still there.

    Afterwards it is removed if nothing in it is of use: if none of its `shards` is complete, or the target is there.

    Args:
        target: the data set's folder.
        recipe: names everything that decides what is made, in words that an error can show.
        verb: what makes it, as a user calls it.

    Raises:
        UserError: another process is at it, or what is there was made from another recipe.
    """
    folder = staging_folder(target, verb)
    with owned(target, verb):
        try:
            with name_path_in_errors(folder):
                folder.mkdir(exist_ok=True)
            _check(folder, recipe, target, verb)
            with name_path_in_errors(folder):
                (folder / _UNSURE).write_text(json.dumps(recipe), encoding="utf-8")
                (folder / _UNSURE).replace(folder / _RECIPE)
                (folder / "shards").mkdir(exist_ok=True)
                for leftover in (folder / "shards").glob("*.partial"):
                    shutil.rmtree(leftover)
            yield folder
        finally:
            if (folder / _RECIPE).exists() and (not _begun(folder) or _is_there(target)):
                shutil.rmtree(folder, ignore_errors=True)


def staging_folder(target: Path, verb: str = "convert") -> Path:
    """Where it is for this target."""
    return target.absolute().with_name(f".{target.name}.{verb}")


def _begun(folder: Path) -> bool:
    return any(path.suffix != ".partial" for path in (folder / "shards").glob("*"))


def _is_there(target: Path) -> bool:
    return target.is_dir() and any(target.iterdir())


def _check(folder: Path, recipe: dict[str, Any], target: Path, verb: str) -> None:
    try:
        found = json.loads((folder / _RECIPE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if all(file.name == _UNSURE for file in folder.iterdir()):
            return
        raise UserError(f"{folder} is no conversion's folder, but has its name; remove it") from None
    except ValueError:
        found = {}
    differ = [name for name in recipe if found.get(name) != recipe[name]]
    if differ and _begun(folder):
        raise UserError(
            f"{folder} holds part of what another `videopolicy {verb}` was to write to {target} (another "
            f"{', '.join(differ)}); give that command again to go on with it, or remove this folder, or name another "
            "data set"
        )
