"""Everything a run needs to go on where it stopped, in safetensors and JSON."""

import json
import shutil
from os import getpid
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from videopolicy.errors import UserError
from videopolicy.training.ema import Ema


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
    """
    aside = folder.with_name(f".{folder.name}.{getpid()}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    tensors = {f"weights/{name}": value for name, value in module.state_dict().items()}
    tensors |= {f"average/{name}": value for name, value in ema.weights.items()}
    for index, values in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer/{index}/{name}": torch.as_tensor(value) for name, value in values.items()}
    tensors["generator"] = generator.get_state()
    # Cloned: safetensors refuses tensors that share memory.
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    save_file(tensors, aside / "state.safetensors")
    (aside / "state.json").write_text(json.dumps(facts))
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)


def load_state(
    folder: Path, module: nn.Module, ema: Ema, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> dict[str, Any]:
    """Puts a saved state into these objects, in place.

    Returns:
        The facts that it was saved with.

    Raises:
        UserError: there is none, or it is of another model.
    """
    if not (folder / "state.json").is_file():
        raise UserError(f"{folder}: nothing to resume; train without --resume to start anew")
    tensors = load_file(folder / "state.safetensors")
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
    return json.loads((folder / "state.json").read_text())


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
