"""Which checkpoint was evaluated, by its contents."""

import hashlib
import json
from pathlib import Path

DESCRIPTION = "config.json"


def fingerprint(folder: Path) -> str:
    """Of a checkpoint's contents, wherever it lies: what it is, but not the ways to sample that it is given by name.

    `videopolicy tune` adds such a way, and its evaluations from before are still those of the same policy.
    """
    # The model card may be edited; it does not act.
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"):
        digest.update(path.relative_to(folder).as_posix().encode())
        if path == folder / DESCRIPTION:
            digest.update(hashlib.sha256(_without_modes(path.read_bytes())).digest())
            continue
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


def _without_modes(text: bytes) -> bytes:
    """A description as it was written before it had any modes."""
    try:
        described = json.loads(text)
        if not described["model"]["modes"]:
            return text
        described["model"]["modes"] = {}
    except (ValueError, KeyError, TypeError):
        return text
    return (json.dumps(described, indent=2) + "\n").encode()
