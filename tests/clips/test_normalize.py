import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from videopolicy.clips.normalize import Normalizer
from videopolicy.errors import UserError

VALUES = st.floats(-1e6, 1e6, width=32)
ACTIONS = arrays(np.float32, array_shapes(min_dims=2, max_dims=2, max_side=8), elements=VALUES)


@given(ACTIONS)
def test_the_data_fills_the_range_and_comes_back(actions):
    normalizer = Normalizer.fit(actions)
    normalised = normalizer.apply(actions)
    assert normalised.dtype == np.float32
    assert np.abs(normalised).max() <= 1
    moving = actions.min(0) < actions.max(0)
    np.testing.assert_array_equal(normalised.min(0)[moving], -1)
    np.testing.assert_array_equal(normalised.max(0)[moving], 1)
    # float32 keeps 24 bits: a value far inside a wide range comes back to within that share of the range.
    tolerance = np.maximum(np.ptp(actions.astype(float), 0), np.abs(actions).max(0)) * 2.0**-22
    assert (np.abs(normalizer.invert(normalised).astype(float) - actions) <= tolerance).all()


@given(ACTIONS, VALUES)
def test_a_dimension_that_never_changes_survives(actions, constant):
    actions[:, 0] = constant
    normalizer = Normalizer.fit(actions)
    assert not normalizer.apply(actions)[:, 0].any()
    said = np.full_like(actions, 0.7)
    assert (normalizer.invert(said)[:, 0] == np.float32(constant)).all()


@given(ACTIONS)
def test_json_loses_nothing(actions):
    normalizer = Normalizer.fit(actions)
    assert Normalizer.from_json(normalizer.to_json()) == normalizer


