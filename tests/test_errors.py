import errno
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from videopolicy.errors import UserError, check_range, explain_os_error, name_path_in_errors, unknown

NAMES = ["euler", "heun", "dpmpp"]


def test_unknown_says_what_was_asked_for_and_what_would_be_right():
    error = unknown("sampler", "rk4", NAMES)
    assert isinstance(error, UserError)
    assert str(error) == "no sampler 'rk4'; known: dpmpp, euler, heun"


def test_unknown_suggests_the_nearest_name():
    assert "did you mean 'euler'?" in str(unknown("sampler", "eular", NAMES))


def test_unknown_with_nothing_known():
    assert str(unknown("env", "kitchen", [])) == "no env 'kitchen'; known: none"


@given(st.text(max_size=40), st.lists(st.from_regex(r"[a-z0-9_-]{1,20}", fullmatch=True), max_size=6))
def test_the_message_is_one_line_whatever_was_typed(name, known):
    assert len(str(unknown("task", name, known)).splitlines()) == 1


@pytest.mark.parametrize("value", [0, 11, -math.inf, math.inf, math.nan])
def test_a_number_outside_its_bounds_is_refused_with_both(value):
    with pytest.raises(UserError, match=f"--steps is {value}; it must be from 1 to 10"):
        check_range("--steps", value, 1, 10)


@pytest.mark.parametrize("value", [-1, math.inf, math.nan, -math.inf])
def test_a_number_that_is_open_upward_is_still_finite(value):
    check_range("--lr", 10**400, 0, math.inf)
    with pytest.raises(UserError, match=f"--lr is {value}; it must be a finite number, at least 0"):
        check_range("--lr", value, 0, math.inf)


@pytest.mark.parametrize("value", [1, 10, 2.5])
def test_a_number_within_its_bounds_passes(value):
    check_range("--steps", value, 1, 10)


def test_what_the_system_refuses_names_the_path_and_a_remedy(tmp_path):
    with pytest.raises(OSError) as caught:
        (tmp_path / "nowhere" / "file").write_text("", encoding="utf-8")
    assert str(explain_os_error(caught.value)).startswith(f"{tmp_path}/nowhere/file: No such file or directory; ")
    assert "make room" in str(explain_os_error(OSError(errno.ENOSPC, "ignored")))


@pytest.mark.parametrize("error", [OSError("torn"), OSError(errno.ENOENT, "no name"), ConnectionResetError(104, "x")])
def test_what_is_no_fault_of_the_users_is_left_alone(error):
    assert explain_os_error(error) is None


def test_what_the_system_refuses_without_a_name_gets_one_and_no_other_is_lost(tmp_path):
    for named, said in ((None, tmp_path), ("mine", "mine")):
        with pytest.raises(OSError) as caught, name_path_in_errors(tmp_path):
            raise OSError(errno.ENOSPC, "full", named)
        assert str(explain_os_error(caught.value)).startswith(f"{said}: No space left on device; make room")
