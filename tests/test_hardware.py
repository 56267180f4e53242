from time import perf_counter

import pytest
import torch
from torch.nn import functional as F

from videopolicy.hardware import Timing, count_flops, matmul_peak


def test_counts_what_attention_convolution_and_products_are_worth():
    x = torch.randn(2, 3, 8, 4)
    assert count_flops(lambda: F.scaled_dot_product_attention(x, x, x)) == 2 * 3 * (2 * 2 * 8 * 8 * 4)
    assert count_flops(lambda: F.conv2d(x, torch.randn(5, 3, 1, 1))) == 2 * (2 * 8 * 4) * 3 * 5
    assert count_flops(lambda: torch.randn(6, 7) @ torch.randn(7, 8)) == 2 * 6 * 7 * 8


def test_spread_is_the_median_and_the_90th_percentile_in_milliseconds():
    spread = Timing.of([0.001 * n for n in range(1, 102)])
    assert (spread.median, spread.p90) == pytest.approx((51.0, 91.0))


def test_the_limit_is_a_matrix_products():
    """Within what a busy machine may add: a slip of the units, or of the count, is a factor of 1000."""
    matrix = torch.ones(512, 512)
    start = perf_counter()
    for _ in range(20):
        matrix @ matrix
    reached = 20 * 2 * 512**3 / (perf_counter() - start)
    assert reached / 30 < matmul_peak(torch.device("cpu")) < reached * 30
