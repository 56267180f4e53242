"""The head at its full size against what the authors' published code computes for the same weights."""

from dataclasses import replace

import pytest
import torch
from tests.golden.fill import golden, noise
from tests.golden.keys import filled, keys, shapes

from videopolicy.errors import UserError
from videopolicy.heads.authors_keys import authors_names
from videopolicy.heads.conv3d import PAPER

pytestmark = pytest.mark.slow

# Channels and side of the taps, by the authors' number of the block.
TAPS = {22: (320, 32), 19: (640, 16), 16: (1280, 8), 13: (1280, 4), 9: (1280, 4)}
CHANNELS = tuple(channels for channels, _ in TAPS.values())
TIME, VIEWS, FRAMES = 1280, 3, 8


def on_meta(config=PAPER, views=VIEWS, frames=FRAMES, width=7):
    with torch.device("meta"):
        head = config.build(CHANNELS, TIME, views, frames, width)
    return head, authors_names(head.state_dict(), config, views)


def part(start):
    """The real head, filled only where the authors' names start so: both halves at once would take 1.5 GB."""
    head, names = on_meta()
    return filled(head, {name: other for name, other in names.items() if other.startswith(start)})


def test_names_shapes_and_counts_are_those_of_the_authors():
    head, names = on_meta()
    assert shapes(head, names) == {**keys("encoder", "vision_encoder."), **keys("action", "pose_pred_net.")}
    adapter, whole = (sum(weight.numel() for weight in net.parameters()) for net in (head.adapter, head))
    assert (adapter, whole - adapter) == (205_812_616, 161_359_111)


@torch.no_grad()
def test_adapter():
    shape = {number: (2, channels, FRAMES, side, side) for number, (channels, side) in TAPS.items()}
    taps = tuple(
        torch.stack([noise(f"encoder/tap{number}/view{view}", shape[number]) for view in range(VIEWS)], 1).transpose(
            2, 3
        )
        for number in TAPS
    )
    vector = part("vision_encoder.").adapt(taps, noise("encoder/emb", (2, 1, TIME))[:, 0])
    torch.testing.assert_close(vector, golden("heads")["encoder.output"].flatten(1), rtol=0, atol=1e-4)


@torch.no_grad()
def test_action_unet():
    head = part("pose_pred_net.")
    actions = head(noise("action/action", (3, 32, 7)), noise("action/cond", (3, 6720)), noise("action/emb", (3, TIME)))
    torch.testing.assert_close(actions, golden("heads")["action.output"], rtol=0, atol=1e-4)


def test_other_numbers_of_views_frames_and_actions_have_names_of_their_own():
    head, names = on_meta(views=4, frames=9, width=14)
    found = shapes(head, names)
    assert {name for name in found if ".layer7_4." in name} == {
        name.replace("_1.", "_4.") for name in keys("encoder", "vision_encoder.") if ".layer7_1." in name
    }
    assert found["vision_encoder.layer8.0.conv1.0.weight"] == (320, 4 * 576, 1, 1, 1)
    # Nine frames take a second slot of the vector; the embedding of the noise level is 256 of what conditions.
    assert found["pose_pred_net.mid_modules.0.cond_encoder.1.weight"] == (2048, 2 * 6720 + 256)
    assert found["pose_pred_net.final_conv.1.weight"] == (14, 256, 1)


def test_a_name_is_refused_that_the_shape_does_not_have():
    head, _ = on_meta()
    with pytest.raises(UserError, match=r"adapter\.views\.2"):
        authors_names(head.state_dict(), PAPER, views=2)
    with pytest.raises(UserError, match=r"down\.2"):
        authors_names(head.state_dict(), replace(PAPER, channels=(256, 512)), VIEWS)
