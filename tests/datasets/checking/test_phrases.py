import pytest

from videopolicy.datasets.phrases import duration, plural


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 seconds"), (119, "119.0 seconds"), (120, "2.0 minutes"), (7199, "120.0 minutes"), (9000, "2.5 hours")],
)
def test_a_duration_is_in_a_unit_that_fits(seconds, said):
    assert duration(seconds) == said


def test_one_is_no_plural():
    assert [plural(count, "episode") for count in (0, 1, 2)] == ["0 episodes", "1 episode", "2 episodes"]
