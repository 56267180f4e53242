"""How surely `evaluate` tells turned demonstrations from upright ones, by the first images of real envs.

python experiments/orientation/measure.py ENV > experiments/orientation/ENV.json
"""

import json
import sys
from collections.abc import Iterable
from itertools import product

import numpy as np

from videopolicy.clips.statistics import CELLS, FrameStatistics
from videopolicy.datasets.transforms.turn import TURNS
from videopolicy.envs.base import EVALUATION_SEED_OFFSET, make_env
from videopolicy.images import fit_to_size
from videopolicy.policies.orientation import FIT, better, fits
from videopolicy.types import Frames

# Env -> its tasks, its views, demonstrations of each task, and episodes of an evaluation.
MEASURED = {
    "pointmass": (("reach-red", "reach-blue"), ("top", "close"), 50, 200),
    "metaworld": (
        (
            "button-press-topdown-v3",
            "door-open-v3",
            "drawer-open-v3",
            "pick-place-v3",
            "reach-v3",
            "window-close-v3",
        ),
        ("corner", "corner2", "corner3", "topview", "gripperPOV", "behindGripper"),
        12,
        4,
    ),
    "libero": (
        (
            "KITCHEN_SCENE3_turn_on_the_stove_and_put_the_moka_pot_on_it",
            "LIVING_ROOM_SCENE2_put_both_the_alphabet_soup_and_the_tomato_sauce_in_the_basket",
            "STUDY_SCENE1_pick_up_the_book_and_place_it_in_the_back_compartment_of_the_caddy",
            "open_the_middle_drawer_of_the_cabinet",
            "pick_up_the_alphabet_soup_and_place_it_in_the_basket",
            "pick_up_the_black_bowl_between_the_plate_and_the_ramekin_and_place_it_on_the_plate",
        ),
        ("agentview", "eye_in_hand"),
        8,
        3,
    ),
}
Shown = dict[tuple[str, str], Frames]


def first_frames(env: str, seeds: Iterable[int]) -> Shown:
    """(task, view) -> the first image of an episode of each seed, small."""
    tasks, views, _, _ = MEASURED[env]
    shown: dict[tuple[str, str], list[Frames]] = {key: [] for key in product(tasks, views)}
    seeds = list(seeds)
    for task in tasks:
        opened = make_env(env, task, views=views)
        for seed in seeds:
            opened.reset(seed=seed)
            for view, image in opened.observe().images.items():
                shown[task, view].append(fit_to_size(image[None], CELLS))
        opened.close()
        print(f"{env}: {task}", file=sys.stderr)
    return {key: np.concatenate(frames) for key, frames in shown.items()}


def measure(demonstrations: Frames, evaluated: Frames) -> dict[str, float]:
    """Counts what is said of these images after training on these frames, upright and turned in the seven ways."""
    upright = FrameStatistics.of(demonstrations)
    right = wrong = 0
    for turn in TURNS[1:]:
        turned = FrameStatistics.of(turn.apply(demonstrations))
        said = [found[0] for image in evaluated if (found := better(turned, image))]
        right += said.count(turn)
        wrong += len(said) - said.count(turn)
    found = [list(fits(upright, image).values()) for image in evaluated]
    advantages = [max((fit - own for fit in others if fit >= FIT), default=-1.0) for own, *others in found]
    return {
        "images": len(evaluated),
        "upright_called_turned": sum(better(upright, image) is not None for image in evaluated),
        "largest_advantage_of_another_turn": max(advantages),
        "turned_named_right": right,
        "turned_named_wrong": wrong,
    }


def total(rows: list[dict[str, float]]) -> dict[str, float]:
    """Of several measurements."""
    largest = max(row["largest_advantage_of_another_turn"] for row in rows)
    added = {name: sum(row[name] for row in rows) for name in rows[0]}
    return {**added, "largest_advantage_of_another_turn": round(largest, 2)}


def main(env: str) -> None:
    """Measures one env, of each view after training on the task itself, on all tasks, and on another task."""
    tasks, views, recorded, played = MEASURED[env]
    both = first_frames(env, [*range(recorded), *range(EVALUATION_SEED_OFFSET, EVALUATION_SEED_OFFSET + played)])
    results = []
    for view in views:
        demonstrations = {task: both[task, view][:recorded] for task in tasks}
        evaluated = {task: both[task, view][recorded:] for task in tasks}
        every = np.concatenate(list(demonstrations.values()))
        for trained_on, pairs in {
            "the task": [(demonstrations[task], evaluated[task]) for task in tasks],
            "all tasks": [(every, evaluated[task]) for task in tasks],
            "another task": [
                (demonstrations[one], evaluated[other]) for one, other in product(tasks, tasks) if one != other
            ],
        }.items():
            rows = [measure(*pair) for pair in pairs]
            results.append({"env": env, "view": view, "trained_on": trained_on, **total(rows)})
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
