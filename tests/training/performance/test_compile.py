"""Which blocks are compiled; that compiled ones compute the same needs a compiler, and is tried in training's tests."""

import pytest
from tests.small import CLONING, MODEL

from videopolicy.errors import UserError
from videopolicy.training.performance.compile import compile_blocks


@pytest.mark.parametrize("config", [MODEL.backbone, CLONING["backbone"]], ids=["unet", "images"])
def test_every_repeated_block_is_compiled_and_keeps_the_names_of_its_weights(config):
    backbone = config.build(4, 8)
    names = list(backbone.state_dict())
    blocks = [module for module in backbone.modules() if type(module).__name__ in backbone.repeated_blocks]
    assert compile_blocks(backbone) == len(blocks) > 1
    assert all("forward" in vars(block) for block in blocks) and list(backbone.state_dict()) == names


@pytest.mark.parametrize(("named", "said"), [((), "none"), (("Transformer",), "Transformer")])
def test_a_backbone_without_such_blocks_is_refused_not_left_uncompiled(named, said):
    backbone = MODEL.backbone.build(4, 8)
    backbone.repeated_blocks = named
    with pytest.raises(UserError, match=rf"--compile finds no repeated blocks in UNet \(it names {said}\)"):
        compile_blocks(backbone)
