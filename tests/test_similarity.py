import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from videopolicy.similarity import CEILING, Pair, by_offset, compare, plan_pairs, psnr, spread, ssim


def picture(seed: int, size: int = 24) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)


def noisy(image: np.ndarray, scale: float) -> np.ndarray:
    noise = np.random.default_rng(1).normal(0, scale, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def test_psnr_is_infinite_for_identical_images_only():
    image = picture(0)
    other = image.copy()
    other[0, 0, 0] ^= 1
    assert psnr(image, image) == float("inf")
    assert psnr(image, other) < float("inf")


@pytest.mark.parametrize("difference", [1, 10, 255])
def test_psnr_of_a_constant_difference_has_a_closed_form(difference):
    black = np.zeros((16, 16, 3), np.uint8)
    assert psnr(black, black + np.uint8(difference)) == pytest.approx(20 * np.log10(255 / difference))


def test_ssim_is_one_for_identical_images():
    assert ssim(picture(0), picture(0)) == pytest.approx(1)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 1000))
def test_both_measures_are_symmetric_and_bounded(a, b):
    one, other = picture(a), picture(b)
    assert psnr(one, other) == psnr(other, one) and psnr(one, other) >= 0
    assert ssim(one, other) == pytest.approx(ssim(other, one), abs=1e-12)
    assert -1 <= ssim(one, other) <= 1 + 1e-12


def test_more_noise_is_less_similar():
    image = np.kron(picture(3, 6), np.ones((6, 6, 1), np.uint8))
    worse = [noisy(image, scale) for scale in (2, 8, 32)]
    assert psnr(image, worse[0]) > psnr(image, worse[1]) > psnr(image, worse[2])
    assert 1 > ssim(image, worse[0]) > ssim(image, worse[1]) > ssim(image, worse[2]) > 0


def test_ssim_is_the_formula_summed_by_hand_in_one_window():
    """An 11 x 11 image has a single window, so that equation 13 of Wang et al. can be written out over its pixels."""
    one, other = picture(5, 11), noisy(picture(5, 11), 20)
    line = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    weights = np.outer(line, line) / np.outer(line, line).sum()
    x, y = (image @ np.array([0.299, 0.587, 0.114]) for image in (one, other))
    mean_x, mean_y = (weights * x).sum(), (weights * y).sum()
    var_x, var_y = (weights * (x - mean_x) ** 2).sum(), (weights * (y - mean_y) ** 2).sum()
    covariance = (weights * (x - mean_x) * (y - mean_y)).sum()
    c1, c2 = 2.55**2, 7.65**2
    expected = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    expected /= (mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2)
    assert ssim(one, other) == pytest.approx(expected)


def test_ssim_sees_structure_where_psnr_sees_none():
    """A shift of brightness and noise of the same squared error: the shift leaves the structure as it was."""
    image = np.clip(picture(7), 30, 200)
    shifted = image + np.uint8(20)
    signs = np.random.default_rng(0).choice([-20, 20], image.shape)
    scattered = (image + signs).astype(np.uint8)
    assert psnr(image, shifted) == pytest.approx(psnr(image, scattered))
    assert ssim(image, shifted) > ssim(image, scattered)


def test_images_smaller_than_the_window_still_compare():
    assert ssim(picture(0, 8), picture(0, 8)) == pytest.approx(1)
    assert ssim(picture(0, 8), picture(1, 8)) < 0.9


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match="different shapes"):
        psnr(picture(0, 16), picture(0, 12))
    with pytest.raises(ValueError, match="different shapes"):
        ssim(picture(0, 16), picture(0, 12))


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


def test_only_steps_that_were_reached_are_measured():
    executed = {view: np.stack([picture(n) for n in range(6)]) for view in ("front", "side")}
    imagined = {view: frames[[3, 5, 0]] for view, frames in executed.items()}
    pairs = list(plan_pairs(1, (3, 5, 6), imagined, executed))
    assert [pair.offset for pair in pairs] == [2, 4] * 2
    assert all(pair.psnr == CEILING > pair.still_psnr for pair in pairs)
