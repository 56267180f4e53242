"""What waits for a GPU, most valuable first: `python run.py [ITEM ...] [--minutes 9] [--out FOLDER] [--dry]`.

Each item is a process of its own with a limit on its time, so that one that fails costs itself alone. What is done with
the same sources is not done again: give the same command until nothing is left.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tables import failed, text

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# Whose change makes a measurement another one.
SOURCES = ("src", "experiments/gpu", "checkpoints")
# An item's exit code if it went well and has more to do in another call.
UNFINISHED = 75
# Seconds in which an item that is stopped may save what it has, and that this script needs for itself at the end.
GRACE, CLOSING = 10, 5
# Characters of the log of an item that has failed, from its end, that are carried away.
LOGGED = 20_000


@dataclass(frozen=True)
class Item:
    """Something to measure.

    Attributes:
        name: of its results.
        command: the script in `items`, and its arguments.
        what: it measures, in words.
        limit: seconds after which it is stopped.
        least: seconds without which it is not begun, but left for the next call.
        leaves: seconds of what is left that it does not take, for the items after it.
        needs: the item whose results it works on.
    """

    name: str
    command: tuple[str, ...]
    what: str
    limit: int
    least: int = 30
    leaves: int = 0
    needs: str | None = None


# Compared at equal time, most telling first: each is trained for five minutes in one call, and played.
COMPARED = (
    "small",
    "small_cotrained",
    "small_diffusion_policy",
    "small_vpp",
    "small_uwm_separate",
    "small_fast_wam",
    "small_uva",
    "small_mimic",
    "small_uwm",
    "small_vpp_former",
    "small_flash",
    "small_xwam",
    "small_lingbot",
)


def compared(name: str) -> "tuple[Item, Item]":
    """Trains a preset on MT10, and plays it."""
    train, play = f"train-{name}", f"evaluate-{name}"
    return (
        Item(train, ("mt10.py", "train", name), f"`{name}` on them for five minutes", 400, 360, needs="mt10-record"),
        Item(play, ("mt10.py", "evaluate", name), "how often it succeeds", 400, 60, needs=train),
    )


QUEUE = (
    Item(
        "steps",
        ("steps.py",),
        "a training step of every preset; of one of each model in every stage by every noise law",
        300,
    ),
    Item("plans", ("plans.py",), "a plan of every preset by each sampler", 150),
    Item("shipped", ("shipped.py",), "the shipped checkpoint on Meta-World", 150),
    Item("latency", ("latency.py",), "a chunk of actions by the full-size model", 330, least=90),
    Item("throughput-small", ("throughput.py", "small"), "training `small` beside a plain loop", 240, least=60),
    Item("throughput-svd", ("throughput.py", "svd"), "training `svd` beside a plain loop", 480, least=120),
    Item("mt10-record", ("mt10.py", "record"), "demonstrations of Meta-World's MT10", 400, least=300),
    Item("mt10-train", ("mt10.py", "train"), "`small` on them", 570, 180, leaves=130, needs="mt10-record"),
    Item("mt10-evaluate", ("mt10.py", "evaluate"), "how often it succeeds", 400, 60, needs="mt10-train"),
    Item("home", ("home.py", "send"), "its checkpoint in pieces that travel", 60, 15, needs="mt10-train"),
    *(item for name in COMPARED for item in compared(name)),
)


def main() -> None:
    """Runs what is not done, as far as the time goes; writes after every item, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("items", nargs="*", metavar="ITEM", help=", ".join(item.name for item in QUEUE))
    parser.add_argument("--minutes", type=float, default=9, help="in which all of this ends")
    parser.add_argument("--out", type=Path, help="where what this call has found is copied to")
    parser.add_argument("--dry", action="store_true", help="all items at toy size")
    given = parser.parse_args()
    if unknown := set(given.items) - {item.name for item in QUEUE}:
        parser.error(f"no item {', '.join(sorted(unknown))}; known: {', '.join(item.name for item in QUEUE)}")
    ends = time.monotonic() + 60 * given.minutes - CLOSING
    work = Path("runs") / ("gpu-dry" if given.dry else "gpu") / version()
    work.mkdir(parents=True, exist_ok=True)
    # A person who stops this wants the item stopped, too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for item in waiting(QUEUE, work, given.items):
        left = ends - time.monotonic()
        if obstacle := hindered(item, left, work):
            print(f"{item.name}: left for the next call, as {obstacle}", flush=True)
            continue
        # A CPU may take its time.
        limit = left if given.dry else item.limit
        found = run(item, max(item.least, min(limit, left - item.leaves)), work, given.out, given.dry)
        keep(item, found, work, given.out)
    results = [(item.name, item.what, result(work, item)) for item in QUEUE]
    print(text(results))
    chosen = [found for name, _, found in results if not given.items or name in given.items]
    sys.exit(any(found and failed(found) for found in chosen))


