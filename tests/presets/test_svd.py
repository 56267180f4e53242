"""The full-size preset is the paper's model: its parts' parameters are counted without memory for them."""

import pytest
import torch

from videopolicy.clips.normalize import Normalizer
from videopolicy.presets.svd import PRESET


@pytest.fixture(scope="module")
def model():
    with torch.device("meta"):
        return PRESET.model.build(Normalizer((-1.0,) * 7, (1.0,) * 7))


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def test_its_parts_have_as_many_parameters_as_the_papers(model):
    assert count(model.backbone) == 1_524_623_082
    assert count(model.head.adapter) == 205_812_616
    assert count(model.head) - count(model.head.adapter) == 161_359_111


def test_a_sample_is_25_frames_of_32_by_32_latents_and_32_actions(model):
    blank = model.blank(1)
    assert blank.video.shape == (1, 25, 4, 32, 32) and blank.actions.shape == (1, 32, 7)
    assert model.head.adapter.width == 6720


def test_its_frames_are_the_authors():
    assert PRESET.model.window.offsets == (0, 4, 8, 12, 16, 20, 24, 28) and PRESET.model.window.span == 32


def test_what_is_pretrained_stays_frozen(model):
    frozen = (*model.text.parameters(), *model.latents.parameters())
    assert not any(weight.requires_grad for weight in frozen)
