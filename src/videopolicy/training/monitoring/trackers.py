"""Weights & Biases and trackio, through Accelerate's trackers, for those who ask for them."""

import importlib.util
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from videopolicy.errors import UserError, unknown

KNOWN = ("trackio", "wandb")
PROJECT = "videopolicy"


def check(names: Sequence[str]) -> None:
    """Makes sure that these trackers exist and are installed.

    Raises:
        UserError: one does not, or is not.
    """
    for name in names:
        if name not in KNOWN:
            raise unknown("tracker", name, KNOWN)
        if importlib.util.find_spec(name) is None:
            raise UserError(f"--track {name} needs its package: pip install {name}")


def start(accelerator: Accelerator, run: Path, recipe: dict[str, Any]) -> None:
    """Begins to track a run with whatever the accelerator logs with, or goes on with it.

    Args:
        accelerator: made with `log_with`.
        run: the run's folder, whose name becomes the run's.
        recipe: plain JSON values.
    """
    if not accelerator.log_with:
        return
    ours: dict[str, dict[str, Any]] = {
        "wandb": {"name": run.name, "dir": str(run), "id": _identity(run), "resume": "allow"},
        "trackio": {"name": run.name, "resume": "allow"},
    }
    accelerator.init_trackers(PROJECT, recipe, ours)


def _identity(run: Path) -> str:
    """Of this run for ever, so that a resumed one goes on with the same curves."""
    path = run / "track.txt"
    if not path.exists():
        path.write_text(secrets.token_hex(4), encoding="utf-8")
    return path.read_text(encoding="utf-8")
