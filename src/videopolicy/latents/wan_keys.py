"""Names of the weights of Wan's autoencoders in the files that their authors publish, told by diffusers' names.

In those of Wan 2.1 the blocks of all levels stand in one row; in those of Wan 2.2, each level has a row of its own.
"""

import re
from collections.abc import Iterable

# Parts of either network, wherever they stand.
PARTS = {
    "quant_conv": "conv1",
    "post_quant_conv": "conv2",
    "conv_in": "conv1",
    "norm_out": "head.0",
    "conv_out": "head.2",
    "mid_block.resnets.0": "middle.0",
    "mid_block.attentions.0": "middle.1",
    "mid_block.resnets.1": "middle.2",
}
# Of a residual block.
LAYERS = {
    "norm1": "residual.0",
    "conv1": "residual.2",
    "norm2": "residual.3",
    "conv2": "residual.6",
    "conv_shortcut": "shortcut",
}
BLOCK = re.compile(
    r"(encoder\.down|decoder\.up)_blocks\.(\d+)(?:\.resnets\.(\d+)|\.(?:down|up)samplers?(?:\.0)?)?\.(.+)"
)


def original_names(names: Iterable[str], averages: bool, blocks: int) -> dict[str, str]:
    """Diffusers' name of each weight -> its authors'.

    Args:
        names: diffusers'.
        averages: whether it is one of Wan 2.2's kind.
        blocks: residual blocks of a level of the encoder; the decoder has one more.
    """
    return {name: _original(name, averages, blocks) for name in names}


def _original(name: str, averages: bool, blocks: int) -> str:
    if match := BLOCK.fullmatch(name):
        side, level, block, rest = match.groups()
        rows = "encoder.downsamples" if side == "encoder.down" else "decoder.upsamples"
        # What resizes a level stands behind its blocks.
        last = blocks if side == "encoder.down" else blocks + 1
        place = last if block is None else int(block)
        if averages:
            return f"{rows}.{level}.{rows.split('.')[1]}.{place}.{_layer(rest)}"
        # diffusers leaves the encoder's row as it is.
        at = int(level) if side == "encoder.down" else int(level) * (last + 1) + place
        return f"{rows}.{at}.{_layer(rest)}"
    for ours, theirs in PARTS.items():
        prefix, found, rest = name.partition(f"{ours}.")
        if found and prefix in ("", "encoder.", "decoder."):
            return f"{prefix}{theirs}.{_layer(rest) if 'resnets' in ours else rest}"
    return name


def _layer(rest: str) -> str:
    layer, dot, leaf = rest.partition(".")
    return f"{LAYERS.get(layer, layer)}{dot}{leaf}"
