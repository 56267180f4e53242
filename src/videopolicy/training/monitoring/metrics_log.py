"""Where the numbers of a run go: lines of JSON, TensorBoard, and trackers that somebody asked for."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from accelerate import Accelerator
from torch.utils.tensorboard import SummaryWriter

from videopolicy.durable import write_text

# RUN/losses.jsonl tells the same of two equal runs, apart from "seconds"; RUN/throughput.jsonl does not.
Kind = Literal["losses", "throughput", "validation"]
KINDS: tuple[Kind, ...] = ("losses", "throughput", "validation")


class MetricsLog:
    """Writes to RUN/losses.jsonl, throughput.jsonl, validation.jsonl and tensorboard, in the main process alone."""

    def __init__(self, accelerator: Accelerator, run: Path, step: int) -> None:
        """Goes on where a run left off.

        Args:
            accelerator: with the trackers, if any.
            run: the run's folder.
            step: steps taken so far; what an earlier run wrote of later ones is dropped.
        """
        self._accelerator, self._run = accelerator, run
        for kind in KINDS:
            _keep_until(run / f"{kind}.jsonl", step)
        # What is purged begins with this step; the last one that the state knows of stays.
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def write(self, kind: Kind, step: int, values: Mapping[str, float]) -> None:
        """Adds a line of this kind."""
        with (self._run / f"{kind}.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
        tagged = {f"{kind}/{name}": value for name, value in values.items()}
        for tag, value in tagged.items():
            self._board.add_scalar(tag, value, step)
        self._accelerator.log(tagged, step)

    def close(self) -> None:
        """Writes the rest out."""
        self._board.close()


def _keep_until(path: Path, step: int) -> None:
    """Drops what an earlier run logged after the step that this one starts from."""
    if path.exists():
        lines = [line for line in path.read_text(encoding="utf-8").splitlines() if _step(line) <= step]
        write_text(path, "".join(line + "\n" for line in lines))


def _step(line: str) -> float:
    """The step that a line tells of; infinite for the torn last line of a run that was killed."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")
