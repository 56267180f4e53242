"""What every text encoder must keep, as its `EXAMPLE` has it, or with its default configuration."""

import pytest
import torch
from tests.contracts.plugins import example, skip_unless_it_can_run

from videopolicy import registry

INSTRUCTIONS = ["press the button", "open the drawer"]


@pytest.fixture(autouse=True, scope="module")
def own_cache(tmp_path_factory):
    """What encoders keep in the user's cache goes nowhere near it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(params=registry.names("text"), scope="module")
def name(request):
    skip_unless_it_can_run("text", request.param)
    return request.param


@pytest.fixture(scope="module")
def text(name):
    return example("text", name).build().eval()


@torch.no_grad()
def test_one_row_an_instruction(text):
    tokens = text(INSTRUCTIONS)
    assert tokens.shape[0] == 2
    assert tokens.shape[2] == text.width
    assert tokens.isfinite().all()


@torch.no_grad()
def test_the_empty_instruction_is_zero(text):
    assert not text([""]).any()


@torch.no_grad()
def test_instructions_differ_and_each_stands_alone(text):
    first, second = text(INSTRUCTIONS)
    assert not torch.allclose(first, second)
    torch.testing.assert_close(text(INSTRUCTIONS[1:])[0], second)
    torch.testing.assert_close(text(["", *INSTRUCTIONS])[2], second)


@torch.no_grad()
def test_a_saved_state_restores_the_encoder(name, text):
    other = example("text", name).build().eval()
    other.load_state_dict(text.state_dict())
    assert torch.equal(other(INSTRUCTIONS), text(INSTRUCTIONS))
