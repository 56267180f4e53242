import pytest
from tests.test_similarity import picture

from videopolicy.report.similarity import Pair, by_offset, compare, spread
from videopolicy.similarity import CEILING, psnr


def test_a_perfect_imagination_beats_the_still_frame_and_stays_finite():
    current, executed = picture(0), picture(1)
    pair = compare(8, executed, executed, current)
    assert (pair.psnr, pair.ssim) == (CEILING, pytest.approx(1))
    assert pair.still_psnr == psnr(current, executed) < CEILING


def test_imagining_the_current_frame_scores_as_nothing_moves():
    current, executed = picture(0), picture(1)
    pair = compare(8, current, executed, current)
    assert (pair.psnr, pair.ssim) == (pair.still_psnr, pair.still_ssim)


def test_pairs_are_spread_by_offset():
    pairs = [Pair(16, 10, 0.5, 1, 0), Pair(8, 20, 0.9, 1, 0), Pair(8, 30, 0.7, 1, 0)]
    found = by_offset(pairs)
    assert list(found) == [8, 16]
    assert found[8].count == 2
    assert found[8].mean["psnr"] == 25 and found[8].deviation["psnr"] == 5
    assert found[8].mean["ssim"] == pytest.approx(0.8)
    assert spread([]) is None
