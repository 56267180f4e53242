from dataclasses import replace

import pytest
from tests.small import TRAINING, small_model
from torch import nn

from videopolicy.clips.normalize import Normalizer
from videopolicy.hardware import count_flops
from videopolicy.training.performance.benchmark import count_forward, measure, random_clips
from videopolicy.training.stages import STAGES

pytestmark = pytest.mark.slow


def test_parts_that_learn_cost_three_forward_passes():
    watching, acting = small_model(None), small_model()
    video, action, joint = (
        count_forward(model, replace(TRAINING, stage=STAGES[stage]))
        for model, stage in ((watching, "video"), (acting, "action"), (acting, "joint"))
    )
    # Let v and h be one pass of the video model and of the head: 3v, v + 3h, 3v + 3h.
    head = joint - video
    assert action == pytest.approx(video / 3 + head)
    assert head > 0


def test_what_is_computed_again_does_not_count():
    model = small_model()
    once = count_forward(model, TRAINING)
    assert count_forward(model, replace(TRAINING, gradient_checkpointing=True)) == once


def test_counting_is_the_counters_own_for_a_layer():
    layer = nn.Linear(3, 5)
    clips = random_clips(small_model(), 2)
    assert len(clips.instructions) == 2
    assert count_flops(lambda: layer(layer.weight.new_ones(7, 3))) == 2 * 7 * 3 * 5


def test_steps_are_taken_and_the_rates_follow():
    model = small_model().config
    figures = measure(model, replace(TRAINING, batch_size=2), repeats=2)
    assert figures.clips_per_second == pytest.approx(2e3 / figures.step.median)
    assert figures.flops == 2 * count_forward(small_model(Normalizer((-1.0,) * 7, (1.0,) * 7)), TRAINING)
    assert figures.memory > 0
