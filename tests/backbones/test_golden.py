"""The video U-Net against what the authors' published code computes for the same weights."""

from dataclasses import replace

import pytest
import torch
from tests.golden.fill import golden, noise
from tests.golden.keys import filled, keys, shapes

from videopolicy.backbones import unet
from videopolicy.backbones.base import Condition
from videopolicy.backbones.sgm_keys import rename, sgm_names
from videopolicy.errors import UserError

# The authors' number of each block that is tapped, and our name for it.
TAPS = {
    22: "up_blocks.3.attentions.1",
    19: "up_blocks.2.attentions.1",
    16: "up_blocks.1.attentions.1",
    13: "up_blocks.0.resnets.1",
    9: "down_blocks.2.downsamplers.0",
}
CONFIG = unet.Config(
    channels=(32, 64, 128, 128),
    layers=2,
    head_channels=16,
    attention=(True, True, True, False),
    taps=tuple(TAPS.values()),
)
CLIPS, FRAMES = 2, 9


def on_meta(config):
    with torch.device("meta"):
        return config.build(4, 48)


def named(config):
    net = on_meta(config)
    return shapes(net, sgm_names(net.state_dict(), config))


@pytest.fixture(scope="module")
def net():
    net = on_meta(CONFIG)
    return filled(net, sgm_names(net.state_dict(), CONFIG))


@pytest.fixture(scope="module")
def same(net):
    return run(net)


def run(net, dropped=()):
    x = noise("unet/x", (CLIPS * FRAMES, 8, 16, 16)).unflatten(0, (CLIPS, FRAMES))
    without = torch.zeros(CLIPS, FRAMES, dtype=torch.bool)
    for clip, frame in dropped:
        without[clip, frame] = True
    condition = Condition(x[:, :, 4:], noise("unet/context", (CLIPS, 1, 48)), without)
    with torch.no_grad():
        return net(x[:, :, :4], condition, torch.tensor([2.3, 0.4]).log() / 4)


def test_names_and_shapes_are_those_of_the_authors():
    assert named(CONFIG) == keys("unet")
    assert len(keys("unet")) == 1428


def test_at_full_size_the_names_are_the_same_and_so_is_the_count_of_weights():
    full = named(replace(CONFIG, channels=(320, 640, 1280, 1280), head_channels=64, id_width=256))
    assert full.keys() == keys("unet").keys()
    # Against the paper's 1,524,623,082: here text is 48 wide, not 1024, in keys and values of space and time.
    missing = sum(
        full[name][0] * (1024 - 48) for name in full if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))
    )
    assert sum(torch.Size(shape).numel() for shape in full.values()) + missing == 1_524_623_082


@pytest.mark.parametrize(("channels", "layers"), [((32,), 1), ((32, 64), 3), ((32, 32, 64, 64, 64), 1)])
def test_any_depth_and_number_of_layers_has_a_name_for_every_weight(channels, layers):
    config = unet.Config(channels, layers, attention=(True,) * len(channels), taps=("mid_block",))
    names = named(config)
    blocks = {int(name.split(".")[1]) for name in names if name.startswith("input_blocks.")}
    assert blocks == set(range(len(channels) * (layers + 1)))
    blocks = {int(name.split(".")[1]) for name in names if name.startswith("output_blocks.")}
    assert blocks == set(range(len(channels) * (layers + 1)))


def test_a_weight_without_another_name_is_refused_by_name():
    with pytest.raises(UserError, match=r"net\.conv_inn\.weight"):
        sgm_names(["net.conv_inn.weight"], CONFIG)
    with pytest.raises(UserError, match="same name"):
        rename(["a.x", "b.x"], {"a": ("c", {"": ""}), "b": ("c", {"": ""})})


def test_output(same):
    torch.testing.assert_close(same[0].flatten(0, 1), golden("unet")["same.output"], rtol=0, atol=1e-4)


def test_features(same):
    stored = golden("unet")
    for number, tap in zip(TAPS, same[1].taps, strict=True):
        torch.testing.assert_close(tap[0], stored[f"same.feature.{number}"], rtol=0, atol=2e-3)


def test_text_dropped_in_one_frame(net):
    output, stored = run(net, dropped=[(0, 3)])[0].flatten(0, 1), golden("unet")
    torch.testing.assert_close(output, stored["perframe.output"], rtol=0, atol=1e-4)
    assert (stored["perframe.output"] - stored["same.output"]).abs().max() > 1e-2
