from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
import torch
from diffusers import UNetSpatioTemporalConditionModel
from tests.small import MODEL

from videopolicy.backbones import images, unet
from videopolicy.backbones.base import Condition
from videopolicy.errors import UserError

CHANNELS, WIDTH, TOKENS, FRAMES = 4, 16, 3, 5


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def clip(batch=2, frames=FRAMES, side=4):
    video = draw(batch, frames, CHANNELS, side, side)
    latents = draw(batch, frames, CHANNELS, side, side, seed=1)
    return video, Condition(latents, draw(batch, TOKENS, WIDTH, seed=2)), draw(batch, seed=3)


@pytest.fixture(scope="module")
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODEL.backbone.build(CHANNELS, WIDTH).eval()


@pytest.mark.parametrize("side", [4, 7])
@pytest.mark.parametrize("attention", [(False, True), (True, True), (True, False)])
@torch.no_grad()
def test_with_one_text_a_clip_it_is_diffusers_own_network(attention, side):
    net = replace(MODEL.backbone, attention=attention, layers=2).build(CHANNELS, WIDTH).eval()
    reference = UNetSpatioTemporalConditionModel.from_config(net.net.config).eval()
    reference.load_state_dict(net.net.state_dict())
    video, condition, noise = clip(side=side)
    ours, _ = net(video, condition, noise)
    ids = net.ids.expand(2, -1)
    theirs = reference(torch.cat((video, condition.latents), 2), noise, condition.text, ids).sample
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    assert ours.std() > 0.01


@torch.no_grad()
def test_a_single_frame_can_go_without_the_text(net):
    video, condition, noise = clip()
    without = torch.zeros(2, FRAMES, dtype=torch.bool)
    without[0, 3] = True
    hidden = replace(condition, without_text=without)
    moved = (net(video, hidden, noise)[0] - net(video, condition, noise)[0]).abs()
    change = moved.amax(dim=(2, 3, 4))
    assert change[0].argmax() == 3
    # The other frames notice only through the layers that mix frames; the other clip must not.
    assert change[0, 3] > 2 * change[0, :3].max()
    assert change[1].max() == 0


@torch.no_grad()
def test_ids_are_added_within_the_network_and_not_in_the_embedding_for_the_head(net):
    other = replace(MODEL.backbone, ids=(12.0, 3.0, 0.5)).build(CHANNELS, WIDTH).eval()
    other.load_state_dict(net.state_dict())
    video, condition, noise = clip()
    torch.testing.assert_close(other.embed_noise(noise), net.embed_noise(noise), rtol=0, atol=0)
    assert not torch.allclose(other(video, condition, noise)[0], net(video, condition, noise)[0])


@torch.no_grad()
def test_the_features_that_are_tapped_are_those_of_the_named_modules():
    names = ("down_blocks.0", "down_blocks.1.resnets.0", "mid_block", "up_blocks.0", "up_blocks.1")
    config = unet.Config(channels=(32, 64), attention=(True, True), taps=names, id_width=8)
    net = config.build(CHANNELS, WIDTH).eval()
    assert net.tap_channels == (32, 64, 64, 64, 32)
    taps = net(*clip(side=8))[1].taps
    assert [tuple(tap.shape) for tap in taps] == [
        (2, FRAMES, 32, 4, 4),
        (2, FRAMES, 64, 4, 4),
        (2, FRAMES, 64, 4, 4),
        (2, FRAMES, 64, 8, 8),
        (2, FRAMES, 32, 8, 8),
    ]
    # Nothing but the last stage's own head follows the last tap.
    tail = net.net.conv_out(net.net.conv_act(net.net.conv_norm_out(taps[-1].flatten(0, 1))))
    torch.testing.assert_close(tail.unflatten(0, (2, FRAMES)), net(*clip(side=8))[0])


@pytest.mark.parametrize(("taps", "ups"), [(("mid_block",), 0), (("up_blocks.0", "down_blocks.0"), 1)])
@torch.no_grad()
def test_nothing_behind_the_last_tap_runs_for_features_alone(taps, ups):
    net = unet.Config(channels=(32, 64), attention=(True, True), taps=taps, id_width=8).build(CHANNELS, WIDTH).eval()
    video, condition, noise = clip(side=8)
    sigma, ran = (4 * noise).exp(), []
    for index, block in enumerate((*net.net.up_blocks, net.net.conv_out)):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    features = net.read(video, sigma, condition)
    assert ran == list(range(ups))
    for alone, of_whole in zip(features.taps, net.denoise(video, sigma, condition)[1].taps, strict=True):
        assert torch.equal(alone, of_whole)


