"""Reads actions from video that has none, by a checkpoint's inverse dynamics, and writes a data set with them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from videopolicy.cli._threads import choose_threads
from videopolicy.cli.convert import summary
from videopolicy.datasets.conversion.staging import staging_folder
from videopolicy.datasets.phrases import plural
from videopolicy.diffusion.clocks import INVERSE_DYNAMICS
from videopolicy.durable import sha256
from videopolicy.errors import UserError, check_range
from videopolicy.labelling.label import Labels, label
from videopolicy.labelling.reader import ActionReader
from videopolicy.ownership import owned
from videopolicy.policies.checkpoint import CheckpointPolicy, Precision, open_model
from videopolicy.processes import check_workers
from videopolicy.processors import processors
from videopolicy.progress import say

SEEDS, DRAWS = 2**63, 256
# Of a hash, to tell checkpoints apart.
DIGITS = 12


@dataclass(frozen=True)
class Command:
    """Give the episodes of DATA that have no actions those that its video shows, and write all of them to OUT.

    OUT is a LeRobotDataset v3.0 as `videopolicy record` writes it, and appears whole or not at all. Stopped by
    whatever, the same command goes on where it was. Each labelled episode is marked, with a confidence from 0 to 1: one
    over one plus the variance of the draws, in the units in which the model learnt its actions. A list of data sets to
    train on may say min_confidence = 0.9, and then those that are less sure are video alone again.

    Best by a checkpoint of preset inverse_dynamics, which sees nothing but what moves; uwm and uwm_separate can, too.

    Example: videopolicy label videos --checkpoint runs/arm/checkpoint --out videos_labelled

    What a list of one data set shows without actions: videopolicy label few.toml --checkpoint C --out labelled
    """

    data: Annotated[Path, tyro.conf.Positional]
    """A data set of any format, or a .toml file that lists one."""
    checkpoint: Path
    """The checkpoint folder that training wrote, of a model that reads actions out of video."""
    out: Path
    """Folder of the data set; must not exist."""
    format: str | None = None
    """The data's format, if it cannot be told from its files."""
    draws: int = 4
    """Times that each action is drawn; their mean is the label, and their variance says how sure it is."""
    steps: int | None = None
    """Sampling steps; by default the checkpoint's own."""
    seed: int = 0
    """Seeds the draws."""
    workers: int = field(default_factory=processors)
    """Processes that write; one for each core unless given."""
    precision: Precision = "float32"
    """Of the weights in memory; bfloat16 takes half of it."""
    offload: bool = False
    """Keep the model in main memory and fetch it to the GPU layer by layer: slow, but it fits a small GPU."""

    def run(self) -> None:
        """Labels, and says what was written where.

        Raises:
            UserError: a bad setting, a checkpoint that reads no actions out of video, data that have actions or do not
                suit it, a target that exists, a full disk.
        """
        choose_threads()
        check_range("--draws", self.draws, 2, DRAWS)
        check_range("--seed", self.seed, 0, SEEDS - 1)
        check_workers(self.workers)
        with owned(self.out, "label", [self.data, self.checkpoint]):
            try:
                labels = self._label()
            except KeyboardInterrupt:
                if staging_folder(self.out, "label").exists():
                    say(f"kept in {staging_folder(self.out, 'label')}: the same command goes on from there")
                raise
        print("\n".join((*summary(labels.outcome, self.out), _sure(labels))))

    def _label(self) -> Labels:
        model, provenance = open_model(self.checkpoint, self.precision, self.offload)
        if not model.acts:
            raise UserError(f"{self.checkpoint}: trained on video alone, so that it cannot tell actions from video")
        sampling = model.config.sampling.changed(steps=self.steps)
        for note in sampling.clock_warnings(INVERSE_DYNAMICS, provenance.noise):
            print(f"note: {note}")
        if sampling.steps == 1:
            print("note: draws of one step hardly differ, so that their confidence says little; --steps 10 says more")
        folder = self.checkpoint.resolve()
        by = f"{folder.parent.name}/{folder.name} {sha256(folder / 'model.safetensors')[:DIGITS]}"
        reader = ActionReader(CheckpointPolicy(model, sampling, law=provenance.noise), self.draws, self.seed)
        words = ["videopolicy", "label", str(self.data), "--checkpoint", str(self.checkpoint), "--out", str(self.out)]
        for name in ("format", "draws", "steps", "seed", "precision"):
            value = getattr(self, name)
            words += [] if value is None else [f"--{name}", str(value)]
        return label(self.data, self.format, reader, by, self.out, self.workers, tuple(words))


def _sure(labels: Labels) -> str:
    values = list(labels.confidences.values())
    low, middle, high = np.quantile(values, (0, 0.5, 1))
    return f"labelled {plural(len(values), 'episode')}: confidence {low:.3f} to {high:.3f}, median {middle:.3f}"
