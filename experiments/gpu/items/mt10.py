"""Presets of the size of `small` on Meta-World's MT10, in three parts: `mt10.py record|train|evaluate [PRESET]`.

Without a name `small` trains for as long as there is time, and goes on in the next call. A preset that is named trains
for `MINUTES`, so that all of those named are compared at equal time.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

from shared import Given, begin, chosen

from videopolicy.cli.evaluate import Command as Evaluate
from videopolicy.cli.record import Command as Record
from videopolicy.presets.base import Preset
from videopolicy.processors import processors
from videopolicy.rollout.protocols import load
from videopolicy.rollout.results import read_evaluation
from videopolicy.training import state
from videopolicy.training.distributed import ProcessGroup
from videopolicy.training.run import train as run_training

DEMONSTRATIONS, EPISODES, MINUTES = 50, 10, 5.0
TASKS = tuple(task.name for task in load("mt10").tasks)
# Seconds in which the trained model is measured once more and saved.
SAVING = 30


def main() -> None:
    """Does one of the parts."""
    given, rows = begin(__doc__)
    part = {"record": record, "train": train, "evaluate": evaluate}[given.what[0]]
    for row in part(given):
        rows.add(**row)


def named(given: Given) -> str:
    """The preset."""
    return (*given.what[1:], "small")[0]


def folder(given: Given) -> Path:
    """The run."""
    return given.work / "-".join(("mt10", *given.what[1:]))


def shape(name: str, dry: bool) -> Preset:
    """The preset; at toy size as short as a run can be."""
    preset = chosen(name, dry)
    training = replace(preset.training, precision="bf16", save_every=2000, validate_every=2000)
    if dry:
        training = replace(training, batch_size=2, copies=1, steps=4)
    return replace(preset, training=training)


def tasks(dry: bool) -> tuple[str, ...]:
    """All of the benchmark, or the first two."""
    return TASKS[:2] if dry else TASKS


def record(given: Given) -> list[dict[str, Any]]:
    """Demonstrations from the preset's views, by as many processes as there are cores."""
    aside, data = given.work / "data.partial", given.work / "data"
    shutil.rmtree(aside, ignore_errors=True)
    names, episodes = tasks(given.dry), 1 if given.dry else DEMONSTRATIONS
    begun = given.left
    Record(names, aside, episodes, shape("small", given.dry).model.views, workers=processors()).run()
    aside.rename(data)
    return [
        {"tasks": len(tasks(given.dry)), "episodes": episodes * len(tasks(given.dry)), "seconds": begun - given.left}
    ]


def train(given: Given) -> list[dict[str, Any]]:
    """Trains for its minutes, or the time that is left; where it was stopped before, it goes on."""
    name, out = named(given), folder(given)
    preset = shape(name, given.dry)
    # What was made of an earlier checkpoint.
    for old in (out / "evaluation", given.work / "pieces"):
        shutil.rmtree(old, ignore_errors=True)
    data, training = given.work / "data", preset.training
    if not state.exists(out / state.STATE):
        # The first step encodes the data, so that the minutes below are training alone.
        shutil.rmtree(out, ignore_errors=True)
        run_training(data, preset.model, replace(training, steps=1), out, preset=name)
    left = (_facts(out)["seconds"] + max(given.left - SAVING, SAVING)) / 60
    minutes = MINUTES if given.what[1:] else left
    run_training(data, preset.model, replace(training, minutes=minutes), out, resume=True, preset=name)
    facts = _facts(out)
    rate = facts["position"] / facts["seconds"]
    return [{"steps": facts["step"], "minutes": facts["seconds"] / 60, "clips_per_second": rate}]


def _facts(out: Path) -> dict[str, Any]:
    return state.facts_of(state.newest(out / state.STATE, ProcessGroup()))


def evaluate(given: Given) -> list[dict[str, Any]]:
    """Plays fewer episodes than the protocol has; what was played before is not played again."""
    checkpoint, out = folder(given) / "checkpoint", folder(given) / "evaluation"
    own: dict[str, Any] = {"protocol": "mt10", "episodes": EPISODES}
    if given.dry:
        own = {"task": tasks(True), "episodes": 1}
    Evaluate(checkpoint=checkpoint, out=out, workers=processors(), record=0, **own).run()
    _, results = read_evaluation(out)
    played = [(name, [row for row in results if row.task == name]) for name in tasks(given.dry)]
    played.append(("all", results))
    return [
        {"task": name, "successes": sum(row.success for row in rows), "episodes": len(rows)} for name, rows in played
    ]


if __name__ == "__main__":
    main()
