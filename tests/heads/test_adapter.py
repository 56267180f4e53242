from dataclasses import replace

import pytest
import torch
from tests.small import MODEL

from videopolicy.errors import UserError
from videopolicy.heads.adapter import Adapter

CONFIG = MODEL.head.adapter
TAPS, TIME = (8, 12), 16


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def taps(batch=2, views=2, frames=3, sides=(4, 2)):
    pairs = enumerate(zip(TAPS, sides, strict=True))
    return tuple(draw(batch, views, frames, channels, side, side, seed=i) for i, (channels, side) in pairs)


def built(config=CONFIG, views=2, frames=3) -> Adapter:
    return config.build(TAPS, TIME, views, frames).eval()


def read(adapter, taps):
    return adapter(taps, draw(len(taps[0]), TIME))


@pytest.mark.parametrize("sides", [(4, 2), (8, 4), (7, 3), (1, 1)])
@torch.no_grad()
def test_taps_of_any_size_give_one_vector(sides):
    assert read(built(), taps(sides=sides)).shape == (2, CONFIG.width)


@pytest.mark.parametrize("size", [4, 5, 7, 8])
@pytest.mark.parametrize("depth", [1, 2, 3])
@torch.no_grad()
def test_any_size_and_depth_fit_together(size, depth):
    adapter = built(replace(CONFIG, size=size, channels=(16, 8, 8)[:depth]))
    assert read(adapter, taps()).shape == (2, CONFIG.width)


@torch.no_grad()
def test_every_tap_frame_and_view_counts():
    adapter, given = built(), taps()
    before = read(adapter, given)
    for tap in range(len(given)):
        for view in range(2):
            for frame in range(3):
                changed = tuple(part.clone() for part in given)
                changed[tap][:, view, frame] += 1
                assert (read(adapter, changed) - before).abs().max() > 1e-5, (tap, view, frame)


@torch.no_grad()
def test_the_order_of_frames_matters_though_their_weights_are_shared():
    adapter, given = built(), taps()
    backwards = tuple(tap.flip(2) for tap in given)
    assert not torch.allclose(read(adapter, given), read(adapter, backwards), atol=1e-4)
    # A linear layer that is told of the flip makes up for it: before it, frames are seen alike.
    linear = adapter.out[0]
    per_frame = linear.weight.unflatten(1, (2, 3, -1))
    linear.weight.copy_(per_frame.flip(2).flatten(1))
    torch.testing.assert_close(read(adapter, backwards), reference(given), rtol=1e-4, atol=1e-5)


def reference(given):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return read(built(), given)


@pytest.fixture(autouse=True)
def same_weights():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("change", [{"channels": (16, 12)}, {"channels": ()}])
def test_channels_that_cannot_be_normed_are_refused(change):
    with pytest.raises(UserError, match="channels"):
        replace(CONFIG, **change)
