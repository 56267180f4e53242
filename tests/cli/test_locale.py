"""Whatever the locale, words come through files unharmed, and what cannot be printed is replaced."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from tests.small import SIZE

from videopolicy import registry
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.rollout.demonstrate import record_episode

pytestmark = pytest.mark.slow

WORDS = "打开抽屉 où ça – naïve"
LOCALES = {
    "ascii output": {"PYTHONIOENCODING": "ascii"},
    "latin output": {"PYTHONIOENCODING": "latin-1"},
    "no locale at all": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "drawer"
    with Writer(path, 20, ("top", "close")) as writer:
        for seed in range(2):
            env = registry.build("envs", "pointmass", "reach-red", size=SIZE)
            writer.add(replace(record_episode(env, seed, noise=0.1, steps=16), instruction=WORDS))
    return path


@pytest.fixture(params=LOCALES.values(), ids=LOCALES)
def run(request):
    """Gives a command in a locale, and returns what it printed."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG", "PYTHON"))}
    environment |= {"PYTHONPATH": os.environ.get("PYTHONPATH", ""), **request.param}

    def run(*arguments, code=0):
        command = [sys.executable, "-m", "videopolicy", *map(str, arguments)]
        done = subprocess.run(command, env=environment, capture_output=True)
        assert done.returncode == code, done.stderr.decode("utf-8", "replace")
        assert b"Traceback" not in done.stderr
        return done.stdout, done.stderr

    return run


def test_check_shows_what_can_be_shown(run, data):
    out, _ = run("check", data)
    assert b"????" in out
    assert WORDS.encode() not in out


def test_what_is_converted_keeps_its_words(run, data, tmp_path):
    run("convert", data, tmp_path / "out", "--workers", "1")
    converted = open_dataset(tmp_path / "out")
    assert [converted.episode(index, ()).instruction for index in range(2)] == [WORDS, WORDS]


def test_a_verb_explains_itself(run):
    out, error = run("convert", "--help")
    assert b"usage: videopolicy convert" in out
    assert error == b""


def test_a_missing_file_with_such_a_name_is_one_line(run, tmp_path):
    _, error = run("check", tmp_path / WORDS, code=2)
    assert error.startswith(b"videopolicy: ")
    assert error.count(b"\n") == 1