@torch.no_grad()
def test_a_pass_after_one_that_failed_gives_its_own_features(net):
    video, condition, noise = clip()
    expected = net(video, condition, noise)[1].taps
    with pytest.raises(RuntimeError):
        net(video[..., :3], condition, noise)
    for tap, again in zip(expected, net(video, condition, noise)[1].taps, strict=True):
        assert torch.equal(tap, again)


@torch.no_grad()
def test_passes_of_two_threads_at_once_have_features_of_their_own(net):
    clips = [(*clip()[:2], torch.full((2,), level)) for level in (-1.0, 0.0, 1.0)] * 8
    expected = [net(*each)[1].taps for each in clips]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda each: net(*each)[1].taps, clips))
    for alone, together in zip(expected, found, strict=True):
        assert all(torch.equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize("tap", ["mid_blok", "up_blocks.7", "up_blocks", "conv_in"])
def test_an_unknown_tap_is_refused_when_the_network_is_built(tap):
    with pytest.raises(UserError, match=tap):
        replace(MODEL.backbone, taps=("mid_block", tap)).build(CHANNELS, WIDTH)


@pytest.mark.parametrize("change", [{"channels": (24, 32)}, {"attention": (True,)}, {"head_channels": 24}])
def test_a_shape_that_cannot_be_is_refused_by_name(change):
    with pytest.raises(UserError, match=next(iter(change))):
        replace(MODEL.backbone, **change).build(CHANNELS, WIDTH)


def counting(net, *names):
    """How often each of these modules runs from now on."""
    counts = dict.fromkeys(names, 0)

    def count(name):
        def hook(*_):
            counts[name] += 1

        return hook

    handles = [net.net.get_submodule(name).register_forward_hook(count(name)) for name in names]
    return counts, handles


@pytest.mark.parametrize("side", [4, 7])
@pytest.mark.parametrize("channels", [(32,), (32, 64), (32, 32, 64)])
@torch.no_grad()
def test_of_the_same_input_a_pass_that_reuses_deep_blocks_is_the_whole_pass(channels, side):
    attention = (True,) * len(channels)
    taps = ("mid_block", f"up_blocks.{len(channels) - 1}", "down_blocks.0")
    net = replace(MODEL.backbone, channels=channels, attention=attention, layers=2, taps=taps).build(CHANNELS, WIDTH)
    given = clip(side=side)
    whole, seen = net.eval()(*given)
    counts, handles = counting(net, "mid_block", "down_blocks.0", taps[1])
    with net.reusing(3):
        for _ in range(7):
            out, features = net(*given)
            torch.testing.assert_close(out, whole, rtol=0, atol=0)
            for tap, expected in zip(features.taps, seen.taps, strict=True):
                torch.testing.assert_close(tap, expected, rtol=0, atol=0)
    for handle in handles:
        handle.remove()
    assert counts == {"mid_block": 3, "down_blocks.0": 7, taps[1]: 7}


@torch.no_grad()
def test_reused_blocks_are_those_of_an_earlier_input_and_forgotten_afterwards(net):
    video, condition, noise = clip()
    whole = net(video, condition, noise)[0]
    with net.reusing(2):
        net(video + 1, condition, noise)
        reused, features = net(video, condition, noise)
    assert not torch.allclose(reused, whole)
    torch.testing.assert_close(features.taps[0], net(video + 1, condition, noise)[1].taps[0], rtol=0, atol=0)
    with net.reusing(2):
        torch.testing.assert_close(net(video, condition, noise)[0], whole, rtol=0, atol=0)
    torch.testing.assert_close(net(video, condition, noise)[0], whole, rtol=0, atol=0)


def test_a_backbone_that_cannot_hold_deep_blocks_says_so():
    small = images.Config(channels=(8, 16), blocks=1).build(CHANNELS, WIDTH)
    with small.reusing(1), pytest.raises(UserError, match="--reuse is for a video model that"):
        small.reusing(2)