def version() -> str:
    """What stands for the sources as they are: a commit says nothing of what is not committed, and may not be known."""
    digest = hashlib.sha256()
    files = [path for folder in SOURCES for path in (ROOT / folder).rglob("*") if path.is_file()]
    for path in sorted(files):
        if path.suffix in {".py", ".toml", ".json", ".safetensors", ".txt"}:
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def commit() -> str:
    """The commit, if git is there and knows it."""
    with suppress(OSError):
        told = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True)
        return told.stdout.decode().strip()
    return ""


def waiting(queue: Sequence[Item], work: Path, chosen: Sequence[str]) -> Iterator[Item]:
    """What is not done: first what was never tried, as what has failed may fail again."""
    left = [item for item in queue if (not chosen or item.name in chosen)]
    left = [item for item in left if (result(work, item) or {}).get("state") != "done"]
    for item in queue:
        if item not in left and (not chosen or item.name in chosen):
            print(f"{item.name}: done before, with the same sources", flush=True)
    yield from sorted(left, key=lambda item: (result(work, item) or {}).get("state") == "failed")


def hindered(item: Item, left: float, work: Path) -> str | None:
    """Why an item cannot be begun."""
    if left < item.least:
        return f"{max(left, 0):.0f} s are too few for it"
    before = [other for other in QUEUE if other.name == item.needs]
    if before and (result(work, before[0]) or {}).get("state") != "done":
        return f"{item.needs} is not done"
    return None


def run(item: Item, seconds: float, work: Path, out: Path | None, dry: bool) -> dict[str, Any]:
    """Runs an item, its output in a log, and tells how it ended."""
    rows, log = work / f"{item.name}.rows.json", work / "logs" / f"{item.name}.log"
    rows.unlink(missing_ok=True)
    log.parent.mkdir(exist_ok=True)
    command = [sys.executable, str(HERE / "items" / item.command[0]), *item.command[1:]]
    command += ["--rows", str(rows), "--work", str(work), "--ends", str(time.monotonic() + seconds)]
    command += (["--out", str(out)] if out else []) + (["--dry"] if dry else [])
    print(f"{item.name}: {item.what}, {seconds:.0f} s at most", flush=True)
    begun = time.monotonic()
    with log.open("w", encoding="utf-8") as said:
        code = wait(command, seconds, said)
    took = time.monotonic() - begun
    state = "done" if code == 0 else "unfinished" if code == UNFINISHED else "failed"
    error = None if state != "failed" else f"stopped after {took:.0f} s" if code is None else last_line(log)
    found = json.loads(rows.read_text(encoding="utf-8")) if rows.is_file() else {"rows": []}
    rows.unlink(missing_ok=True)
    print(f"{item.name}: {state} in {took:.0f} s{f': {error}' if error else ''}", flush=True)
    about = {"item": item.name, "commit": commit(), "sources": work.name, "dry": dry, "state": state}
    return {**about, "seconds": round(took, 1), "error": error, "log": str(log) if error else None, **found}


def wait(command: list[str], seconds: float, said: Any) -> int | None:
    """The exit code of a command, or None if it was stopped; nothing that it started is left."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))}
    # A group of its own, so that its workers are stopped with it.
    process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment, process_group=0)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def last_line(log: Path) -> str:
    """Where Python says what went wrong."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


def result(work: Path, item: Item) -> dict[str, Any] | None:
    """What is known of an item; None if it was never tried."""
    file = work / f"{item.name}.json"
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else None


def keep(item: Item, found: dict[str, Any], work: Path, out: Path | None) -> None:
    """Writes what an item has found, and the table so far."""
    write(work / f"{item.name}.json", json.dumps(found, indent=1) + "\n")
    write(work / "table.md", text([(item.name, item.what, result(work, item)) for item in QUEUE]))
    if out is None:
        return
    out.mkdir(parents=True, exist_ok=True)
    for name in (f"{item.name}.json", "table.md"):
        shutil.copy(work / name, out / name)
    if found["log"]:
        with (out / "failed.log").open("a", encoding="utf-8") as logs:
            logs.write(
                f"==== {item.name}\n{Path(found['log']).read_text(encoding='utf-8', errors='replace')[-20_000:]}\n"
            )


def write(file: Path, content: str) -> None:
    """All of it or nothing, whatever stops this process."""
    aside = file.with_suffix(".partial")
    aside.write_text(content, encoding="utf-8")
    aside.replace(file)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
