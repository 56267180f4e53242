"""What tests of Cosmos share: diffusers' own transformer, able to run where torchvision is not installed."""

from importlib.util import find_spec
from types import SimpleNamespace

import torch
from diffusers.models.transformers import transformer_cosmos
from diffusers.models.transformers.transformer_cosmos import CosmosTransformer3DModel


def without_torchvision(monkeypatch) -> None:
    """Where torchvision is absent, the mask of padded pixels, all zeros, is resized by torch."""
    if find_spec("torchvision") is None:
        resize = SimpleNamespace(resize=lambda mask, size, interpolation: torch.nn.functional.interpolate(mask, size))
        modes = SimpleNamespace(NEAREST="nearest")
        transforms = SimpleNamespace(functional=resize, InterpolationMode=modes)
        monkeypatch.setattr(transformer_cosmos, "transforms", transforms, raising=False)


def stock(net) -> CosmosTransformer3DModel:
    """diffusers' transformer as it builds it of a description, with the same weights."""
    other = CosmosTransformer3DModel.from_config(dict(net.config)).eval()
    other.load_state_dict(net.state_dict())
    return other
