"""Which policy is better, from the same demonstrations, in the same time? Records, trains, plays, compares.

    python run.py STUDY [--methods tiny cloning] [--seeds 0 1 2] [--conditions 05]

All policies train for as long on one core (`methods.py`), or on as many clips (STUDY.clips), from the same
demonstrations, and are played from the same starts. Those of video see the video of all demonstrations, those without
only the ones whose actions are known. Two trainings run at a time, one thread each. What is finished is not done again,
on another machine neither (`results.py`). Figures land in figures/STUDY.json.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from figures import write
from methods import METHODS, Method, Phase, clock, steps, unmeasured
from results import Kept
from studies import STUDIES, Study

from videopolicy.datasets.formats import open_any

HERE = Path(__file__).parent
# One thread each: more are slower.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Training:
    """One training of a method in a study.

    Attributes:
        study: its name.
        name: of the method.
        condition: of the study.
        seed: of the weights and the order of the clips.
        folder: of the study.
    """

    study: str
    name: str
    condition: str
    seed: int
    folder: Path

    @property
    def run(self) -> Path:
        """Where it lands."""
        return self.folder / f"{self.name}-{self.condition}-{self.seed}"

    def kept(self, way: str) -> Kept:
        """Where its results are kept, acting in one of the study's ways."""
        return Kept.of(self.study, self.name + (way and f".{way}"), self.condition, self.seed)

    @property
    def list(self) -> Path:
        """The demonstrations, and which of their actions are known."""
        return self.folder / f"{self.condition}.toml"


def main() -> None:
    """Runs the study that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=["tiny", "cloning"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--conditions", nargs="+", help="of the study, by name; all if not given")
    parser.add_argument("--runs", type=Path, default=Path("runs/generalisation"), help="data, checkpoints and logs")
    options = parser.parse_args()
    study, runs = STUDIES[options.study], options.runs.resolve()
    folder, data = runs / options.study, runs / "data" / study.data
    conditions = options.conditions or list(study.conditions)
    if missing := sorted({*conditions} - {*study.conditions}):
        parser.error(f"{options.study} has no condition {', '.join(missing)}; it has {', '.join(study.conditions)}")
    if missing := [name for name in options.methods if study.env not in METHODS[name].presets]:
        parser.error(f"there is no preset of {', '.join(missing)} for {study.env}; leave it out")
    if missing := [way for name in options.methods for way in unmeasured(*phases_of(study, METHODS[name]))]:
        parser.error(f"no calibration of {', '.join(missing)}; run `python experiments/generalisation/methods.py`")
    if not data.exists():
        what = ("--env", study.env, "--task", *study.tasks, "--views", *study.views, "--size", 64)
        command("record", *what, "--out", data, log=data.with_suffix(".log"))
    write_lists(study, data, folder)
    # Seeds come first, so that what is there after an hour compares all methods.
    every = [
        [Training(options.study, name, condition, seed, folder) for condition in conditions]
        for seed in options.seeds
        for name in options.methods
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda trainings: train_and_play(study, data, trainings), every))
    write(options.study, study)


def write_lists(study: Study, data: Path, folder: Path) -> None:
    """For each condition a list of one data set that says which of its actions are known."""
    folder.mkdir(parents=True, exist_ok=True)
    opened = open_any(data, None)
    for name, keep in study.conditions.items():
        settings: Mapping[str, object] = {"path": str(data), **keep(opened)}
        # JSON's texts and lists are TOML's, too.
        lines = "".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items())
        (folder / f"{name}.toml").write_text("[[data]]\n" + lines, encoding="utf-8")


def train_and_play(study: Study, data: Path, trainings: list[Training]) -> None:
    """One method with one seed in every condition."""
    for training in trainings:
        left = {way: kept for way in study.ways if not (kept := training.kept(way)).path.exists()}
        if not left:
            continue
        run = train_phases(study, data, training, METHODS[training.name])
        for way, kept in left.items():
            kept.write(run, play(study, training, run, way), clips(study, METHODS[training.name]))


def phases_of(study: Study, method: Method) -> tuple[str, tuple[Phase, ...]]:
    """The preset that a study trains, and how."""
    return method.presets[study.env], method.scarce if study.scarce else method.plenty


def clips(study: Study, method: Method) -> int:
    """How many clips are seen in all phases together."""
    name, phases = phases_of(study, method)
    return sum(phase.recipe(name).training.batch_size * steps_of(study, name, phase) for phase in phases)


def steps_of(study: Study, name: str, phase: Phase) -> int:
    """How many steps a phase of a preset's training takes in a study."""
    return steps(name, phase, study.minutes, clock(study.env) if study.clips else "")


def train_phases(study: Study, data: Path, training: Training, method: Method) -> Path:
    """One phase after the other; those of video alone are shared by all conditions of a seed."""
    name, phases = phases_of(study, method)
    run, known, begin = training.run, training.list, ()
    for phase in phases:
        run, shown = training.run, known
        if phase.labels:
            run = run.with_name(f"{run.name}-labels")
        elif phase is not phases[-1]:
            run, shown = training.folder / f"{training.name}-{phase.stage}-{training.seed}", data
        count = steps_of(study, name, phase)
        train(run, shown, ("--seed", training.seed, "--steps", count, *phase.options(name), *begin))
        begin = () if phase.labels else ("--init", run / "checkpoint")
        if phase.labels:
            known = label(run, training.list)
    return run


def train(run: Path, data: Path, options: tuple[object, ...]) -> None:
    """Trains, or goes on training, to the end."""
    if (run / "done").exists():
        return
    resume = ("--resume",) if (run / "state").exists() else ()
    # No demonstration is spared to measure on: where two have actions, one would be half of all there is to learn.
    always = ("--out", run, "--validation-episodes", 0, "--data", data)
    command("train", *always, *options, *resume, log=run.with_suffix(".log"))
    (run / "done").touch()


def label(run: Path, data: Path) -> Path:
    """The data set in which what had no actions has those that a training reads from its video."""
    out = run.with_name(f"{run.name}-data")
    if not out.exists():
        command("label", data, "--checkpoint", run / "checkpoint", "--out", out, log=run.with_suffix(".label.log"))
    return out


def play(study: Study, training: Training, run: Path, way: str) -> Path:
    """Plays the protocol; of the first seed some of what is imagined is kept, for `videopolicy diagnose`."""
    out = run / f"evaluation{way and '-'}{way}"
    options = ("--checkpoint", run / "checkpoint", "--protocol", study.protocol, "--out", out, *study.ways[way])
    kept = 20 if training.seed == 0 else 0
    command("evaluate", *options, "--record", kept, log=out.with_suffix(".log"))
    return out


def command(verb: str, *options: object, log: Path) -> None:
    """Runs a verb of videopolicy; what it says goes to a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "videopolicy", verb, *map(str, options)]
    print(" ".join(words[2:]), flush=True)
    with log.open("a", encoding="utf-8") as file:
        subprocess.run(words, stdout=file, stderr=subprocess.STDOUT, env=ENVIRONMENT, check=True)


if __name__ == "__main__":
    main()
