"""Names of the U-Net's parameters here and in Stability AI's `sgm` code, in which SVD and the paper's weights are kept.

Ours are those of diffusers' `UNetSpatioTemporalConditionModel` behind "net."; sgm numbers its blocks in the order in
which they run. Only names differ: every tensor has the same shape and meaning on both sides.
"""

from collections.abc import Iterable, Iterator, Mapping

from videopolicy.backbones import unet
from videopolicy.errors import UserError

# What the parameters of a module are called: the start of our name -> the start of sgm's.
Parts = Mapping[str, str]

SAME: Parts = {"": ""}
CONVOLUTIONS: Parts = {
    "norm1.": "in_layers.0.",
    "conv1.": "in_layers.2.",
    "time_emb_proj.": "emb_layers.1.",
    "norm2.": "out_layers.0.",
    "conv2.": "out_layers.3.",
    "conv_shortcut.": "skip_connection.",
}
RESIDUAL: Parts = {
    **{f"spatial_res_block.{ours}": theirs for ours, theirs in CONVOLUTIONS.items()},
    **{f"temporal_res_block.{ours}": f"time_stack.{theirs}" for ours, theirs in CONVOLUTIONS.items()},
    "time_mixer.": "time_mixer.",
}
ATTENTION: Parts = {
    "temporal_transformer_blocks.": "time_stack.",
    "time_pos_embed.linear_1.": "time_pos_embed.0.",
    "time_pos_embed.linear_2.": "time_pos_embed.2.",
    **SAME,
}


def sgm_names(names: Iterable[str], config: unet.Config) -> dict[str, str]:
    """The name in sgm of every parameter of a U-Net.

    Args:
        names: our names, as in `UNet.state_dict()`.
        config: the shape of the U-Net; any number of levels and layers.

    Returns:
        Our name -> sgm's, without sgm's own prefix ("model.diffusion_model.").
    """
    return rename(names, dict(_modules(config)))


def rename(names: Iterable[str], modules: Mapping[str, tuple[str, Parts]]) -> dict[str, str]:
    """Translates names of parameters, module by module.

    Args:
        names: our names.
        modules: our name of a module -> the other's name, and what its parameters are called.

    Returns:
        Our name -> the other's.

    Raises:
        UserError: a name that no module accounts for, or two that would become one.
    """
    renamed = {name: _rename(name, modules) for name in names}
    if len(set(renamed.values())) != len(renamed):
        raise UserError("two weights would be given the same name")
    return renamed


def _rename(name: str, modules: Mapping[str, tuple[str, Parts]]) -> str:
    for module, (theirs, parts) in modules.items():
        rest = name.removeprefix(f"{module}.")
        if rest == name:
            continue
        for start, other in parts.items():
            if rest.startswith(start):
                return f"{theirs}.{other}{rest.removeprefix(start)}"
    raise UserError(f"no other name is known for the weight {name!r}")


def _modules(config: unet.Config) -> Iterator[tuple[str, tuple[str, Parts]]]:
    """Our name of each module -> sgm's, and its kind."""
    yield from (
        ("net.time_embedding.linear_1", ("time_embed.0", SAME)),
        ("net.time_embedding.linear_2", ("time_embed.2", SAME)),
        ("net.add_embedding.linear_1", ("label_emb.0.0", SAME)),
        ("net.add_embedding.linear_2", ("label_emb.0.2", SAME)),
        ("net.conv_in", ("input_blocks.0.0", SAME)),
        ("net.mid_block.resnets.0", ("middle_block.0", RESIDUAL)),
        ("net.mid_block.attentions.0", ("middle_block.1", ATTENTION)),
        ("net.mid_block.resnets.1", ("middle_block.2", RESIDUAL)),
        ("net.conv_norm_out", ("out.0", SAME)),
        ("net.conv_out", ("out.2", SAME)),
    )
    # On the way up there is a layer more, for the skip connection of what halved the size (or of the input).
    layers = config.layers + 1
    for level in range(len(config.channels)):
        ours, last = f"net.down_blocks.{level}", (level + 1) * layers
        for layer in range(config.layers):
            theirs = f"input_blocks.{level * layers + layer + 1}"
            yield f"{ours}.resnets.{layer}", (f"{theirs}.0", RESIDUAL)
            yield f"{ours}.attentions.{layer}", (f"{theirs}.1", ATTENTION)
        yield f"{ours}.downsamplers.0.conv", (f"input_blocks.{last}.0.op", SAME)
    for level, attends in enumerate(config.attention[::-1]):
        ours, last = f"net.up_blocks.{level}", (level + 1) * layers - 1
        for layer in range(layers):
            theirs = f"output_blocks.{level * layers + layer}"
            yield f"{ours}.resnets.{layer}", (f"{theirs}.0", RESIDUAL)
            yield f"{ours}.attentions.{layer}", (f"{theirs}.1", ATTENTION)
        # It follows the attention, where there is one, within the last layer's block.
        yield f"{ours}.upsamplers.0.conv", (f"output_blocks.{last}.{1 + attends}.conv", SAME)
