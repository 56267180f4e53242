"""Damages data sets of every format in every way, reads them, and compares with the undamaged ones.

    python experiments/reliability/fuzz.py --count 2000 --out experiments/reliability

Each case copies a set, damages it, and reads all of it in a process of its own. What comes of it is one of:

    refused       nothing of it is read, and one line says where and why
    told          something is left out or mended, and said; all that is read is what it was
    unharmed      all is read as before, and nothing need be said
    noise         pixels have changed, and every frame still shows its own number
    undetectable  another value, word or rate in a file without checksums, or sound files in each other's place;
                  decided by the kind of damage, not by what comes of it
    WRONG         a traceback, a crash, a hang, a message not for people, or a difference that nobody tells
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import platform
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from damages import DAMAGES, WEIGHTS, Damaged, UnsuitableError, copy
from sets import FORMATS, UNREADABLE, named

from videopolicy.datasets.base import Dataset
from videopolicy.datasets.formats import open_any
from videopolicy.errors import UserError

SECONDS = 60
MEMORY = 6 * 2**30
OUTCOMES = ("refused", "told", "unharmed", "noise", "undetectable", "WRONG")
_PROGRAMMERS = re.compile(
    r"[A-Z][a-z]+(Error|Exception)|\bErrno\b|<class|Traceback|object at 0x|\bNone\b|\bh5py\b|pyarrow"
)
# What notes of another kind say where a file is missing.
_GONE = re.compile("is not there|no such video|no video of its name")


def serve(pipe: Connection) -> None:
    """Reads one data set after the other, and sends what is in it, or how it failed."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    while True:
        path = pipe.recv()
        try:
            pipe.send(read(path))
        except UserError as error:
            pipe.send({"refused": str(error)})
        except Exception:
            pipe.send({"traceback": traceback.format_exc()})


def read(path: Path) -> dict[str, Any]:
    """Everything that a data set says and holds."""
    dataset = open_any(path)
    notes = [(note.kind, str(note), note.episodes) for note in dataset.notes]
    episodes, errors = [], []
    for index in range(len(dataset)):
        try:
            episodes.append(read_episode(dataset, index))
        except UserError as error:
            errors.append((dataset.number(index), str(error)))
    return {"notes": notes, "episodes": episodes, "errors": errors, "numbered": (path / "meta").is_dir()}


def read_episode(dataset: Dataset, index: int) -> dict[str, Any]:
    """One episode, read whole, and once more from its middle and its beginning, as training does."""
    one = dataset.episode(index)
    middle = len(one) // 2
    parts = [(start, dataset.episode(index, start=start, stop=start + 1)) for start in (middle, 0)]
    same = all(np.array_equal(part.views[v], one.views[v][at : at + 1]) for at, part in parts for v in one.views)
    return {
        "number": dataset.number(index),
        "length": dataset.length(index),
        "steps": len(one),
        "fps": round(one.fps, 2),
        "words": one.instruction,
        "actions": one.actions,
        "states": one.states,
        "says": {view: named(frames) for view, frames in one.views.items()},
        "pixels": {view: hashlib.sha256(frames.tobytes()).hexdigest() for view, frames in one.views.items()},
        "same": same,
    }


class Reader:
    """The process that reads; another one, if it crashes or hangs."""

    def __init__(self) -> None:
        self._process: Any = None

    def read(self, path: Path) -> dict[str, Any]:
        """What `read` gives, or {"refused": line}, {"traceback": text}, {"crash": how}, {"hang": seconds}."""
        if self._process is None:
            context = multiprocessing.get_context("spawn")
            self._pipe, there = context.Pipe()
            self._process = context.Process(target=serve, args=(there,), daemon=True)
            self._process.start()
            there.close()
        self._pipe.send(path)
        try:
            if self._pipe.poll(SECONDS):
                return self._pipe.recv()
            found = {"hang": SECONDS}
        except EOFError:
            self._process.join()
            found = {"crash": f"exit {self._process.exitcode}"}
        self._process.kill()
        self._process.join()
        self._process = None
        return found

    def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()


