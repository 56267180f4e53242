"""Runs that are killed on the spot, again and again, and then gone on with."""

import json
import random
import signal

import pytest
from tests.small import same
from tests.training import children

from videopolicy import checkpoint
from videopolicy.training import state

pytestmark = pytest.mark.slow

CHANGES = {"steps": 24, "batch_size": 2, "save_every": 2, "ema_decay": 0.9}
# An event of the interpreter, and how the path ends that it is about: all but the first lie within a save.
POINTS = [
    ("os.mkdir", "-000002.partial"),
    ("open", "facts.json"),
    ("os.rename", "/step-000004"),
    ("os.rename", "/.checkpoint.old"),
    ("os.rename", "/.checkpoint.partial"),
    ("shutil.rmtree", "/step-000004"),
]
RANDOM = 5


def losses(run):
    if not (run / "losses.jsonl").exists():
        return []
    lines = [
        json.loads(line)
        for line in (run / "losses.jsonl").read_text(encoding="utf-8").splitlines()
        if line.endswith("}")
    ]
    return [line | {"seconds": 0} for line in lines]


def kill_at_random(data, run, chance):
    """Lets a run take two steps, and kills it some time within the next ones."""
    arguments = (2, chance.uniform(0.05, 1.5), data, run, state.exists(run / "state"), CHANGES)
    return children.wait(children.start(children.train_for_a_while, *arguments))


@pytest.fixture(scope="module")
def whole(data, tmp_path_factory):
    """A run that nobody kills."""
    run = tmp_path_factory.mktemp("whole") / "run"
    assert children.wait(children.start(children.train, data, run, False, CHANGES)) == [0]
    return run


def test_killed_at_any_moment_and_resumed_it_is_the_run_that_nobody_killed(data, whole, tmp_path):
    run, chance = tmp_path / "run", random.Random(0)
    for event, ending in POINTS:
        resume = state.exists(run / "state")
        process = children.start(children.train_until, event, ending, data, run, resume, CHANGES)
        assert children.wait(process) == [-9], f"{event} of {ending} never came"
        if resume:
            checkpoint.load(run / "checkpoint")
    for _ in range(RANDOM):
        assert kill_at_random(data, run, chance) == [-signal.SIGPROF], (
            "it ended before it was killed: give it more steps"
        )
    assert children.wait(children.start(children.train, data, run, True, CHANGES)) == [0]

    assert losses(run) == losses(whole) and len(losses(run)) == CHANGES["steps"]
    assert same(checkpoint.load(run / "checkpoint")[0], checkpoint.load(whole / "checkpoint")[0])
    assert sorted(path.name for path in (run / "state").iterdir()) == ["step-000022", "step-000024"]
    assert not [path for path in run.iterdir() if path.name.startswith(".")]
