"""What does video buy? One study: records, trains the video policy and the cloning baseline, evaluates both, compares.

    python run.py STUDY       one of many_tasks, few_actions, half_space, held_out_task, libero_object

Both policies train for as long, from the same demonstrations. The video policy sees the video of all of them: where
most have actions, video model and head learn jointly; where few have, the head learns by itself, afterwards. Cloning
can use those with actions alone. Training is counted in steps, so that any machine gets the same weights; `speed.py`
measures how long a step of each takes. What is finished is not done again. Figures land in STUDY.json beside this file.
"""

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import halves
import torch

from videopolicy.datasets.base import Dataset
from videopolicy.datasets.formats import open_any
from videopolicy.hardware import device_name
from videopolicy.rollout.comparison import pair, pooled
from videopolicy.rollout.protocols import load
from videopolicy.rollout.results import Result, read_evaluation
from videopolicy.rollout.statistics import clopper_pearson

HERE = Path(__file__).parent
MT10 = tuple(task.name for task in load("mt10").tasks)
HELD_OUT = "window-close-v3"
# One thread each: more are slower.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


@dataclass(frozen=True)
class Steps:
    """Of training, of 16 clips each.

    Attributes:
        cloning: of the baseline, for each condition; they take as long as the others together.
        head: of the head, for each condition.
        video: of the video model before that, once for all conditions; 0 trains both jointly.
    """

    cloning: int
    head: int
    video: int = 0


@dataclass(frozen=True)
class Study:
    """One question.

    Attributes:
        protocol: what is played, by name or as a file.
        tasks: what is recorded, 50 demonstrations each.
        steps: of training.
        conditions: name -> which demonstrations keep their actions, as settings of a list of data sets.
        figures: where they land.
        data: the folder that the demonstrations are recorded in, which studies may share.
        env: where.
        views: that are recorded.
        video: the video policy's preset.
        cloning: the baseline's.
    """

    protocol: str
    tasks: tuple[str, ...]
    steps: Steps
    conditions: Mapping[str, Callable[[Dataset], dict[str, Any]]]
    figures: Path
    data: str
    env: str = "metaworld"
    views: tuple[str, ...] = ("corner2",)
    video: str = "tiny"
    cloning: str = "cloning"


def first(count: int) -> Callable[[Dataset], dict[str, Any]]:
    """The first so many demonstrations keep their actions."""
    return lambda data: {"actions_of": list(range(count))}


def every(data: Dataset) -> dict[str, Any]:
    """All of them do."""
    return {}


LIBERO = HERE.parent / "libero_object"
ONE = Steps(cloning=1600, head=600, video=900)
STUDIES = {
    "many_tasks": Study(
        "mt10", MT10, Steps(cloning=4800, head=2800), {"all": every}, figures=HERE / "many_tasks.json", data="mt10"
    ),
    "few_actions": Study(
        str(HERE / "few_actions.toml"),
        (halves.TASK,),
        ONE,
        {f"{count:02}": first(count) for count in (1, 2, 5, 10)},
        figures=HERE / "few_actions.json",
        data=halves.TASK,
    ),
    "half_space": Study(
        str(HERE / "half_space.toml"),
        (halves.TASK,),
        ONE,
        {"left": lambda data: {"actions_of": halves.left(data)}},
        figures=HERE / "half_space.json",
        data=halves.TASK,
    ),
    "held_out_task": Study(
        str(HERE / "held_out_task.toml"),
        MT10,
        Steps(cloning=2400, head=1400),
        {"nine": lambda data: {"actions_for": [task for task in MT10 if task != HELD_OUT]}},
        figures=HERE / "held_out_task.json",
        data="mt10",
    ),
    "libero_object": Study(
        str(LIBERO / "two_tasks.toml"),
        tuple(task.name for task in load(str(LIBERO / "two_tasks.toml")).tasks),
        Steps(cloning=3400, head=2400),
        {"all": every},
        figures=LIBERO / "results.json",
        data="libero_object",
        env="libero",
        views=("agentview", "eye_in_hand"),
        video="tiny_libero",
        cloning="cloning_libero",
    ),
}


