"""torch.compile for the blocks of a video model, block by block."""

import os

from videopolicy.backbones.base import Backbone
from videopolicy.envs.places import at_home
from videopolicy.errors import UserError

# The blocks of a class share their code, and come in as many shapes as a network has levels and widths.
SHAPES = 128


def compile_blocks(backbone: Backbone) -> int:
    """Compiles a backbone's repeated blocks in place when they are first called; the names of the weights stay.

    Compiled once for every shape instead of as one large graph. What is compiled is kept on disk, in
    TORCHINDUCTOR_CACHE_DIR or else in the user's cache, for the next time.

    Returns:
        How many there are.

    Raises:
        UserError: the backbone names none, or has none of those that it names.
    """
    blocks = [module for module in backbone.modules() if type(module).__name__ in backbone.repeated_blocks]
    if not blocks:
        named = ", ".join(backbone.repeated_blocks) or "none"
        raise UserError(
            f"--compile finds no repeated blocks in {type(backbone).__name__} (it names {named}); leave --compile out"
        )
    if (cache := at_home()) is not None:
        os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache / "compiled"))
    # The compiler takes a second to import, which whoever compiles nothing is spared.
    import torch._dynamo

    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, SHAPES)
    for block in blocks:
        # Not the module: hooks, with which features are read out and weights fetched, stay outside.
        block.forward = torch.compile(block.forward)
    return len(blocks)
