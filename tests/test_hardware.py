import pytest
import torch
from torch.nn import functional as F

from videopolicy import hardware
from videopolicy.hardware import MULTIPLICATIONS, SIDE, Timing, count_flops, matmul_peak


def test_counts_what_attention_convolution_and_products_are_worth():
    x = torch.randn(2, 3, 8, 4)
    assert count_flops(lambda: F.scaled_dot_product_attention(x, x, x)) == 2 * 3 * (2 * 2 * 8 * 8 * 4)
    assert count_flops(lambda: F.conv2d(x, torch.randn(5, 3, 1, 1))) == 2 * (2 * 8 * 4) * 3 * 5
    assert count_flops(lambda: torch.randn(6, 7) @ torch.randn(7, 8)) == 2 * 6 * 7 * 8


def test_spread_is_the_median_and_the_95th_percentile_in_milliseconds():
    spread = Timing.of([0.001 * n for n in range(1, 102)])
    assert (spread.median, spread.p95) == pytest.approx((51.0, 96.0))


def test_the_limit_is_the_fastest_of_some_matrix_products(monkeypatch):
    """By a clock on which the first product takes one second less than the second, and so on."""
    seconds = range(3, 3 + MULTIPLICATIONS)
    readings = iter([reading for each in seconds for reading in (0.0, float(each))])
    monkeypatch.setattr(hardware, "perf_counter", lambda: next(readings))
    assert matmul_peak(torch.device("cpu")) == 2 * SIDE["cpu"] ** 3 / 3
    assert next(readings, None) is None
