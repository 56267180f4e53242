"""torch.compile for the blocks of a video model, block by block."""

import torch
import torch._dynamo
from torch import nn

# What a video model repeats: compiled once for every shape instead of as one large graph, and the units of FSDP2
# (configs/accelerate/fsdp2.yaml).
BLOCKS = ("SpatioTemporalResBlock", "TransformerSpatioTemporalModel")
# The blocks of a class share their code, and come in as many shapes as a network has levels and widths.
SHAPES = 128


def compile_blocks(model: nn.Module) -> int:
    """Compiles the blocks in place when they are first called; the names of the weights stay.

    Returns:
        How many there are.
    """
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
    blocks = [module for module in model.modules() if type(module).__name__ in BLOCKS]
    for block in blocks:
        # Not the module: hooks, with which features are read out and weights fetched, stay outside.
        block.forward = torch.compile(block.forward)
    return len(blocks)
