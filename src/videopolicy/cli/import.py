"""Makes a checkpoint of pretrained weights: Stable Video Diffusion's, Wan's, Cosmos-Predict2's, or the paper's."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro

from videopolicy import checkpoint, registry
from videopolicy.cli._threads import choose_threads
from videopolicy.clips.normalize import Normalizer
from videopolicy.clips.statistics import Statistics
from videopolicy.diffusion.noise import joint
from videopolicy.errors import UserError
from videopolicy.ownership import owned
from videopolicy.policies.checkpoint import Precision
from videopolicy.porting.convert import convert
from videopolicy.porting.pieces import Row
from videopolicy.presets.base import preset


@dataclass(frozen=True)
class Command:
    """Turns pretrained weights into a checkpoint of this project, and tells what became of each of them.

    A weight that is missing, one too many, or of another shape is refused by its name. No code in a file is run.

    Example: videopolicy import svd_xt.safetensors --text laion/CLIP-ViT-H-14-laion2B-s32B-b79K --out models/svd

    Wan 2.2: videopolicy import Wan-AI/Wan2.2-TI2V-5B-Diffusers --preset wan_5b --out models/wan, or
    Wan-AI/Wan2.2-I2V-A14B-Diffusers --preset wan_a14b

    Cosmos-Predict2: videopolicy import nvidia/Cosmos-Predict2-2B-Video2World --preset cosmos_2b --out models/cosmos

    Cosmos-Predict2.5: videopolicy import nvidia/Cosmos-Predict2.5-2B@diffusers/base/post-trained --preset cosmos25_2b
    --out models/cosmos

    The authors' second stage: videopolicy import stage_2_trained_step_369k.ckpt --data data/robocasa --out models/paper
    """

    source: Annotated[str, tyro.conf.Positional]
    """A folder of stable-video-diffusion-img2vid-xt or its name on the Hugging Face hub, svd_xt.safetensors, or a .ckpt
    of the paper's authors; with another --preset, a folder of its pipeline in diffusers' layout, a name (behind an @
    the revision, if it is not the main one), or a file of its transformer."""
    out: Path
    """The checkpoint's folder."""
    preset: str = "svd"
    """The model that the weights are for, by the preset's name; sizes that they tell replace its own."""
    text: str | None = None
    """CLIP ViT-H/14 as a file, a folder or a name on the hub, for weights without a text tower, as SVD's own are. For a
    transformer, where its text encoder and tokenizer are, if not beside it."""
    vae: str | None = None
    """Wan's autoencoder as a folder, a name on the hub or a file, for a transformer that comes without."""
    data: Path | None = None
    """The data set that a head was trained on: the ranges of its actions are computed from it."""
    format: str = "lerobot"
    """The data set's format: a name from `videopolicy.datasets`."""
    statistics: Path | None = None
    """These ranges as JSON instead: {"low": [...], "high": [...]}, or a checkpoint's statistics.json."""
    precision: Precision = "float32"
    """Of the weights on disk, but for the autoencoder's; float16 takes half the room."""

    def run(self) -> None:
        """Converts, writes, reports."""
        choose_threads()
        reads = [read for read in (self.source, self.data, self.statistics, self.vae) if read]
        with owned(self.out, "import", reads):
            if self.out.exists():
                raise UserError(f"{self.out} exists; choose another --out or remove it")
            self._import()

    def _import(self) -> None:
        ported = convert(self.source, preset(self.preset).model, self.text, self._statistics(), self.vae)
        model = ported.model
        stage = "action" if model.head else "video"
        name, licence = ported.license
        notes = {"imported from": self.source, "licence": licence}
        # The authors trained their head at the video's own noise level.
        law = joint.Config() if model.head else None
        provenance = checkpoint.Provenance(stage, 0, notes=notes, license=name, noise=law)
        checkpoint.save(model, provenance, self.out, getattr(torch, self.precision))
        print(table(ported.rows))
        print(f"wrote {self.out}" + ("" if model.head else "; without a head: it imagines, and can be trained to act"))

    def _statistics(self) -> Normalizer | None:
        if self.data and self.statistics:
            raise UserError("--data and --statistics exclude each other: both say what the ranges of actions are")
        if self.statistics:
            try:
                ranges = Statistics.from_json(self.statistics.read_text(encoding="utf-8")).actions
            except (OSError, ValueError, UserError) as error:
                raise UserError(f"{self.statistics}: {error}") from error
            if ranges is None:
                raise UserError(f"{self.statistics}: has no ranges of actions; give those of a checkpoint that acts")
            return ranges
        return fit(self.data, self.format) if self.data else None


def fit(path: Path, format: str) -> Normalizer:
    """The ranges of all actions of a data set; no picture is decoded.

    Raises:
        UserError: it has no actions, or is damaged.
    """
    dataset = registry.build("datasets", format, path)
    episodes = (dataset.episode(index, ()).actions for index in range(len(dataset)))
    known = [actions for actions in episodes if actions is not None]
    if not known:
        raise UserError(f"{path}: no episode has actions")
    return Normalizer.fit(np.concatenate(known))


def table(rows: tuple[Row, ...]) -> str:
    """What became of each group of weights, one line each."""
    lines = [("weights", "tensors", "numbers", "became")]
    lines += [(row.source, f"{row.tensors:,}", f"{row.numbers:,}", row.became) for row in rows]
    source, tensors, numbers = (max(len(line[column]) for line in lines) for column in range(3))
    return "\n".join(f"{a:{source}}  {b:>{tensors}}  {c:>{numbers}}  {d}" for a, b, c, d in lines)