def judge(found: dict[str, Any], whole: dict[str, Any], damaged: Damaged, path: Path) -> tuple[str, str]:
    """The outcome of a case, and why."""
    for kind in ("traceback", "crash", "hang"):
        if kind in found:
            return "WRONG", f"{kind}: {found[kind]}"
    if "refused" in found:
        wrong = unfit(found["refused"], path)
        return ("WRONG", f"message: {wrong}") if wrong else ("refused", found["refused"])
    told = [note for note in found["notes"] if note not in whole["notes"]]
    lines = [text for _, text, _ in told] + [text for _, text in found["errors"]]
    for line in lines:
        if wrong := unfit(line, path):
            return "WRONG", f"message: {wrong}"
    differences, noise = compare(found, whole, told)
    if serious := {kind: text for kind, text in differences.items() if not excused(kind, damaged)}:
        return "WRONG", "; ".join(f"{kind}: {text}" for kind, text in serious.items())
    if differences:
        return "undetectable", "; ".join(f"{kind}: {text}" for kind, text in differences.items())
    return ("told", lines[0]) if lines else ("noise", "") if noise else ("unharmed", "")


def excused(kind: str, damaged: Damaged) -> bool:
    """Whether the kind of damage leaves nothing by which a difference could be noticed."""
    return kind in damaged.blind or ("swap" in damaged.blind and kind in ("frames", "words"))


def unfit(message: str, path: Path) -> str:
    """What is wrong with a message; "" if a person can use it."""
    if "\n" in message or _PROGRAMMERS.search(message.replace(str(path), "")):
        return message
    place = str(path) in message or "observation.images" in message or "of several instructions" in message
    return "" if place else f"names no place: {message}"


def compare(found: dict, whole: dict, told: list) -> tuple[dict[str, str], bool]:
    """Every difference that nobody tells, by its kind; and whether pixels changed under numbers that did not."""
    differences, noise = dict[str, str](), False
    known = {identity(one, whole): one for one in whole["episodes"]}
    seen = Counter(identity(one, found) for one in found["episodes"])
    for who in known:
        lost = [number for number, _ in found["errors"]] + [n for kind, _, ns in told if kind == "left out" for n in ns]
        somewhere = any((kind == "left out" or _GONE.search(text)) and not numbers for kind, text, numbers in told)
        if not seen[who] and not (who in lost if whole["numbered"] and not somewhere else lost or somewhere):
            differences["fewer"] = f"episode {who} is not there"
        if seen[who] > 1:
            differences["doubled"] = f"episode {who} is there {seen[who]} times"
    for one in found["episodes"]:
        who = identity(one, found)
        if who not in known:
            differences["more"] = f"episode {who} was not there before"
            continue
        others, changed = compare_episode(one, known[who], told)
        differences |= {kind: f"episode {who}: {text}" for kind, text in others.items()}
        noise |= changed
    return differences, noise


def identity(one: dict, among: dict) -> int:
    """Which episode it is: by its number where files keep it, else by most of what it says itself."""
    if among["numbered"]:
        return one["number"]
    said = [int(n) for frames in one["says"].values() for n in frames[:, 0] if n != UNREADABLE]
    if one["actions"] is not None:
        said += np.floor(one["actions"][:, 0]).astype(int).tolist()
    return Counter(said).most_common(1)[0][0] if said else -1


def compare_episode(one: dict, was: dict, told: list) -> tuple[dict[str, str], bool]:
    """The same of an episode and the undamaged one."""
    differences, noise, steps = dict[str, str](), False, one["steps"]
    mine = [text for kind, text, ns in told if not ns or one["number"] in ns]
    if steps != one["length"] or (steps != was["steps"] and not mine):
        differences["steps"] = f"{steps} steps, not {was['steps']}"
    for view, says in was["says"].items():
        now = one["says"].get(view)
        if now is None:
            if not mine:
                differences["part"] = f"the view {view} is not there"
        elif (now == UNREADABLE).any():
            differences["picture"] = f"{view} shows no number at step {int(np.argmax(now[:, 0] == UNREADABLE))}"
        elif not np.array_equal(now, says[:steps]):
            at = int(np.argmax((now != says[:steps]).any(1))) if len(now) <= len(says) else len(says)
            differences["frames"] = f"{view} shows {now[at].tolist()} at step {at}"
        else:
            noise |= len(now) == len(says) and one["pixels"][view] != was["pixels"][view]
    for name in ("actions", "states"):
        values, before = one[name], was[name]
        if values is None or before is None:
            if (values is None) != (before is None) and not mine:
                differences["part"] = f"{name} are not what they were: {'none' if values is None else 'some'}"
        elif not np.array_equal(values, before[:steps]):
            differences["values"] = f"other {name}"
    if one["words"] != was["words"] and not any(re.search("instruction|task", text) for text in mine):
        differences["words"] = f"{one['words']!r}, not {was['words']!r}"
    if one["fps"] != was["fps"] and not any(re.search("a second|rate|fps", text) for text in mine):
        differences["rate"] = f"{one['fps']}, not {was['fps']}"
    if not one["same"]:
        differences["seek"] = "a step read alone is another one than the same step read with the others"
    return differences, noise


