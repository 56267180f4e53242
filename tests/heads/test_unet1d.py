from dataclasses import replace

import pytest
import torch
from tests.small import MODEL, NORMALIZER, policy

from videopolicy.errors import UserError
from videopolicy.heads.unet1d import UNet1D

TAPS, TIME = (8, 12), 16
HEAD = MODEL.head


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def built(config=HEAD, frames=2, width=2) -> UNet1D:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return config.build(TAPS, TIME, frames, width).eval()


def denoise(head, actions):
    return head(actions, draw(len(actions), HEAD.adapter.width, seed=1), draw(len(actions), TIME, seed=2))


@pytest.mark.parametrize(("levels", "steps"), [(1, 5), (2, 6), (3, 12), (4, 8)])
@torch.no_grad()
def test_any_depth_keeps_the_length_of_the_chunk(levels, steps):
    head = built(replace(HEAD, channels=(8, 16, 24, 32)[:levels]))
    assert denoise(head, draw(2, steps, 2)).shape == (2, steps, 2)


@torch.no_grad()
def test_depth_widens_what_an_action_step_can_see():
    def reach(channels):
        head = built(replace(HEAD, channels=channels))
        # Group norms see the whole chunk: taken out, only convolutions carry anything along it.
        for module in head.modules():
            if isinstance(module, torch.nn.GroupNorm):
                module.forward = lambda x: x
        actions = draw(1, 128, 2)
        changed = actions.clone()
        changed[:, 64] += 1
        return (denoise(head, changed) - denoise(head, actions)).abs().sum((0, 2)).gt(1e-7).sum()

    shallow, deep = reach((8,)), reach((8, 16, 24))
    assert 8 < shallow < 30
    assert deep > 2 * shallow


@pytest.mark.parametrize(("actions", "channels"), [(9, (8, 16)), (6, (8, 16, 24))])
def test_a_chunk_that_cannot_be_halved_is_refused_when_the_policy_is_built(actions, channels):
    window = replace(MODEL.window, actions=actions)
    with pytest.raises(UserError, match=f"{actions}.*multiple of {2 ** (len(channels) - 1)}"):
        policy(window=window, head=replace(HEAD, channels=channels))
    assert policy(None, window=window).head is None
    assert policy(NORMALIZER, window=window, head=replace(HEAD, channels=(8,))).head is not None


@pytest.mark.parametrize("change", [{"channels": (12, 16)}, {"channels": ()}, {"kernel": 4}])
def test_a_shape_that_cannot_be_is_refused_by_name(change):
    with pytest.raises(UserError, match=next(iter(change))):
        replace(HEAD, **change)
