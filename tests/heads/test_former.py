from dataclasses import replace

import pytest
import torch

from videopolicy.errors import UserError
from videopolicy.heads.former import FormerConfig, VideoFormer, places

CONFIG = FormerConfig(queries=3, channels=16, heads=2, layers=2, width=24)
TAPS, TIME = (8, 12), 16


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def taps(batch=2, views=2, frames=3, sides=(4, 2)):
    pairs = enumerate(zip(TAPS, sides, strict=True))
    return tuple(draw(batch, views, frames, channels, side, side, seed=i) for i, (channels, side) in pairs)


def built(config=CONFIG, views=2, frames=3) -> VideoFormer:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return config.build(TAPS, TIME, views, frames).eval()


def read(former, taps):
    return former(taps, draw(len(taps[0]), TIME))


def moved(former, given, changed):
    return (read(former, changed) - read(former, given)).abs().max()


@pytest.mark.parametrize("sides", [(4, 2), (8, 4), (7, 3), (1, 1)])
@pytest.mark.parametrize("views", [1, 2, 3])
@torch.no_grad()
def test_taps_of_any_size_and_any_number_of_views_give_a_vector_of_one_length(sides, views):
    former = built(views=views)
    assert read(former, taps(views=views, sides=sides)).shape == (2, CONFIG.width)
    assert former.out[0].in_features == built(views=1).out[0].in_features, "views add tokens, and no queries"


@torch.no_grad()
def test_every_tap_frame_view_and_pixel_counts():
    former, given = built(), taps()
    for tap in range(len(given)):
        for view in range(2):
            for frame in range(3):
                changed = tuple(part.clone() for part in given)
                changed[tap][:, view, frame, :, 1, 0] += draw(TAPS[tap], seed=9)
                assert moved(former, given, changed) > 1e-5, (tap, view, frame)


@torch.no_grad()
def test_tokens_tell_by_themselves_where_they_come_from():
    """A frame's tokens may come in any order; pictures, views and frames may not."""
    former, given = built(), taps()
    tokens = former.tokens(given)
    assert tokens.shape == (2, 3, 2 * (16 + 4), CONFIG.channels)
    order = torch.randperm(tokens.shape[2], generator=torch.Generator().manual_seed(0))
    asked = former.queries.expand(2, -1, -1, -1)
    shuffled, plain = (former.layers[0](asked, seen) for seen in (tokens[:, :, order], tokens))
    torch.testing.assert_close(shuffled, plain, rtol=1e-4, atol=1e-5)
    for axis in (1, 2, 4, 5):
        assert moved(former, given, tuple(part.flip(axis) for part in given)) > 1e-4, axis


@torch.no_grad()
def test_within_a_layer_frames_are_seen_apart_and_then_each_query_over_time():
    former, given = built(), taps()
    changed = tuple(part.clone() for part in given)
    for part in changed:
        part[:, :, 0] += 1
    before, after = (former.tokens(shown) for shown in (given, changed))
    assert torch.equal(before[:, 1:], after[:, 1:])
    layer, asked = former.layers[0], former.queries.expand(2, -1, -1, -1)
    found, other = layer(asked, before), layer(asked, after)
    assert (found - other)[:, 1:].abs().amax((0, 2, 3)).min() > 1e-6, "every frame hears of the first"
    torch.nn.init.zeros_(layer.time.to_out.weight)
    found, other = layer(asked, before), layer(asked, after)
    torch.testing.assert_close(found[:, 1:], other[:, 1:])
    assert not torch.equal(found[:, 0], other[:, 0])


def test_the_same_place_has_the_same_embedding_in_pictures_of_odd_sizes_and_no_other_has():
    device = torch.device("cpu")
    small, large = places(3, 5, 16, device), places(9, 15, 16, device)
    torch.testing.assert_close(small, large[1::3, 1::3])
    distances = torch.cdist(large.flatten(0, 1), large.flatten(0, 1)) + torch.eye(9 * 15) * 9
    assert distances.min() > 0.05


@pytest.mark.parametrize("change", [{"channels": 18}, {"channels": 24, "heads": 5}])
def test_channels_that_cannot_be_divided_are_refused(change):
    with pytest.raises(UserError, match=r"multiple of 4 and of its \d heads"):
        replace(CONFIG, **change)
