"""How often LIBERO's scripted expert succeeds: `python measure.py TASKS... --seeds 0 1 2 --noise 0`; all 40 by default.

Every episode is a line of results.jsonl as soon as it is over, and is not played again. A refused task is a line too.
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tyro

from videopolicy.envs import libero
from videopolicy.envs.libero.tasks import SUITE
from videopolicy.errors import UserError

RESULTS = Path(__file__).with_name("results.jsonl")


@dataclass(frozen=True)
class Settings:
    """What to play.

    Attributes:
        tasks: LIBERO's names of them, or parts of the names.
        seeds: one episode each.
        noise: standard deviation of the noise on executed actions.
    """

    tasks: tyro.conf.Positional[tuple[str, ...]] = ("",)
    seeds: tuple[int, ...] = (0,)
    noise: float = 0.0


def episode(env: libero.Libero, seed: int, noise: float) -> dict[str, object]:
    """Plays one episode until success; noise and horizon are those of `videopolicy record`."""
    generator = np.random.default_rng([seed, 1])
    env.reset(seed=seed)
    begin = time.perf_counter()
    try:
        expert = env.expert()
    except UserError as error:
        return {"refused": str(error)}
    search = time.perf_counter() - begin
    for step in range(env.horizon):
        action = expert()
        disturbed = np.clip(action + noise * generator.standard_normal(action.shape), -1, 1)
        *_, info = env.step(disturbed.astype(np.float32))
        if info["success"]:
            return {"success": True, "steps": step + 1, "search_seconds": round(search, 1)}
    return {"success": False, "steps": env.horizon, "search_seconds": round(search, 1)}


def main(settings: Settings) -> None:
    """Plays what is not in the results yet."""
    lines = map(json.loads, RESULTS.read_text(encoding="utf-8").splitlines()) if RESULTS.exists() else ()
    done = {(line["task"], line["seed"], line["noise"]) for line in lines}
    libero.prepare()
    for part in settings.tasks:
        for task in (task for task in SUITE if part in task):
            todo = [seed for seed in settings.seeds if (task, seed, settings.noise) not in done]
            env = libero.make(task) if todo else None
            for seed in todo:
                done.add((task, seed, settings.noise))
                line = {"suite": SUITE[task], "task": task, "seed": seed, "noise": settings.noise}
                line |= episode(env, seed, settings.noise)
                with RESULTS.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(line) + "\n")
                print(json.dumps(line), flush=True)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Settings)))
