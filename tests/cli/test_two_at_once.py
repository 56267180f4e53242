"""Two commands that write to one place at once: the first does it, the second says who does, and changes nothing."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image
from tests.processes import running, wait_until
from tests.report.samples import evaluation
from tests.small import SIZE, small_model, write_data

from videopolicy.checkpoint import Provenance, load, save
from videopolicy.cli.main import main
from videopolicy.datasets.lerobot import open_dataset

pytestmark = pytest.mark.slow

HOLD = """
import sys, time
from pathlib import Path
from videopolicy.ownership import owned
with owned(Path(sys.argv[1]), "record"):
    print("mine", flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A data set, a checkpoint that fits it, an evaluation and an image; nobody may change them."""
    folder = tmp_path_factory.mktemp("given")
    write_data(folder / "data", episodes=2)
    save(small_model(), Provenance("joint", 1, instructions=("reach the red disc",)), folder / "run" / "checkpoint")
    evaluation(folder / "evaluated", {"push": [True, False]}, recorded=1)
    Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(folder / "now.png")
    return folder


def command(verb, given, out):
    """A verb with all that it needs; what is written goes to OUT."""
    checkpoint, env = given / "run" / "checkpoint", ("--env", "pointmass", "--task", "reach-red")
    steps = ("--batch-size", 2, "--steps", 4, "--log-every", 1)
    words = {
        "train": ("--data", given / "data", "--init", checkpoint, *steps, "--out", out),
        "evaluate": ("--checkpoint", checkpoint, *env, "--episodes", 3, "--record", 1, "--workers", 1, "--out", out),
        "record": (*env, "--episodes", 3, "--size", 32, "--workers", 1, "--out", out),
        "convert": (given / "data", out, "--workers", 1),
        "imagine": ("--checkpoint", checkpoint, "--image", given / "now.png", "--instruction", "reach", "--out", out),
        "report": (given / "evaluated", "--out", out),
        "diagnose": (given / "evaluated", "--data", given / "data", "--out", out),
        "check": (given / "data", "--html", out),
        "bench": ("--checkpoint", checkpoint, "--repeats", 1, "--json", out),
        "import": ("weights.ckpt", "--out", out),
        "export": (checkpoint, "--out", out),
        "demo": ("--out", out),
    }
    return [verb, *map(str, words[verb])]


VERBS = ["train", "evaluate", "record", "convert", "imagine", "report", "diagnose", "check", "bench"]
VERBS += ["import", "export", "demo"]


def refused(capsys, words):
    with pytest.raises(SystemExit) as ending:
        main(words)
    assert ending.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def hashes(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != ".out.lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def holder(tmp_path):
    with running(sys.executable, "-c", HOLD, tmp_path / "place" / "out", stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "mine\n"
        yield process


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_that_writes_says_who_is_at_it_and_changes_nothing(verb, given, holder, tmp_path, capsys):
    before = hashes(given)
    out = tmp_path / "place" / "out"
    line = refused(capsys, command(verb, given, out))
    said = f"videopolicy: {out} is being written by `videopolicy record` (process {holder.pid} on "
    assert line.startswith(said)
    assert [path.name for path in (tmp_path / "place").iterdir()] == [".out.lock"]
    assert hashes(given) == before


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("where", ["data/new", "run/checkpoint/new", "evaluated/evaluation/recordings/new"])
def test_no_verb_writes_into_what_is_something_else(verb, where, given, tmp_path, capsys):
    before = hashes(given)
    line = refused(capsys, command(verb, given, given / where))
    assert str(given / where) in line and " is inside " in line
    assert hashes(given) == before
    assert not (given / where).exists() and not list((given / where).parent.glob(".*"))


@contextmanager
def stopped(words, lock):
    """A command that has just come to own its place, and stands still there."""
    with running(sys.executable, "-m", "videopolicy", *words, stdout=subprocess.DEVNULL) as process:
        wait_until(lambda: lock.exists() and lock.stat().st_size, process)
        os.killpg(process.pid, signal.SIGSTOP)
        yield process
        os.killpg(process.pid, signal.SIGCONT)
        _, said = process.communicate()
        assert process.returncode == 0, said


@pytest.mark.parametrize("verb", ["train", "evaluate", "record", "convert"])
def test_the_first_of_two_does_the_same_as_one_alone(verb, given, tmp_path, capsys):
    (tmp_path / "two").mkdir()
    out, alone = tmp_path / "two" / "out", tmp_path / "alone"
    words = command(verb, given, out)
    with stopped(words, tmp_path / "two" / ".out.lock") as process:
        line = refused(capsys, words)
        assert f"is being written by `videopolicy {verb}` (process {process.pid} on " in line
    main(command(verb, given, alone))
    assert [path.name for path in (tmp_path / "two").iterdir()] == ["out"]
    same_result(verb, out, alone)


def same_result(verb, one, other):
    if verb == "train":
        (model, provenance), (again, _) = load(one / "checkpoint"), load(other / "checkpoint")
        assert provenance.steps == 4
        first, second = model.state_dict(), again.state_dict()
        assert all(first[name].equal(second[name]) for name in first) and first.keys() == second.keys()
        steps = [json.loads(line)["step"] for line in (one / "losses.jsonl").open(encoding="utf-8")]
        assert steps == [1, 2, 3, 4]
    elif verb == "evaluate":
        rows, again = (
            [json.loads(line) | {"seconds": 0} for line in (folder / "results.jsonl").open(encoding="utf-8")]
            for folder in (one, other)
        )
        assert [row["episode"] for row in rows] == [0, 1, 2] and rows == again
    else:
        first, second = open_dataset(one), open_dataset(other)
        assert len(first) == len(second) == (3 if verb == "record" else 2)
        for index in range(len(first)):
            episode, same = first.episode(index), second.episode(index)
            assert episode.actions.tobytes() == same.actions.tobytes()
            # x264 need not give the same bits twice below 64 pixels.
            for view in episode.views:
                assert np.abs(episode.views[view].astype(int) - same.views[view]).mean() < 3
