from hypothesis import given
from hypothesis import strategies as st

from videopolicy.errors import UserError, unknown

NAMES = ["euler", "heun", "dpmpp"]


def test_unknown_says_what_was_asked_for_and_what_would_be_right():
    error = unknown("sampler", "rk4", NAMES)
    assert isinstance(error, UserError)
    assert str(error) == "no sampler 'rk4'; known: dpmpp, euler, heun"


def test_unknown_suggests_the_nearest_name():
    assert "did you mean 'euler'?" in str(unknown("sampler", "eular", NAMES))


def test_unknown_with_nothing_known():
    assert str(unknown("world", "kitchen", [])) == "no world 'kitchen'; known: none"


@given(st.text(max_size=40), st.lists(st.from_regex(r"[a-z0-9_-]{1,20}", fullmatch=True), max_size=6))
def test_the_message_is_one_line_whatever_was_typed(name, known):
    assert len(str(unknown("task", name, known)).splitlines()) == 1
