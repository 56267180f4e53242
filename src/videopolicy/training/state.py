"""Everything a run needs to go on where it stopped, in safetensors and JSON."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from videopolicy.errors import UserError
from videopolicy.training.ema import Ema

# One file, so that a new state takes the old one's place in one step.
FILE = "state.safetensors"


def save_state(
    folder: Path,
    module: nn.Module,
    ema: Ema,
    optimizer: torch.optim.Optimizer,
    generator: torch.Generator,
    facts: dict[str, Any],
) -> None:
    """Writes weights, average, optimiser, random state and facts (step, seconds) aside, then in place.

    Args:
        folder: of the state.
        module: whose weights are learning.
        ema: their average.
        optimizer: with its moments.
        generator: of the noise.
        facts: plain JSON values: the step, the time spent.

    Raises:
        UserError: it cannot be written; the state before stays.
    """
    tensors = {f"weights/{name}": value for name, value in module.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in ema.weights.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in values.items()}
    tensors["generator"] = generator.get_state()
    # Cloned: safetensors refuses tensors that share memory.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    aside = folder / f".{FILE}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, aside, metadata={"facts": json.dumps(facts)})
        aside.replace(folder / FILE)
    except (OSError, SafetensorError) as error:
        raise UserError(f"{folder}: cannot be written ({error}); what was saved before is still there") from error
    finally:
        aside.unlink(missing_ok=True)


def load_state(
    folder: Path, module: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> dict[str, Any]:
    """Puts a saved state into these objects, in place.

    Returns:
        The facts that it was saved with.

    Raises:
        UserError: there is none, or it is damaged or of another model.
    """
    if not (folder / FILE).is_file():
        raise UserError(f"{folder}: nothing to resume; train without --resume to start anew")
    try:
        tensors = load_file(folder / FILE)
        with safe_open(folder / FILE, "pt") as file:
            facts = json.loads(file.metadata()["facts"])
    except SafetensorError as error:
        raise UserError(f"{folder / FILE}: damaged ({error}); start anew in another folder") from error
    try:
        module.load_state_dict(_under("weights/", tensors))
        ema.load(_under("average/", tensors))
    except (RuntimeError, KeyError) as error:
        raise UserError(f"{folder}: the saved run trained another model; resume with its own settings") from error
    moments: dict[int, dict[str, Tensor]] = {}
    for name, value in _under("optimizer/", tensors).items():
        index, _, key = name.partition("/")
        moments.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    generator.set_state(tensors["generator"])
    return facts


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
