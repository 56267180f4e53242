"""The names and shapes of the authors' parameters, and modules filled by them."""

from ast import literal_eval
from collections.abc import Mapping
from pathlib import Path

from tests.golden.fill import fill
from torch import nn


def keys(name: str, prefix: str = "") -> dict[str, tuple[int, ...]]:
    """The authors' name of every parameter -> its shape: of the "unet", the "encoder" or the "action" U-Net."""
    lines = Path(__file__).with_name(f"{name}_keys.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split(" ", 1) for line in lines)
    return {prefix + key: literal_eval(shape) for key, shape in pairs}


def shapes(module: nn.Module, names: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """The authors' name of every parameter of a module of ours -> its shape."""
    return {names[name]: tuple(weight.shape) for name, weight in module.state_dict().items()}


def filled(module: nn.Module, names: Mapping[str, str]) -> nn.Module:
    """A module built on the meta device, the named weights drawn from their authors' names (ours -> the authors')."""
    state = {name: tuple(weight.shape) for name, weight in module.state_dict().items() if name in names}
    # Those not named stay on the meta device, where a pass that needs them cannot go unnoticed.
    module.load_state_dict({name: fill(names[name], shape) for name, shape in state.items()}, strict=False, assign=True)
    return module.eval()
