"""Stops a run that diverges, whose loss is no longer a number or explodes, and keeps the batch for study."""

import json
import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from videopolicy.clips.dataset import ClipBatch
from videopolicy.diffusion.loss import Losses
from videopolicy.durable import usual_modes
from videopolicy.errors import UserError, name_path_in_errors

# A loss explodes when it is this many times the median of the last ones ...
EXPLODED = 1000.0
# ... and far beyond that of a model that says nothing, which is near 1 because what the network learns has unit
# variance. Small losses of a model that knows its clips by heart may vary freely.
UNLEARNED = 100.0
REMEMBERED = 100
# Losses before the median means something.
WARM = 50


class DivergenceGuard:
    """Knows the losses of the last steps, and says when one is out of all proportion."""

    def __init__(self) -> None:
        self._recent: deque[float] = deque(maxlen=REMEMBERED)

    def state(self) -> dict[str, Tensor]:
        """The losses that it knows, oldest first: "losses" (n,)."""
        return {"losses": torch.tensor(list(self._recent), dtype=torch.float64)}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Knows these losses in place of its own."""
        self._recent = deque(state["losses"].tolist(), maxlen=REMEMBERED)

    def problem(self, loss: float, norm: float) -> str | None:
        """What is wrong with a step, in words that fit after "the loss"; None if nothing is.

        Args:
            loss: of the step.
            norm: gradient norm: a loss can be finite and its gradient not.
        """
        if not (math.isfinite(loss) and math.isfinite(norm)):
            return f"is {loss:.4g} and its gradient {norm:.4g}"
        usual = median(self._recent) if len(self._recent) >= WARM else math.inf
        if loss > max(EXPLODED * usual, UNLEARNED):
            return f"explodes: {loss:.4g} after a median of {usual:.4g}"
        # Zero is the loss of a batch in which nothing counts, and says nothing about the others.
        if loss:
            self._recent.append(loss)
        return None


@dataclass(frozen=True, eq=False)
class DivergedStep:
    """A batch that was written aside.

    Attributes:
        batch: the clips.
        facts: the seed and the step, from which `videopolicy.training.noise.generator_of` draws the same noise again;
            what was wrong, losses, gradient norm, indices of the clips, and of each clip its noise levels and loss.
    """

    batch: ClipBatch
    facts: dict[str, Any]


def stopped(run: Path, batch: ClipBatch, facts: dict[str, Any], main: bool) -> UserError:
    """Writes the batch of a step that went wrong aside; the error that ends the run in all processes.

    Args:
        run: the run's folder.
        batch: the clips of all processes.
        facts: as `describe` gives them.
        main: whether this process writes.
    """
    folder = run / "divergence" / f"step-{facts['step']:06d}"
    kept = f"{folder} holds the batch"
    try:
        if main:
            save(folder, batch, facts)
    except OSError as error:
        kept = f"the batch could not be written aside ({error})"
    good = run / "checkpoint"
    last = f"{good} holds the last good weights" if good.exists() else "nothing was saved before"
    remedy = "lower the learning rate, or check the data"
    return UserError(f"{facts['problem']} at step {facts['step']}; {remedy}. {kept}, {last}")


def describe(
    seed: int, step: int, problem: str, losses: Losses, norm: float, indices: Int64[np.ndarray, "B"]
) -> dict[str, Any]:
    """The facts of a step that went wrong; numbers that are not finite as text, which JSON has no other way for.

    Args:
        seed: of the run.
        step: steps taken before it.
        problem: as `DivergenceGuard` has put it.
        losses: of all clips.
        norm: gradient norm.
        indices: of the clips.
    """
    levels = {"sigma_video": losses.levels.video, "sigma_actions": losses.levels.actions}
    of_video, of_actions = losses.by_clip()
    per_clip = {**levels, "video": of_video, "action": of_actions}
    clips = {name: [_plain(value) for value in values.tolist()] for name, values in per_clip.items()}
    video, action = losses.mean_video.item(), losses.mean_actions.item()
    means = {"video": video, "action": action, "gradient": norm}
    return {
        "seed": seed,
        "step": step,
        "problem": f"the loss {problem}",
        **{name: _plain(value) for name, value in means.items()},
        "indices": indices.tolist(),
        "clips": clips,
    }


def save(folder: Path, batch: ClipBatch, facts: dict[str, Any]) -> None:
    """Writes FOLDER/batch.safetensors and FOLDER/facts.json.

    Raises:
        OSError: the folder cannot be written.
    """
    values = {field.name: getattr(batch, field.name) for field in fields(batch)}
    arrays = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    tensors = {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}
    rest = {name: value for name, value in values.items() if name not in arrays}
    with name_path_in_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            save_file(tensors, folder / "batch.safetensors")
        except SafetensorError as error:
            raise OSError(str(error)) from error
        (folder / "facts.json").write_text(json.dumps({**facts, "batch": rest}, indent=1), encoding="utf-8")
        usual_modes(folder)


def load(folder: Path) -> DivergedStep:
    """What a run wrote aside before it stopped, so that the step can be taken again and studied.

    Example, with the run's model, recipe and objective: the losses again, with the same noise.

        found = load(folder)
        generator = generator_of(found.facts["seed"], found.facts["step"])
        losses = objective(found.batch, draw_noise(model, training, found.batch, generator))

    Raises:
        UserError: there is nothing, or it is damaged.
    """
    try:
        facts = json.loads((folder / "facts.json").read_text(encoding="utf-8"))
        tensors = load_file(folder / "batch.safetensors")
        arrays = {name: tensor.numpy() for name, tensor in tensors.items()}
        return DivergedStep(ClipBatch(**arrays, **facts.pop("batch")), facts)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        right = "give RUN/divergence/step-..., as the run's last line names it"
        raise UserError(f"{folder}: no batch that was written aside, or a damaged one ({error}); {right}") from error


def _plain(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