def test_beyond_the_data_the_map_goes_on_straight():
    normalizer = Normalizer(low=(0.0,), high=(2.0,))
    np.testing.assert_allclose(normalizer.apply(np.array([[-1.0], [3.0]])), [[-2], [2]])
    np.testing.assert_allclose(normalizer.invert(np.array([[-2.0], [2.0]])), [[-1], [3]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_is_refused_by_name(bad):
    actions = np.zeros((5, 3), np.float32)
    actions[3, 1] = bad
    for refuse in (Normalizer.fit, Normalizer((0.0,) * 3, (1.0,) * 3).apply, Normalizer((0.0,) * 3, (1.0,) * 3).invert):
        with pytest.raises(UserError, match=r"not finite: row \[3\], dimension 1"):
            refuse(actions)


def test_another_width_is_refused():
    with pytest.raises(UserError, match="4 wide, but the normaliser was fitted to 3"):
        Normalizer((0.0,) * 3, (1.0,) * 3).apply(np.zeros((2, 4)))


def test_no_actions_are_refused():
    with pytest.raises(UserError, match="no actions"):
        Normalizer.fit(np.zeros((0, 3)))


@pytest.mark.parametrize("text", ["", "[]", json.dumps({"low": [0]}), json.dumps({"low": ["x"], "high": [1]})])
def test_json_of_something_else_is_refused(text):
    with pytest.raises(UserError, match="statistics of a normaliser"):
        Normalizer.from_json(text)


def columns():
    """A dimension with a spike, a switch that is rarely on, and one that never changes; 1000 rows."""
    rows = np.stack([np.linspace(-1, 1, 1000), np.zeros(1000), np.full(1000, 0.3)], 1).astype(np.float32)
    rows[57, 0], rows[990:996, 1] = 1000, 1
    return rows


def test_quantiles_are_of_all_blocks_and_a_rare_switch_keeps_its_ends():
    rows = columns()
    fitted = Normalizer.fit_quantiles(np.split(rows, [10, 700]))
    ordered = np.sort(rows[:, 0])
    assert fitted.low == (ordered[9], 0, rows[0, 2]) and fitted.high == (ordered[990], 1, rows[0, 2])
    assert fitted.method == "quantile" and Normalizer.fit(rows).method == "minmax"


def test_what_lies_beyond_quantiles_is_clipped_and_all_else_comes_back():
    rows = columns()
    fitted = Normalizer.fit_quantiles([rows])
    scaled = fitted.apply(rows)
    assert (scaled[57, 0], scaled[0, 0], scaled[-1, 0]) == (1, -1, 1)
    assert scaled[[0, 990], 1].tolist() == [-1, 1] and not scaled[:, 2].any()
    inside = (rows[:, 0] >= fitted.low[0]) & (rows[:, 0] <= fitted.high[0])
    assert inside.sum() == 982
    np.testing.assert_allclose(fitted.invert(scaled)[inside], rows[inside], atol=1e-6)
    assert fitted.invert(scaled)[57, 0] == np.float32(fitted.high[0])


def test_few_values_have_their_ends_as_quantiles():
    rows = np.array([[3.0], [1.0], [2.0]])
    assert Normalizer.fit_quantiles([rows]) == Normalizer((1.0,), (3.0,), "quantile")


def test_quantiles_of_what_is_no_number_are_refused():
    with pytest.raises(UserError, match=r"not finite: row \[1\], dimension 0"):
        Normalizer.fit_quantiles([np.zeros((2, 1)), np.array([[0.0], [np.nan]])])


def test_statistics_say_how_they_were_found_and_old_ones_are_the_whole_range():
    fitted = Normalizer.fit_quantiles([columns()])
    assert json.loads(fitted.to_json())["method"] == "quantile" and Normalizer.from_json(fitted.to_json()) == fitted
    assert Normalizer.from_json('{"low": [0.0], "high": [2.0]}') == Normalizer((0.0,), (2.0,), "minmax")
    with pytest.raises(UserError, match="method"):
        Normalizer.from_json('{"low": [0.0], "high": [2.0], "method": "mean"}')


SMALL_MOTIONS = Normalizer((-1.0, 0.0, 5.0), (1.0, 10.0, 5.0))


def drawn_chunks():
    rng = np.random.default_rng(0)
    return np.stack((rng.normal(0.1, 0.05, 4000), rng.normal(4, 2, 4000), np.full(4000, 5.0)), 1).clip([-1, 0, 5], 10)


def test_by_deviation_every_dimension_that_moves_has_unit_variance():
    chunks = drawn_chunks()
    normalizer = SMALL_MOTIONS.with_moments(chunks)
    normalised = normalizer.apply(chunks)
    np.testing.assert_allclose(normalised.mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(normalised.std(0), [1, 1, 0], atol=1e-4)
    np.testing.assert_allclose(normalizer.invert(normalised), chunks, atol=1e-5)
    assert Normalizer.from_json(normalizer.to_json()) == normalizer


def test_by_deviation_what_a_model_says_is_clipped_to_the_whole_range():
    normalizer = SMALL_MOTIONS.with_moments(drawn_chunks())
    said = np.array([[100.0, 100.0, 100.0], [-100.0, -100.0, -100.0], [0.5, -0.5, 0.5]])
    acted = normalizer.invert(normalizer.clip(said))
    np.testing.assert_allclose(acted[:2], [[1, 10, 5], [-1, 0, 5]], atol=1e-5)
    np.testing.assert_allclose(acted[2], normalizer.invert(said)[2])


def test_a_dimension_that_hardly_ever_moves_is_not_blown_up():
    chunks = np.zeros((10_000, 3))
    chunks[0] = 1.0
    assert SMALL_MOTIONS.with_moments(chunks).std[0] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("moments", "said"),
    [
        ({"method": "std"}, "0 numbers in mean, 0 in std; method std has 2"),
        ({"mean": (0.0, 0.0), "std": (1.0, 1.0)}, "method minmax has 0"),
        ({"method": "std", "mean": (0.0, 0.0), "std": (1.0, -1.0)}, "no deviation is negative"),
    ],
)
def test_moments_belong_to_one_method(moments, said):
    with pytest.raises(UserError, match=said):
        Normalizer((0.0, 0.0), (1.0, 1.0), **moments)
