"""What a study found, from what it has played so far: `python figures.py STUDY` writes figures/STUDY.json.

Intervals of a method are over trainings and starts together (`videopolicy.rollout.trainings`); differences are to the
baseline `cloning`, and of a noise law to `joint` acting in the same way, from the same starts.
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from results import BASELINE, CLIPS, FOLDER, Kept
from studies import STUDIES, Study

from videopolicy.rollout.results import Result
from videopolicy.rollout.statistics import clopper_pearson
from videopolicy.rollout.trainings import OverTrainings, difference, mean_success, outcomes

HERE = Path(__file__).parent


def write(name: str, study: Study) -> None:
    """Gathers every training of a study that has been played to the end, and prints a line a method."""
    conditions = {condition: compared(played(name, condition)) for condition in study.conditions}
    facts = {"study": name, "minutes": study.minutes, "conditions": conditions}
    path = HERE / "figures" / f"{name}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    for condition, methods in conditions.items():
        for method, found in methods.items():
            less = f"; less {baseline(method)}: {found['difference']['told']}" if "difference" in found else ""
            print(f"{condition} {method}: {found['success']['told']}{less}")


def played(study: str, condition: str) -> dict[str, list[Kept]]:
    """The trainings of each method."""
    trainings: dict[str, list[Kept]] = {}
    for folder in dict.fromkeys((study, study.removesuffix(CLIPS))):
        for path in sorted((FOLDER / folder).glob(f"*-{condition}-*.json")):
            method, seed = path.stem.split(f"-{condition}-")
            if Kept.of(study, method, condition, int(seed)).path == path:
                trainings.setdefault(method, []).append(Kept(path))
    return trainings


def compared(trainings: dict[str, list[Kept]]) -> dict[str, Any]:
    """Every method's figures, and its difference to the baseline."""
    rows = {method: [kept.rows for kept in several] for method, several in trainings.items()}
    return {
        method: {
            "success": in_points(mean_success(outcomes(rows[method])[0], rng())),
            **against(rows, method),
            "trainings": [
                {"file": kept.path.name, **facts_of(kept), **rates(results)}
                for kept, results in zip(several, rows[method], strict=True)
            ],
        }
        for method, several in trainings.items()
    }


def facts_of(kept: Kept) -> dict[str, Any]:
    """What is known of a training but how its episodes ended."""
    return {name: value for name, value in kept.facts.items() if name != "seed_success_steps"}


def baseline(method: str) -> str:
    """What a method is compared with."""
    name, dot, way = method.partition(".")
    return f"law_joint{dot}{way}" if name.startswith("law_") else BASELINE


def against(rows: dict[str, list[list[Result]]], method: str) -> dict[str, Any]:
    """The method's success less its baseline's, where there is another and it has been played."""
    other = baseline(method)
    if method == other or other not in rows:
        return {}
    return {"difference": in_points(difference(*outcomes(rows[other], rows[method]), rng()))}


def rng() -> np.random.Generator:
    """Draws the samples of an interval, the same ones each time."""
    return np.random.default_rng(0)


def in_points(found: OverTrainings) -> dict[str, Any]:
    """As plain numbers."""
    plain = {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(found).items()}
    return {**plain, "told": str(found), **({"warning": found.warning} if found.warning else {})}


def rates(rows: list[Result]) -> dict[str, Any]:
    """Success of each task, and of all episodes."""
    groups = {task: [row.success for row in rows if row.task == task] for task in dict.fromkeys(r.task for r in rows)}
    every = {**(groups if len(groups) > 1 else {}), "all": [row.success for row in rows]}
    return {name: rate(outcomes) for name, outcomes in every.items()}


def rate(won: list[bool]) -> dict[str, Any]:
    """Successes, episodes, and Clopper and Pearson's interval."""
    interval = clopper_pearson(sum(won), len(won))
    return {
        "successes": sum(won),
        "episodes": len(won),
        "interval_95": [round(interval.low, 3), round(interval.high, 3)],
    }


if __name__ == "__main__":
    write(sys.argv[1], STUDIES[sys.argv[1]])
