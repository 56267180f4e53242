"""LoRA (Hu et al. 2021): a video model learns by low-rank changes of its attention's projections, W + B A."""

import importlib.util
from collections.abc import Mapping

import torch
from torch import Tensor

from videopolicy.backbones.base import Backbone
from videopolicy.errors import UserError
from videopolicy.training.config import Training

# How peft names the parts of a layer that it has put adapters beside.
BASE, DOWN, UP = ".base_layer.", ".lora_A.default.weight", ".lora_B.default.weight"


def check(training: Training, begins_trained: bool) -> None:
    """Makes sure, before a run is set up, that its adapters can be.

    Args:
        training: the recipe; without LoRA there is nothing to check.
        begins_trained: whether the weights are those of a checkpoint.

    Raises:
        UserError: the weights are fresh, or peft is not installed.
    """
    if not training.lora:
        return
    if not begins_trained:
        raise UserError(
            "--lora changes a trained video model a little; fresh weights must learn whole: give --init too"
        )
    if importlib.util.find_spec("peft") is None:
        raise UserError("--lora needs the extra: pip install 'videopolicy[lora]'")


def adapt(backbone: Backbone, rank: int, seed: int) -> None:
    """Freezes a backbone and puts adapters beside its targets, in place; what it computes stays the same at first.

    Args:
        backbone: names the linear layers to adapt (`Backbone.lora_targets`).
        rank: rows of A and columns of B; the adapters' product is added unscaled.
        seed: of A; B begins as zeros.

    Raises:
        UserError: it names none, or has none of those that it names.
    """
    targets = backbone.lora_targets
    if not any(name.endswith(targets) for name, _ in backbone.named_modules()):
        named = f"has no layers called {', '.join(targets)}" if targets else "names no layers that can be adapted"
        raise UserError(f"--lora: the backbone {type(backbone).__name__} {named}; leave --lora out")
    from peft import LoraConfig, inject_adapter_in_model

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=rank, target_modules=list(targets)), backbone)


def merged(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What an adapted model computes with, under the names that it had before: new tensors for W + B A, on the CPU.

    Args:
        weights: whole tensors of the adapted model, by its names.
    """
    found: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name.endswith((DOWN, UP)):
            continue
        layer, base, last = name.rpartition(BASE)
        if base and last == "weight":
            value = value.cpu() + weights[layer + UP].cpu() @ weights[layer + DOWN].cpu()
        found[f"{layer}.{last}" if base else name] = value
    return found
