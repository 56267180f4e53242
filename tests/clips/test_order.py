import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from videopolicy.clips.order import Order, epoch_order

SIZES = st.lists(st.integers(1, 60), min_size=1, max_size=6)


@st.composite
def mixtures(draw):
    sizes = draw(SIZES)
    return sizes, draw(st.lists(st.floats(0.01, 100), min_size=len(sizes), max_size=len(sizes)))


def source_of(clips, sizes):
    return np.searchsorted(np.cumsum(sizes), clips, side="right")


@given(st.integers(0, 200), st.integers(0, 99), st.integers(0, 99))
def test_an_epoch_visits_every_clip_once_in_an_order_of_its_own(n, seed, epoch):
    order = epoch_order(n, seed, epoch)
    assert sorted(order) == list(range(n))
    np.testing.assert_array_equal(order, epoch_order(n, seed, epoch))
    if n > 10:
        assert (order != epoch_order(n, seed, epoch + 1)).any()
        assert (order != epoch_order(n, seed + 1, epoch)).any()
        assert (order != epoch_order(n, seed, epoch, source=0)).any()


@given(SIZES, st.booleans(), st.integers(0, 9))
def test_weights_that_are_the_sizes_give_one_permutation_of_all_an_epoch(sizes, told, seed):
    """The order of a run on a single data set, which must never change: what was published rests on it."""
    count = sum(sizes)
    found = Order(sizes, [7.0 * size for size in sizes] if told else None).at(np.arange(3 * count), seed)
    expected = [np.random.default_rng([seed, epoch]).permutation(count) for epoch in range(3)]
    np.testing.assert_array_equal(found, np.concatenate(expected))


@given(mixtures(), st.integers(0, 9))
def test_a_source_has_had_its_share_at_every_position(mixture, seed):
    sizes, weights = mixture
    clips = Order(sizes, weights).at(np.arange(500), seed)
    had = np.cumsum(source_of(clips, sizes)[:, None] == np.arange(len(sizes)), 0)
    wanted = np.arange(1, 501)[:, None] * np.array(weights) / sum(weights)
    if not np.allclose(np.array(sizes) / sum(sizes), np.array(weights) / sum(weights)):
        assert np.abs(had - wanted).max() < 1.5


@given(mixtures(), st.integers(0, 9))
def test_a_source_shows_each_of_its_clips_once_before_any_a_second_time(mixture, seed):
    sizes, weights = mixture
    clips = Order(sizes, weights).at(np.arange(400), seed)
    for source, (size, first) in enumerate(zip(sizes, np.cumsum(sizes) - sizes, strict=True)):
        own = clips[source_of(clips, sizes) == source]
        for epoch in range(len(own) // size):
            assert sorted(own[epoch * size : (epoch + 1) * size] - first) == list(range(size))


@given(mixtures(), st.lists(st.integers(0, 2**34), min_size=1, max_size=20))
def test_a_position_says_all_there_is_to_know(mixture, positions):
    sizes, weights = mixture
    positions = np.array(positions)
    order = Order(sizes, weights)
    together = order.at(positions, 3)
    assert ((together >= 0) & (together < sum(sizes))).all()
    fresh = Order(sizes, weights)
    for position, clip in reversed(list(zip(positions, together, strict=True))):
        assert fresh.at(np.array([position]), 3) == [clip]


@pytest.mark.parametrize("weights", [None, [1.0, 3.0]])
def test_the_seed_decides_the_order(weights):
    order = Order([30, 30], weights)
    assert (order.at(np.arange(20), 0) != order.at(np.arange(20), 1)).any()


def test_a_source_without_clips_has_no_share_whatever_its_weight():
    order = Order([6, 0, 4], [1.0, 5.0, 3.0])
    assert order.shares.tolist() == [0.25, 0.0, 0.75]
    counts = np.bincount(source_of(order.at(np.arange(400), 0), [6, 0, 4]), minlength=3)
    assert counts.tolist() == [100, 0, 300]
