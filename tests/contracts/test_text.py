"""What every file in `videopolicy/text` must keep, each in a small configuration."""

import pytest
import torch

from videopolicy import registry
from videopolicy.text import clip, hashed_words

INSTRUCTIONS = ["press the button", "open the drawer"]
# A new file needs a line here: its configuration at a size that suits a test.
EXAMPLES = {"clip": clip.Config(width=24, hidden=32, layers=2, heads=4), "hashed_words": hashed_words.Config()}


@pytest.fixture(params=registry.names("text"), scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def text(name):
    return EXAMPLES[name].build().eval()


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
    other = EXAMPLES[name].build().eval()
    other.load_state_dict(text.state_dict())
    assert torch.equal(other(INSTRUCTIONS), text(INSTRUCTIONS))