def main() -> None:
    """Runs the study that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--runs", type=Path, default=Path("runs/generalisation"), help="data, checkpoints and logs")
    options = parser.parse_args()
    study, runs = STUDIES[options.study], options.runs.resolve()
    folder, data = runs / options.study, runs / "data" / study.data
    if not data.exists():
        what = ("--env", study.env, "--task", *study.tasks, "--views", *study.views, "--size", 64)
        command("record", *what, "--out", data, log=data.with_suffix(".log"))
    lists = {name: write_list(folder / f"{name}.toml", data, keep) for name, keep in study.conditions.items()}
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(train, study, data, folder, lists) for train in (train_video_policies, train_cloning)]
        for job in jobs:
            job.result()
    for name in study.conditions:
        for policy in ("video", "cloning"):
            evaluate(study, folder / f"{policy}-{name}")
    found = {name: compared(folder / f"cloning-{name}", folder / f"video-{name}") for name in study.conditions}
    facts = {"study": options.study, **machine(), "conditions": found}
    if study.steps.video:
        facts["video_model"] = trained(video_model(data))
    study.figures.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=1))


def write_list(path: Path, data: Path, keep: Callable[[Dataset], dict[str, Any]]) -> Path:
    """A list of one data set that says which of its actions are known."""
    settings = {"path": str(data), **keep(open_any(data, None))}
    path.parent.mkdir(parents=True, exist_ok=True)
    # JSON's texts and lists are TOML's, too.
    path.write_text(
        "[[data]]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()), encoding="utf-8"
    )
    return path


def train_video_policies(study: Study, data: Path, folder: Path, lists: Mapping[str, Path]) -> None:
    """A head for each condition, and its video model: one of all demonstrations, or one learnt jointly with it."""
    stage: tuple[object, ...] = ("--preset", study.video)
    if study.steps.video:
        video = video_model(data)
        train(video, "--preset", study.video, "--data", data, "--stage", "video", "--steps", study.steps.video)
        stage = ("--stage", "action", "--init", video / "checkpoint")
    for name, listed in lists.items():
        train(folder / f"video-{name}", "--data", listed, *stage, "--steps", study.steps.head)


def video_model(data: Path) -> Path:
    """The run of the video model that is trained before the heads."""
    return data.with_name(f"{data.name}-video")


def train_cloning(study: Study, data: Path, folder: Path, lists: Mapping[str, Path]) -> None:
    """The baseline for each condition."""
    for name, listed in lists.items():
        where = folder / f"cloning-{name}"
        train(where, "--preset", study.cloning, "--data", listed, "--steps", study.steps.cloning)


def train(run: Path, *options: object) -> None:
    """Trains, or goes on training, to the end."""
    if not (run / "done").exists():
        resume = ("--resume",) if (run / "state").exists() else ()
        # No demonstration is spared to measure on: where two have actions, one would be half of all there is to learn.
        always = ("--out", run, "--validation-episodes", 0)
        command("train", *always, *options, *resume, log=run.with_suffix(".log"))
        (run / "done").touch()


def evaluate(study: Study, run: Path) -> None:
    """Plays the protocol; all of what a video policy imagines is kept, for `videopolicy diagnose`."""
    options = ("--checkpoint", run / "checkpoint", "--protocol", study.protocol)
    record = ("--record", 0 if run.name.startswith("cloning") else 1000)
    command("evaluate", *options, *record, log=run.with_suffix(".evaluation.log"))


def command(verb: str, *options: object, log: Path) -> None:
    """Runs a verb of videopolicy; what it says goes to a log."""
    log.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "videopolicy", verb, *map(str, options)]
    print(" ".join(words[2:]), flush=True)
    with log.open("a", encoding="utf-8") as file:
        subprocess.run(words, stdout=file, stderr=subprocess.STDOUT, env=ENVIRONMENT, check=True)


def compared(cloning: Path, video: Path) -> dict[str, Any]:
    """Both policies' figures, and whether they differ."""
    rows = {run.name.split("-")[0]: read_evaluation(run)[1] for run in (cloning, video)}
    both = pooled(list(pair(rows["cloning"], rows["video"]).values()))
    low, high = both.interval()
    return {
        "cloning": {**trained(cloning), **rates(rows["cloning"])},
        "video": {**trained(video), **rates(rows["video"])},
        "video_minus_cloning": {
            "episodes": both.n,
            "difference": round(both.difference, 3),
            "interval_95": [round(low, 3), round(high, 3)],
            "mcnemar_p": float(f"{both.p:.2g}"),
        },
    }


def trained(run: Path) -> dict[str, Any]:
    """How long a run trained."""
    provenance = json.loads((run / "checkpoint" / "config.json").read_text(encoding="utf-8"))["provenance"]
    known = provenance["episodes"] - provenance["without_actions"]
    minutes = provenance["notes"]["minutes of training"]
    return {"steps": provenance["steps"], "minutes": minutes, "demonstrations_with_actions": known}


def rates(rows: list[Result]) -> dict[str, Any]:
    """Success of each task, and of all episodes."""
    groups = {task: [row.success for row in rows if row.task == task] for task in dict.fromkeys(r.task for r in rows)}
    every = {**(groups if len(groups) > 1 else {}), "all": [row.success for row in rows]}
    return {name: rate(outcomes) for name, outcomes in every.items()}


def rate(outcomes: list[bool]) -> dict[str, Any]:
    """Successes, episodes, and Clopper and Pearson's interval."""
    interval = clopper_pearson(sum(outcomes), len(outcomes))
    return {
        "successes": sum(outcomes),
        "episodes": len(outcomes),
        "interval_95": [round(interval.low, 3), round(interval.high, 3)],
    }


def machine() -> dict[str, Any]:
    """Where and by which code."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True, cwd=HERE, encoding="utf-8"
    ).stdout
    return {
        "commit": commit.strip(),
        "cores": len(os.sched_getaffinity(0)),
        "processor": device_name(torch.device("cpu")),
        "torch": torch.__version__,
    }


if __name__ == "__main__":
    main()
