from dataclasses import replace

import pytest
import torch
from tests.small import MODEL, NORMALIZER, small_model

from videopolicy.configs import from_json, to_json
from videopolicy.errors import UserError
from videopolicy.heads.unet1d import Config, UNet1D

TAPS, TIME = (8, 12), 16
HEAD = MODEL.head


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def built(config=HEAD, width=2) -> UNet1D:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return config.build(TAPS, TIME, 1, 2, width).eval()


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
        small_model(window=window, head=replace(HEAD, channels=channels))
    assert small_model(None, window=window).head is None
    assert small_model(NORMALIZER, window=window, head=replace(HEAD, channels=(8,))).head is not None


@pytest.mark.parametrize("change", [{"channels": (12, 16)}, {"channels": ()}, {"kernel": 4}, {"activation": "relu"}])
def test_a_shape_that_cannot_be_is_refused_by_name(change):
    with pytest.raises(UserError, match=next(iter(change))):
        replace(HEAD, **change)


def test_a_head_saved_before_there_was_a_choice_of_activation_is_still_the_same():
    written = to_json(HEAD)
    del written["activation"]
    head = built(from_json(Config, written))
    assert torch.equal(denoise(head, draw(2, 8, 2)), denoise(built(), draw(2, 8, 2)))
    activations = [type(m) for m in head.modules() if isinstance(m, torch.nn.Mish | torch.nn.SiLU)]
    assert activations.count(torch.nn.SiLU) == len(HEAD.adapter.channels) + 1


def test_weights_keep_the_names_that_checkpoints_hold():
    def pair(name):
        return {f"{name}.weight", f"{name}.bias"}

    residual = {"first.0", "first.1", "modulation.1", "second.0", "second.1"}
    levels = {f"{level}.{half}" for level in ("down.0", "down.1", "middle", "up.0") for half in ("first", "second")}
    modules = {f"{level}.{module}" for level in levels for module in residual}
    modules |= {f"{level}.first.skip" for level in ("down.0", "down.1", "up.0")}
    modules |= {"time.1", "shorten.0", "lengthen.0", "out.0.0", "out.0.1", "out.1"}
    modules |= {"adapter.projections.0", "adapter.projections.1", "adapter.out.0"}
    modules |= {f"adapter.convolutions.{i}" for i in (0, 1, 3, 4)}
    assert built().state_dict().keys() == set().union(*map(pair, modules))
