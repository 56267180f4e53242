"""Names of the head's parameters here and in the published code of Video Policy (Liang et al. 2025).

There the adapter is `vision_encoder`, its layers numbered from 1 within each view (`layer2_3` is the second level of
the third view, `layer2_3_cat` what the second tap goes through before it joins it) and on through the joint ones;
the action denoiser is `pose_pred_net`. Only names differ.
"""

from collections.abc import Iterable, Iterator

from videopolicy.backbones.sgm_keys import SAME, Parts, rename
from videopolicy.heads import conv3d

BOTTLENECK: Parts = {
    "time.": "emb_layers.",
    "narrow.": "conv1.",
    "mix.": "conv2.",
    "widen.": "conv3.",
    "skip.": "downsample.",
}
RESIDUAL: Parts = {
    "first.": "blocks.0.block.",
    "second.": "blocks.1.block.",
    "modulation.": "cond_encoder.",
    "skip.": "residual_conv.",
}


def authors_names(names: Iterable[str], config: conv3d.Config, views: int) -> dict[str, str]:
    """The authors' name of every parameter of a head.

    Args:
        names: our names, as in the head's `state_dict()`.
        config: the shape of the head.
        views: cameras V.

    Returns:
        Our name -> the authors', without the prefix of their whole network ("model.diffusion_model.").
    """
    return rename(names, dict((*_adapter(config, views), *_unet(config))))


def _adapter(config: conv3d.Config, views: int) -> Iterator[tuple[str, tuple[str, Parts]]]:
    """Every block of every stage: our name -> the authors', and what its parameters are called."""
    table = config.adapter
    levels, apart = len(table.levels), len(table.levels) + len(table.view)
    rows = []
    for view in range(views):
        ours, number = f"views.{view}", view + 1
        rows += [(f"{ours}.levels.{i}.0", f"layer{i + 1}_{number}", stage) for i, stage in enumerate(table.levels)]
        rows += [(f"{ours}.joins.{i}.0", f"layer{i + 2}_{number}_cat", stage) for i, stage in enumerate(table.joins)]
        rows += [(f"{ours}.tail.{i}", f"layer{levels + i + 1}_{number}", stage) for i, stage in enumerate(table.view)]
    rows += [(f"joint.{i}", f"layer{apart + i + 1}", stage) for i, stage in enumerate(table.joint)]
    for ours, theirs, stage in rows:
        for block in range(stage.blocks):
            yield f"adapter.{ours}.{block}", (f"vision_encoder.{theirs}.{block}", BOTTLENECK)
    yield "adapter.norm", ("vision_encoder.norm", SAME)


def _unet(config: conv3d.Config) -> Iterator[tuple[str, tuple[str, Parts]]]:
    levels = len(config.channels)
    rows = [("middle.first", "mid_modules.0", RESIDUAL), ("middle.second", "mid_modules.1", RESIDUAL)]
    for ours, theirs, count in (("down", "down_modules", levels), ("up", "up_modules", levels - 1)):
        for level in range(count):
            rows.append((f"{ours}.{level}.first", f"{theirs}.{level}.0", RESIDUAL))
            rows.append((f"{ours}.{level}.second", f"{theirs}.{level}.1", RESIDUAL))
    for level in range(levels - 1):
        rows.append((f"shorten.{level}", f"down_modules.{level}.2.conv", SAME))
        rows.append((f"lengthen.{level}", f"up_modules.{level}.2.conv", SAME))
    rows += [
        ("time", "diffusion_step_encoder", SAME),
        ("out.0", "final_conv.0.block", SAME),
        ("out.1", "final_conv.1", SAME),
    ]
    for ours, theirs, parts in rows:
        yield ours, (f"pose_pred_net.{theirs}", parts)
