"""A checkpoint in pieces that travel from a machine that lets few and small files go.

`home.py send` copies as many as may go in a call; there, `PYTHONPATH=src python home.py join CHECKPOINT PIECE ...` puts
them together.
"""

import json
import shutil
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from shared import Given, begin
from torch import Tensor

from videopolicy import checkpoint
from videopolicy.durable import sha256

# Bytes of a piece at most, and the files and bytes that may go in a call.
PIECE, FILES, BYTES = 15_900_000, 8, 64_000_000
# What `run.py` puts beside them: this item's results and the table.
BESIDE = {"home.json", "table.md"}
WEIGHTS = "model.safetensors"
TEXTS = ("config.json", "statistics.json", "README.md")
UNFINISHED = 75


def main() -> None:
    """Sends, and at toy size joins what it has sent."""
    given, rows = begin(__doc__)
    pieces = packed(given.work / "mt10" / "checkpoint", given.work / "pieces", PIECE)
    sent = given.work / "pieces" / "sent"
    sent.mkdir(exist_ok=True)
    out = (given.out or given.work / "home") / "checkpoint"
    for piece in send([piece for piece in pieces if not (sent / piece.name).exists()], out):
        (sent / piece.name).touch()
        rows.add(piece=piece.name, mb=piece.stat().st_size / 1e6)
    if given.dry:
        rows.add(piece="joined again", mb=joined(given, pieces))
    if any(not (sent / piece.name).exists() for piece in pieces):
        sys.exit(UNFINISHED)


def packed(folder: Path, into: Path, most: int) -> list[Path]:
    """The pieces of a checkpoint, in float16; the first carries the texts beside the weights."""
    if not into.is_dir():
        aside = into.with_suffix(".partial")
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir()
        texts = {name: (folder / name).read_text(encoding="utf-8") for name in TEXTS}
        parts = split(load_file(folder / WEIGHTS), most)
        for number, part in zip(count(1), parts, strict=False):
            file = aside / f"{number:02d}-of-{len(parts):02d}.safetensors"
            save_file(part, file, texts if number == 1 else None)
        aside.rename(into)
    return sorted(into.glob("*.safetensors"))


def split(weights: dict[str, Tensor], most: int) -> list[dict[str, Tensor]]:
    """Tensors, the largest first, each into the first part with room for it; those of the latents stay exact."""
    exact = {name for name, tensor in weights.items() if name.startswith("latents.") or not tensor.is_floating_point()}
    small = {name: tensor if name in exact else tensor.half() for name, tensor in weights.items()}
    parts: list[dict[str, Tensor]] = []
    for name, tensor in sorted(small.items(), key=lambda item: (-item[1].nbytes, item[0])):
        room = (part for part in parts if sum(other.nbytes for other in part.values()) + tensor.nbytes <= most)
        if (part := next(room, None)) is None:
            parts.append(part := {})
        part[name] = tensor
    return parts


def send(pieces: list[Path], out: Path) -> Iterator[Path]:
    """Copies what may still go beside the files that lie there."""
    out.mkdir(parents=True, exist_ok=True)
    for piece in pieces:
        there = {file.name: file.stat().st_size for file in out.parent.rglob("*") if file.is_file()}
        if len(BESIDE.union(there)) >= FILES or sum(there.values()) + piece.stat().st_size > BYTES:
            return
        shutil.copy(piece, out / piece.name)
        yield piece


def join(folder: Path, pieces: list[Path]) -> None:
    """Puts a checkpoint together, and opens it to be sure that it is one.

    Raises:
        UserError: pieces are missing, or of another checkpoint.
    """
    first = min(pieces, key=lambda piece: piece.name)
    with safe_open(first, "pt") as opened:
        texts = opened.metadata()
    folder.mkdir(parents=True)
    save_file({name: tensor for piece in pieces for name, tensor in load_file(piece).items()}, folder / WEIGHTS)
    description = json.loads(texts["config.json"])
    description["sha256"][WEIGHTS] = sha256(folder / WEIGHTS)
    for name, text in (texts | {"config.json": json.dumps(description, indent=2) + "\n"}).items():
        (folder / name).write_text(text, encoding="utf-8")
    checkpoint.load(folder)


def joined(given: Given, pieces: list[Path]) -> float:
    """Megabytes of a checkpoint that is put together from all pieces."""
    folder = given.work / "joined"
    shutil.rmtree(folder, ignore_errors=True)
    join(folder, pieces)
    return (folder / WEIGHTS).stat().st_size / 1e6


if __name__ == "__main__":
    if sys.argv[1] == "join":
        join(Path(sys.argv[2]), [Path(name) for name in sys.argv[3:]])
    else:
        main()
