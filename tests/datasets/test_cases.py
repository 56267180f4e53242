"""Data as public bug reports describe it: all that is whole is read right, and what is said is for people."""

import re

import pytest
from experiments.cases.cases import CASES, FINE, REFUSED
from experiments.cases.run import messages, outcome

pytestmark = pytest.mark.slow

# What Python and its libraries say to programmers.
_PROGRAMMERS = re.compile(
    r"\w(Error|Exception|Interrupt)\b|Errno|Traceback|<class|<\w+ object|\bb['\"]|Path\(|array\(|dtype|\bNone\b|\{\}"
)


def doubled(line, path):
    """Whether a line names a file twice, one after the other."""
    return re.search(rf"{re.escape(str(path))}[^ ]*: {re.escape(str(path))}", line)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_what_is_whole_is_read_right_and_the_rest_is_named(case, tmp_path):
    found = outcome(case, tmp_path)
    assert found.wrong == ()
    for line in (*found.check, *found.convert):
        assert not _PROGRAMMERS.search(line), line
        assert not doubled(line, tmp_path), line
    said = [line for line in messages(case, found) if not line.startswith("to do: ")]
    if case.code == REFUSED:
        assert len(said) == 1
    if case.code != FINE:
        assert any(str(tmp_path / case.name) in line for line in said)


@pytest.mark.parametrize(
    "line",
    [
        "not a list (KeyError('chunk_index'))",
        "[Errno 1094995529] Invalid data found",
        "it begins with b'version'",
        "PosixPath('a')",
        "array([1.0])",
        "<class 'int'>",
    ],
)
def test_what_python_says_is_noticed(line):
    assert _PROGRAMMERS.search(line)


def test_a_path_that_stands_there_twice_is_noticed(tmp_path):
    assert doubled(f"{tmp_path}: cannot be read: {tmp_path}/a.mp4", tmp_path) is None
    assert doubled(f"{tmp_path}/a: {tmp_path}/a/b.mp4: is empty", tmp_path)
