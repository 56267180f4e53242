import numpy as np
import pytest

from videopolicy.clips.normalize import Normalizer
from videopolicy.errors import UserError
from videopolicy.serving.limits import ActionLimits

LIMITS = ActionLimits((-1.0, 0.0), (1.0, 0.5), (0.2, 1.0))


def test_what_is_within_passes_to_the_bit():
    actions = np.array([[0.1, 0.1], [0.3, 0.5]], np.float32)
    kept, count = LIMITS.apply(actions)
    assert kept is actions and count == 0


def test_what_is_beyond_is_brought_back_and_counted():
    kept, count = ActionLimits(LIMITS.low, LIMITS.high).apply(np.array([[-2, 0.25], [0, 9]], np.float32))
    np.testing.assert_array_equal(kept, np.array([[-1, 0.25], [0, 0.5]], np.float32))
    assert count == 2


def test_no_step_is_larger_than_the_largest_change():
    rng = np.random.default_rng(0)
    actions = rng.uniform(-3, 3, (50, 2)).astype(np.float32)
    kept, count = LIMITS.apply(actions)
    assert count > 50
    assert (np.abs(np.diff(kept, axis=0)) <= np.array(LIMITS.change) + 1e-4).all()
    assert (kept >= np.array(LIMITS.low) - 1e-4).all() and (kept <= np.array(LIMITS.high) + 1e-4).all()


def test_those_of_training_pass_whatever_the_normaliser_makes():
    rng = np.random.default_rng(0)
    actions = rng.normal(100, 0.01, (500, 3)).astype(np.float32)
    normalizer = Normalizer.fit(actions)
    made = normalizer.invert(normalizer.clip(rng.normal(0, 2, (500, 3)).astype(np.float32)))
    assert ActionLimits.of(normalizer, relative=False).apply(made)[1] == 0
    with pytest.raises(UserError, match="relative actions"):
        ActionLimits.of(normalizer, relative=True)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("low = [0.0]\nhigh = [1.0, 2.0]", "one for each dimension"),
        ("low = [2.0]\nhigh = [1.0]", r"low\[0\] is 2, above"),
        ("low = [0.0]\nhigh = [1.0]\nchange = [-1.0]", "at least 0"),
        ("low = [nan]\nhigh = [1.0]", "finite"),
        ("low", "no TOML"),
        ("lows = [0.0]", "did you mean 'low'"),
    ],
)
def test_a_file_that_makes_no_sense_is_refused_by_name(text, says, tmp_path):
    file = tmp_path / "limits.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=says) as error:
        ActionLimits.read(file)
    assert "limits.toml" in str(error.value)
    with pytest.raises(UserError, match="no such file"):
        ActionLimits.read(tmp_path / "none.toml")


def test_limits_of_another_width_are_refused():
    with pytest.raises(UserError, match="limits of 2 dimensions, but an action has 7"):
        LIMITS.check_width(7)
