"""Ways in which a data set may be damaged; each takes the set's folder and a random generator, and says what it did."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from videopolicy.media import probe

Rng = np.random.Generator
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 123456\n"
HDF5 = (".hdf5",)
TEXT = (".json", ".jsonl", ".csv", ".txt")
# What a value of a JSON file becomes.
_NUMBERS = (True, -1, 0, 7, 10**30, -0.5, 1e308, float("nan"), float("inf"))
ODD: tuple[Any, ...] = (
    *_NUMBERS, None, "", "x", "\ud800", "../..", "{chunk_index", [], [[]], {}, [None], [10**9], {"a": 1}
)  # fmt: skip


@dataclass(frozen=True)
class Damaged:
    """What was done.

    Attributes:
        files: that were damaged, from the folder.
        how: in words, for whoever wants to see it again.
        blind: what of the difference nobody can notice: "values", "words", "rate", "picture".
    """

    files: tuple[str, ...]
    how: str
    blind: frozenset[str] = frozenset()


class UnsuitableError(Exception):
    """The set has nothing that could be damaged so."""


def all_files(path: Path, *suffixes: str) -> list[Path]:
    """Those of the set that a reader looks at."""
    found = [file for file in sorted(path.rglob("*")) if file.is_file() and "stats" not in file.name]
    return [file for file in found if not suffixes or file.suffix in suffixes]


def _pick(path: Path, rng: Rng, *suffixes: str) -> Path:
    found = all_files(path, *suffixes)
    if not found:
        raise UnsuitableError
    # A kind of file first: of some there are many more than of others.
    kind = _choose(rng, sorted({file.suffix for file in found}))
    return _choose(rng, [file for file in found if file.suffix == kind])


def _choose(rng: Rng, of: Any) -> Any:
    return of[int(rng.integers(len(of)))]


def _blind(path: Path, file: Path) -> frozenset[str]:
    """What changed bytes of a file may change so that nobody can tell, as it has no checksums and says it once."""
    if file.suffix in TEXT:
        return frozenset({"words", "rate"})
    if file.suffix in HDF5:
        return frozenset({"values", "words", "rate", "picture"})
    if file.suffix == ".mp4":
        # Only in a folder of videos nothing else says the rate.
        return frozenset({"picture"} if (path / "meta").is_dir() else {"picture", "rate"})
    # This project's own tables have checksums of their pages; those that others write have none.
    return frozenset() if _is_own(path) else frozenset({"values", "words"})


def _is_own(path: Path) -> bool:
    return (path / "meta/episodes").is_dir() and (path / "videos").is_dir()


def _bytes(change: Callable[[bytearray, Rng], str]) -> Callable[[Path, Rng], Damaged]:
    def damage(path: Path, rng: Rng) -> Damaged:
        file = _pick(path, rng)
        blind, content = _blind(path, file), bytearray(file.read_bytes())
        how = change(content, rng)
        file.write_bytes(content)
        return Damaged((str(file.relative_to(path)),), how, blind)

    return damage


def _cut(content: bytearray, rng: Rng) -> str:
    at = int(rng.integers(1, len(content)))
    del content[at:]
    return f"cut at byte {at}"


def _few_flips(content: bytearray, rng: Rng) -> str:
    return _flip(content, rng, int(rng.integers(1, 6)))


def _many_flips(content: bytearray, rng: Rng) -> str:
    return _flip(content, rng, max(20, len(content) // 200))


def _flip(content: bytearray, rng: Rng, count: int) -> str:
    places = rng.integers(len(content), size=count).tolist()
    for place in places:
        content[place] ^= 1 << int(rng.integers(8))
    return f"{count} bits, the first in byte {places[0]}"


def _stretch(content: bytearray, rng: Rng) -> slice:
    at = int(rng.integers(len(content)))
    return slice(at, min(len(content), at + int(2 ** rng.uniform(2, 12))))


def _zeros(content: bytearray, rng: Rng) -> str:
    where = _stretch(content, rng)
    content[where] = bytes(where.stop - where.start)
    return f"zeros from byte {where.start} to {where.stop - 1}"


def _gap(content: bytearray, rng: Rng) -> str:
    where = _stretch(content, rng)
    del content[where]
    return f"without bytes {where.start} to {where.stop - 1}"


def _swap(path: Path, rng: Rng) -> Damaged:
    one = _pick(path, rng)
    others = [file for file in all_files(path, one.suffix) if file != one]
    if not others:
        raise UnsuitableError
    other = _choose(rng, others)
    blind = _blind_to_swap(path, one, other)
    aside = path / "aside"
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    names = (str(one.relative_to(path)), str(other.relative_to(path)))
    return Damaged(names, f"{names[0]} and {names[1]} swapped", blind)


def _blind_to_swap(path: Path, one: Path, other: Path) -> frozenset[str]:
    """Videos of one length are what their names say, as far as anything tells; so is a text beside a video."""
    if one.suffix == ".txt" or (one.suffix == ".mp4" and not (path / "meta").is_dir()):
        return frozenset({"swap"})
    return frozenset({"swap"} if one.suffix == ".mp4" and probe(one).frames == probe(other).frames else ())


def _whole(change: Callable[[Path, Rng], str]) -> Callable[[Path, Rng], Damaged]:
    def damage(path: Path, rng: Rng) -> Damaged:
        file = _pick(path, rng)
        return Damaged((str(file.relative_to(path)),), change(file, rng))

    return damage


def _empty(file: Path, _: Rng) -> str:
    file.write_bytes(b"")
    return "emptied"


def _delete(path: Path, rng: Rng) -> Damaged:
    file = _pick(path, rng)
    last = file.suffix in HDF5 and file == all_files(path, *HDF5)[-1]
    named = file.suffix == ".hdf5" and not file.stem.startswith("episode_")
    # Files that nothing lists: an HDF5 file of its own name, or the last of a row.
    blind = frozenset({"fewer"} if last or named else ())
    file.unlink()
    return Damaged((str(file.relative_to(path)),), "deleted", blind)


def _pointer(file: Path, rng: Rng) -> str:
    file.write_text(POINTER.format(rng.bytes(32).hex()), encoding="utf-8")
    return "a pointer of Git LFS"


def _folder(file: Path, _: Rng) -> str:
    file.unlink()
    file.mkdir()
    return "a folder"


def _rename(path: Path, rng: Rng) -> Damaged:
    file = _pick(path, rng)
    name = os.fsencode(file.stem) + _choose(rng, (b"\xff\xfe", b"\xe9t\xe9", b"\xc3")) + os.fsencode(file.suffix)
    file.rename(file.with_name(os.fsdecode(name)))
    return Damaged((str(file.relative_to(path)),), f"named {name!r}")


def _twin(path: Path, rng: Rng) -> Damaged:
    for file in all_files(path):
        content = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + rng.bytes(64)
        file.with_name(f"._{file.name}").write_bytes(content)
    return Damaged((".",), "every file has a twin of macOS")


def _json(path: Path, rng: Rng) -> Damaged:
    file = _pick(path, rng, ".json", ".jsonl")
    lines = file.read_text(encoding="utf-8").splitlines() if file.suffix == ".jsonl" else []
    number = int(rng.integers(len(lines))) if lines else 0
    said = json.loads(lines[number] if lines else file.read_text(encoding="utf-8"))
    holder, key, where = said, _choose(rng, list(said)), ""
    while isinstance(holder[key], dict | list) and holder[key] and rng.random() < 0.75:
        where += f"/{key}"
        holder = holder[key]
        key = _choose(rng, list(holder) if isinstance(holder, dict) else range(len(holder)))
    if rng.random() < 0.15:
        before, how = holder.pop(key), "removed"
    else:
        before, holder[key] = holder[key], _choose(rng, ODD)
        how = f"{holder[key]!r}"
    text = json.dumps(said)
    file.write_text("\n".join([*lines[:number], text, *lines[number + 1 :], ""]), encoding="utf-8")
    # Words in words' place are an instruction like any other, and a rate in a rate's place may be one.
    blind = {"words"} if isinstance(before, str) and how in ("'x'", "'../..'", "'{chunk_index'") else set()
    blind |= {"rate"} if key == "fps" else set()
    return Damaged((str(file.relative_to(path)),), f"{file.name} {number}{where}/{key}: {how}", frozenset(blind))


def _parquet(change: Callable[[pa.Table, Rng], tuple[pa.Table, str]]) -> Callable[[Path, Rng], Damaged]:
    def damage(path: Path, rng: Rng) -> Damaged:
        file = _pick(path, rng, ".parquet")
        table, how = change(pq.read_table(file), rng)
        pq.write_table(table, file)
        return Damaged((str(file.relative_to(path)),), how)

    return damage


def _column(table: pa.Table, rng: Rng) -> tuple[int, str]:
    """A column that readers look at more often than one of the many statistics."""
    names = [name for name in table.column_names if not name.startswith("stats/")]
    name = _choose(rng, names)
    return table.column_names.index(name), name


def _without_column(table: pa.Table, rng: Rng) -> tuple[pa.Table, str]:
    at, name = _column(table, rng)
    return table.remove_column(at), f"without the column {name}"


def _renamed_column(table: pa.Table, rng: Rng) -> tuple[pa.Table, str]:
    _, name = _column(table, rng)
    new = [f"{other}_old" if other == name else other for other in table.column_names]
    return table.rename_columns(new), f"the column {name} renamed"


def _other_type(table: pa.Table, rng: Rng) -> tuple[pa.Table, str]:
    at, name = _column(table, rng)
    values = table[name].to_pylist()
    make = {
        "text": str,
        "lists": lambda value: [str(value)],
        "structs": lambda value: {"a": str(value)},
        "times": lambda value: 12345,
        "bytes": lambda value: repr(value).encode(),
    }
    kind = _choose(rng, list(make))
    type_ = pa.timestamp("s") if kind == "times" else None
    return table.set_column(at, name, pa.array([make[kind](v) for v in values], type_)), f"the column {name} of {kind}"


def _with_nulls(table: pa.Table, rng: Rng) -> tuple[pa.Table, str]:
    at, name = _column(table, rng)
    column, lost = table[name], set(rng.integers(len(table), size=max(1, len(table) // 4)).tolist())
    values = [None if row in lost else value for row, value in enumerate(column.to_pylist())]
    return table.set_column(at, pa.field(name, column.type), pa.array(values, column.type)), f"nulls in {name}"


def _shuffled(table: pa.Table, rng: Rng) -> tuple[pa.Table, str]:
    return table.take(pa.array(rng.permutation(len(table)))), "rows shuffled"


def _fewer_rows(table: pa.Table, rng: Rng) -> tuple[pa.Table, str]:
    count = int(rng.integers(0, len(table)))
    return table.slice(0, count), f"{count} of {len(table)} rows"


def _doubled_rows(table: pa.Table, rng: Rng) -> tuple[pa.Table, str]:
    at = int(rng.integers(len(table)))
    return pa.concat_tables([table.slice(0, at + 1), table.slice(at)]), f"row {at} doubled"


def _hdf5(change: Callable[[h5py.Group, str, Rng], str]) -> Callable[[Path, Rng], Damaged]:
    def damage(path: Path, rng: Rng) -> Damaged:
        file = _pick(path, rng, *HDF5)
        found: list[str] = []
        with h5py.File(file, "r+") as root:
            root.visititems(lambda name, thing: found.append(name) if isinstance(thing, h5py.Dataset) else None)
            name = _choose(rng, found)
            how = change(root, name, rng)
        return Damaged((str(file.relative_to(path)),), f"{name}: {how}")

    return damage


def _no_array(root: h5py.Group, name: str, _: Rng) -> str:
    del root[name]
    return "missing"


def _other_dtype(root: h5py.Group, name: str, rng: Rng) -> str:
    kind = _choose(rng, ("S6", "c8", "f4", "O", "V3", "i1"))
    shape = root[name].shape
    del root[name]
    root.create_dataset(name, shape, h5py.string_dtype() if kind == "O" else kind)
    return f"of type {kind}"


def _other_length(root: h5py.Group, name: str, rng: Rng) -> str:
    values = root[name][()]
    if not values.ndim:
        raise UnsuitableError
    count = _choose(rng, (0, len(values) // 2, max(len(values) - 1, 0), len(values) + 3))
    del root[name]
    root[name] = np.resize(values, (count, *values.shape[1:])) if values.size else values
    return f"{count} of {len(values)} rows"


def _never_written(root: h5py.Group, name: str, _: Rng) -> str:
    shape, kind = root[name].shape, root[name].dtype
    del root[name]
    root.create_dataset(name, shape, kind, chunks=True if all(shape) else None)
    return "never written"


def _soft_link(root: h5py.Group, name: str, rng: Rng) -> str:
    others = {"elsewhere": h5py.SoftLink("/nowhere"), "outside": h5py.ExternalLink("other.hdf5", "/a")}
    others["to itself"] = h5py.SoftLink(f"/{name}")
    kind = _choose(rng, list(others))
    del root[name]
    root[name] = others[kind]
    return f"a link {kind}"


def _attribute(path: Path, rng: Rng) -> Damaged:
    file, found = _pick(path, rng, *HDF5), list[tuple[str, str]]()
    with h5py.File(file, "r+") as root:
        found += [("/", key) for key in root.attrs]
        root.visititems(lambda name, thing: found.extend((name, key) for key in thing.attrs))
        name, key = _choose(rng, found)
        kind = _choose(rng, ("missing", "number", "numbers", "nothing", "bytes", "JSON", "list"))
        odd = {
            "number": -1e300,
            "numbers": np.zeros((2, 2)),
            "nothing": h5py.Empty("f"),
            "bytes": np.bytes_(b"\xff\xfe"),
        }
        odd |= {"JSON": '{"env_kwargs": [], "sim_args": 3}', "list": "[1]"}
        before = root[name].attrs[key]
        del root[name].attrs[key]
        if kind != "missing":
            root[name].attrs[key] = odd[kind]
    blind = {"words"} if isinstance(before, str) and kind in ("JSON", "list") else set()
    return Damaged((str(file.relative_to(path)),), f"attribute {name} {key}: {kind}", frozenset(blind))


DAMAGES: dict[str, Callable[[Path, Rng], Damaged]] = {
    "cut": _bytes(_cut),
    "few bits flipped": _bytes(_few_flips),
    "many bits flipped": _bytes(_many_flips),
    "zeros": _bytes(_zeros),
    "a stretch left out": _bytes(_gap),
    "files swapped": _swap,
    "emptied": _whole(_empty),
    "deleted": _delete,
    "Git LFS pointer": _whole(_pointer),
    "a folder in its place": _whole(_folder),
    "name not UTF-8": _rename,
    "twins of macOS": _twin,
    "JSON value": _json,
    "column missing": _parquet(_without_column),
    "column renamed": _parquet(_renamed_column),
    "column of another type": _parquet(_other_type),
    "column with nulls": _parquet(_with_nulls),
    "rows shuffled": _parquet(_shuffled),
    "rows missing": _parquet(_fewer_rows),
    "row doubled": _parquet(_doubled_rows),
    "array missing": _hdf5(_no_array),
    "array of another type": _hdf5(_other_dtype),
    "array of another length": _hdf5(_other_length),
    "array never written": _hdf5(_never_written),
    "array a link": _hdf5(_soft_link),
    "attribute": _attribute,
}
# Damage to bytes is the most various, and is tried more often.
WEIGHTS = {name: 4 if number < 5 else 2 if number < 7 else 1 for number, name in enumerate(DAMAGES)}


def copy(source: Path, target: Path) -> None:
    """A fresh copy of a set."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