def case(number: int, seed: int, whole: dict[str, Path], target: Path) -> tuple[str, str, Damaged]:
    """Makes a damaged set at target; its format, the kind of damage, and what was done."""
    rng = np.random.default_rng([seed, number])
    format_ = list(whole)[number % len(whole)]
    weights = np.array(list(WEIGHTS.values()), float)
    while True:
        kind = str(rng.choice(list(DAMAGES), p=weights / weights.sum()))
        copy(whole[format_], target)
        try:
            return format_, kind, DAMAGES[kind](target, rng)
        except UnsuitableError:
            continue


def main() -> None:
    """Runs the cases, and writes what came of them."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--count", type=int, default=2000)
    arguments.add_argument("--first", type=int, default=0, help="the number of the first case")
    arguments.add_argument("--seed", type=int, default=12)
    arguments.add_argument("--out", type=Path, help="writes fuzz.json there")
    options = arguments.parse_args()
    begun, reader, rows = time.time(), Reader(), list[dict[str, Any]]()
    with tempfile.TemporaryDirectory() as name:
        folder, target = Path(name), Path(name) / "set"
        whole = {format_: make(folder / f"whole_{n}") for n, (format_, make) in enumerate(FORMATS.items())}
        undamaged: dict[str, dict[str, Any]] = {}
        for format_, path in whole.items():
            copy(path, target)
            undamaged[format_] = reader.read(target)
            assert "notes" in undamaged[format_], f"the undamaged {format_} cannot be read: {undamaged[format_]}"
        for number in range(options.first, options.first + options.count):
            format_, kind, damaged = case(number, options.seed, whole, target)
            started = time.time()
            found = reader.read(target)
            outcome, why = judge(found, undamaged[format_], damaged, target)
            why = why.replace(str(target), "SET")
            row = {"case": number, "format": format_, "damage": kind, "files": damaged.files, "how": damaged.how}
            rows.append(row | {"outcome": outcome, "why": why, "seconds": round(time.time() - started, 2)})
            if outcome == "WRONG":
                print(f"case {number} [{format_}] {kind}: {damaged.how} in {damaged.files}\n    {why}", flush=True)
    reader.close()
    counts = Counter(row["outcome"] for row in rows)
    print(", ".join(f"{outcome} {counts[outcome]}" for outcome in OUTCOMES), f"in {time.time() - begun:.0f} s")
    if options.out:
        write(options, rows, counts, time.time() - begun)


def write(options: argparse.Namespace, rows: list[dict[str, Any]], counts: Counter[str], seconds: float) -> None:
    """Keeps the counts, and every case that a person may want to look at."""
    table: dict[str, dict[str, dict[str, int]]] = {}
    for row in rows:
        cell = table.setdefault(row["format"], {}).setdefault(row["damage"], {})
        cell[row["outcome"]] = cell.get(row["outcome"], 0) + 1
    asked, here = ["git", "rev-parse", "HEAD"], Path(__file__).parent
    commit = subprocess.run(asked, capture_output=True, text=True, encoding="utf-8", check=True, cwd=here)
    about = {
        "command": f"python experiments/reliability/fuzz.py --count {options.count} --seed {options.seed}",
        "seed": options.seed,
        "commit": commit.stdout.strip(),
        "python": platform.python_version(),
        "cores": os.cpu_count(),
        "processes": 1,
        "seconds": round(seconds),
        "slowest_case": max(row["seconds"] for row in rows),
        "outcomes": {outcome: counts[outcome] for outcome in OUTCOMES},
        "by_format": table,
        "looked_at": [row for row in rows if row["outcome"] in ("WRONG", "undetectable")],
    }
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "fuzz.json").write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
