"""Lessons of a masked model are drawn as UVA says, clip by clip."""

import math
from collections import Counter

import numpy as np
import pytest
import torch

from videopolicy.diffusion.loss import Counts
from videopolicy.models.masking import MODES, draw_lessons, masked_share

CLIPS, SIDE = 4000, 8
PIXELS = SIDE * SIDE


def lessons(names=tuple(MODES), clips=CLIPS, video=True, actions=True, has_actions=True):
    counts = Counts(torch.full((clips, 2), video), torch.full((clips, 8), actions and has_actions))
    seeds = torch.randint(2**62, (clips,), generator=torch.Generator().manual_seed(0))
    shows = torch.full((clips,), has_actions)
    return draw_lessons([MODES[name] for name in names], counts, shows, seeds, (SIDE, SIDE))


def seen(drawn):
    """Of every clip: which losses count, whether actions and image are shown, and how many pixels are masked."""
    counts, masked = drawn.counts, (~drawn.pixels).sum((1, 2)).tolist()
    columns = (counts.video.any(1), counts.actions.any(1), drawn.actions, drawn.image)
    return list(zip(*(column.tolist() for column in columns), masked, strict=True))


def test_the_masked_share_is_a_normal_one_cut_to_its_range():
    normal = np.random.default_rng(0).normal(1, 0.25, 400_000)
    expected = np.sort(normal[(normal >= 0.7) & (normal <= 1)])
    shares = [masked_share(uniform) for uniform in (0, 0.1, 0.5, 0.9, 1)]
    np.testing.assert_allclose(shares, np.quantile(expected, (0, 0.1, 0.5, 0.9, 1)), atol=2e-3)
    assert shares[0] == pytest.approx(0.7) and shares[-1] == 1


def test_every_mode_is_drawn_as_often_and_shows_and_counts_what_the_paper_says():
    kinds = Counter((video, action, actions, image) for video, action, actions, image, _ in seen(lessons()))
    assert kinds.keys() == {
        (True, False, False, True),  # video
        (True, False, True, True),  # forward dynamics: actions are given in this mode alone
        (False, True, False, True),  # policy
        (False, True, False, False),  # inverse dynamics: the current image is hidden in this mode alone
        (True, True, False, True),  # full
    }
    assert all(abs(count / CLIPS - 0.2) < 0.03 for count in kinds.values())


def test_masks_hide_all_from_a_policy_nothing_from_an_inverse_model_and_most_from_the_others():
    assert {row[-1] for row in seen(lessons(["policy"]))} == {PIXELS}
    assert {row[-1] for row in seen(lessons(["inverse"]))} == {0}
    for name in ("video", "forward", "full"):
        masked = np.array([row[-1] for row in seen(lessons([name]))])
        assert math.ceil(0.7 * PIXELS) == masked.min() and masked.max() == PIXELS
        # The mean of the truncated normal, and half a pixel for rounding up.
        assert abs(masked.mean() - (0.867 * PIXELS + 0.5)) < 0.5


def test_every_pixel_is_shown_as_often():
    share = lessons(["full"]).pixels.float().mean(0)
    assert abs(share - share.mean()).max() < 0.03


def test_a_clip_without_actions_is_shown_none_and_learns_video_alone():
    for video, action, actions, image, masked in seen(lessons(has_actions=False)):
        assert (video, action, actions, image) == (True, False, False, True) and masked >= 0.7 * PIXELS


def test_a_stage_draws_modes_whose_losses_it_counts():
    found = {row[:4] for row in seen(lessons(actions=False))}
    assert found == {(True, False, False, True), (True, False, True, True)}
    assert all(row[1] and not row[0] and not row[2] for row in seen(lessons(video=False)))


def test_where_no_mode_teaches_anything_nothing_counts():
    assert not any(row[0] or row[1] for row in seen(lessons(["policy"], has_actions=False)))
    assert not any(row[0] or row[1] for row in seen(lessons(["video"], video=False)))


def test_what_a_clip_draws_does_not_depend_on_the_clips_beside_it():
    whole, seeds = lessons(clips=6), torch.randint(2**62, (6,), generator=torch.Generator().manual_seed(0))
    counts = Counts(torch.ones(3, 2, dtype=torch.bool), torch.ones(3, 8, dtype=torch.bool))
    part = draw_lessons(list(MODES.values()), counts, torch.ones(3, dtype=torch.bool), seeds[3:], (SIDE, SIDE))
    assert seen(whole)[3:] == seen(part) and torch.equal(whole.pixels[3:], part.pixels)
