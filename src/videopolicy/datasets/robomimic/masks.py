"""Masks of robomimic: lists of demonstrations by name in the group `mask`, one of which `--mask` reads alone.

robomimic's script `split_train_val.py` writes the masks `train` and `valid`; its training reads the first alone. So
that no policy is trained on what it is judged by, the same is done here where both are there and nothing is asked for.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import h5py

from videopolicy.datasets.hdf5.access import array, group, holds, names
from videopolicy.datasets.hdf5.told import Told, listed
from videopolicy.datasets.phrases import plural
from videopolicy.errors import UserError

TRAIN, VALID = "train", "valid"
# Masks that are listed before the rest is only counted.
_LISTED = 12


class Masks:
    """Which demonstrations the masks of a data set's files select.

    Args:
        wanted: the mask that is asked for; None for none.
        told: is told what is not read because of a mask.
    """

    def __init__(self, wanted: str | None, told: Told) -> None:
        self._wanted, self._told = wanted, told
        self._sizes: Counter[str] = Counter()
        self._kept_for_validation: list[int] = []
        self._in_no_mask: list[int] = []
        self._split = False

    def select(self, file: Path, root: h5py.File, demonstrations: Sequence[str], first: int) -> set[str]:
        """The demonstrations of a file that are to be read.

        Args:
            file: where they are.
            root: the same, opened.
            demonstrations: their names.
            first: the number of the first one.
        """
        masks = self._read(file, root)
        split = self._wanted is None and TRAIN in masks and VALID in masks
        self._split |= split
        asked = TRAIN if split else self._wanted
        for mask, members in masks.items():
            self._sizes[mask] += len(members.intersection(demonstrations))
            missing = sorted(members.difference(demonstrations))
            if missing:
                kind = "left out" if mask == asked else "unused"
                self._told.of_file(kind, file, f"mask {mask} names {listed(missing)}, which it does not hold")
        if asked is None:
            return set(demonstrations)
        chosen = masks.get(asked, set()).intersection(demonstrations)
        for number, name in enumerate(demonstrations, first):
            if split and name not in chosen and name in masks[VALID]:
                self._kept_for_validation.append(number)
            elif name not in chosen:
                self._in_no_mask.append(number)
        return chosen

    def tell(self, path: Path) -> None:
        """Says what is not read, and which other masks there are, once for all files.

        Raises:
            UserError: no file has the mask that is asked for.
        """
        there = {mask: f"{mask} ({plural(size, 'demonstration')})" for mask, size in sorted(self._sizes.items())}
        if self._wanted is not None and self._wanted not in there:
            known = f"there are {listed(list(there.values()), _LISTED)}" if there else "there are none at all"
            raise UserError(f"{path}: no mask {self._wanted!r}; {known}")
        spoken_for = {self._wanted}
        if self._split:
            spoken_for |= {TRAIN, VALID}
            self._told.of_all(
                "unused",
                f"{path}: mask {there[VALID]} is not read, as robomimic keeps it for validation; "
                f"--mask {VALID} reads it",
                self._kept_for_validation,
            )
        if self._in_no_mask:
            mask = f"mask {TRAIN}, nor in mask {VALID}," if self._split else f"mask {self._wanted}"
            self._told.of_all("unused", f"{path}: what is not in {mask} is not read", self._in_no_mask)
        others = [said for mask, said in there.items() if mask not in spoken_for]
        if others:
            rest = "other masks" if self._split or self._wanted else "all is read, whatever its mask; masks"
            self._told.of_all("unused", f"{path}: {rest}: {listed(others, _LISTED)}; --mask NAME reads one alone")

    def _read(self, file: Path, root: h5py.File) -> dict[str, set[str]]:
        if not holds(root, "mask"):
            return {}
        found: dict[str, set[str]] = {}
        for mask in names(group(root, "mask")):
            try:
                found[mask] = _members(group(root, "mask"), mask)
            except UserError:
                what = f"mask {mask} is not readable (it should be a list of names), and is taken as missing"
                self._told.of_file("left out", file, what)
        return found


def _members(masks: h5py.Group, mask: str) -> set[str]:
    values = array(masks, mask)
    if values.ndim != 1 or values.dtype.kind not in "SO":
        raise UserError(f"{masks.file.filename}: mask {mask} is no list of names")
    return {value.decode() if isinstance(value, bytes) else str(value) for value in values[()]}
