import pytest
import torch
from torch import nn

from videopolicy.training.ema import Ema


@pytest.fixture
def module():
    module = nn.Linear(2, 2)
    module.bias.requires_grad_(False)
    return module


@torch.no_grad()
def test_it_is_the_decaying_sum_of_all_that_was_seen(module):
    start = module.weight.clone()
    ema = Ema(module, decay=0.6)
    expected = start
    for step in range(20):
        module.weight.copy_(torch.full((2, 2), float(step)))
        ema.update(step)
        decay = min(0.6, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * module.weight
    torch.testing.assert_close(ema.weights["weight"], expected)


@torch.no_grad()
def test_early_on_it_forgets_the_start_and_later_it_is_slow(module):
    ema = Ema(module, decay=0.99)
    module.weight.add_(1)
    before = ema.weights["weight"].clone()
    ema.update(0)
    torch.testing.assert_close(ema.weights["weight"] - before, torch.full((2, 2), 0.9))
    before = ema.weights["weight"].clone()
    gap = module.weight - before
    ema.update(10_000)
    torch.testing.assert_close(ema.weights["weight"] - before, 0.01 * gap)


@torch.no_grad()
def test_within_applied_the_module_holds_the_average_and_then_again_its_own(module):
    ema = Ema(module, decay=0.5)
    module.weight.add_(1)
    ema.update(100)
    live, average = module.weight.clone(), ema.weights["weight"].clone()
    with pytest.raises(ZeroDivisionError), ema.applied():
        assert torch.equal(module.weight, average)
        raise ZeroDivisionError
    assert torch.equal(module.weight, live)
    assert torch.equal(ema.weights["weight"], average)
    assert not torch.equal(live, average)


def test_only_weights_that_learn_are_averaged(module):
    assert set(Ema(module, 0.9).weights) == {"weight"}
