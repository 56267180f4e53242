"""How many episodes an hour, and where the time goes; prints a table and writes `OUT.json`.

    python measure.py metaworld OUT.json --checkpoint ../../checkpoints/button-press-topdown-v3
    python measure.py libero OUT.json

Without a checkpoint the policy is the preset `tiny` with random weights and the env's own views: it costs what a
trained one costs, and never succeeds, so that every episode is as long as may be.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from videopolicy import registry
from videopolicy.clips.normalize import Normalizer
from videopolicy.envs.base import EVALUATION_SEED_OFFSET, Env
from videopolicy.executors.chunked import Chunked
from videopolicy.hardware import device_name
from videopolicy.policies.base import derive_seed
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.rollout.results import timeless
from videopolicy.rollout.runner import evaluate
from videopolicy.rollout.settings import Settings
from videopolicy.training.prepare import build
from videopolicy.types import Observation, Plan

WORKERS = (1, 2)
PARTS = ("reset", "render", "physics", "policy")
TASKS = {
    "metaworld": "button-press-topdown-v3",
    "libero": "pick_up_the_alphabet_soup_and_place_it_in_the_basket",
}


def prepared(name: str, checkpoint: Path | None) -> tuple[CheckpointPolicy, Env]:
    """The policy, and the env that it sees; once only, as closing one simulator disturbs the next."""
    make, tiny = registry.entry("envs", name), registry.entry("presets", "tiny").model
    if checkpoint:
        policy = registry.build("policies", "checkpoint", checkpoint)
        return policy, make(TASKS[name], views=policy.spec.views, size=policy.spec.size)
    env: Env = make(TASKS[name], views=registry.module("envs", name).VIEWS, size=tiny.size)
    env.reset(seed=0)
    # LIBERO says it in more words than the preset has room for.
    config = replace(tiny, views=env.views, text=replace(tiny.text, length=16))
    model = build(
        config, Normalizer(*(tuple(end.tolist()) for end in (env.action_space.low, env.action_space.high))), 0
    )
    model.latents.fit(np.stack(list(env.observe().images.values())))
    return CheckpointPolicy(model, config.sampling), env


def shares(policy: CheckpointPolicy, env: Env, settings: Settings) -> dict[str, float]:
    """Seconds an episode of each of `PARTS`, in one process that does one thing after another."""
    task, seconds = settings.tasks[0], dict.fromkeys(PARTS, 0.0)

    def timed(part: str, run: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        begun = time.perf_counter()
        result = run(*args, **kwargs)
        seconds[part] += time.perf_counter() - begun
        return result

    # The first picture opens the renderer, and the first plan is slow too.
    env.reset(seed=0)
    policy.plan([env.observe()], [0], False)

    def ask(observation: Observation, seed: int) -> Plan:
        return timed("policy", policy.plan, [observation], [seed], False)[0]

    executor = Chunked(ask, execute=settings.execute)
    for episode in tqdm(range(settings.episodes), desc="shares", unit="episode"):
        executor.reset(derive_seed(settings.seed, task, episode))
        timed("reset", env.reset, seed=EVALUATION_SEED_OFFSET + episode)
        ended = False
        while not ended:
            observation = timed("render", env.observe) if executor.needs_observation else None
            *_, truncated, info = timed("physics", env.step, executor.act(observation))
            ended = truncated or info["success"]
    return {part: total / settings.episodes for part, total in seconds.items()}


def rates(policy: CheckpointPolicy, settings: Settings) -> dict[int, dict[str, float]]:
    """Episodes an hour for each number of workers: from the command's start, and once every env stands.

    Raises:
        AssertionError: the results depend on the number of workers.
    """
    found, results = {}, []
    for workers in WORKERS:
        with tempfile.TemporaryDirectory() as out:
            begun = time.perf_counter()
            rows = evaluate(policy, settings, Path(out), workers=workers).rows
            whole = time.perf_counter() - begun
        results.append(timeless(rows))
        mean = sum(row.seconds for row in rows) / len(rows)
        found[workers] = {"from the start": 3600 * len(rows) / whole, "going": 3600 * workers / mean}
    assert all(each == results[0] for each in results), "the results depend on the number of workers"
    return found


def main() -> None:
    """Measures; the results of all numbers of workers are checked to be the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("env", choices=TASKS)
    parser.add_argument("out", type=Path)
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--episodes", type=int, default=20)
    options = parser.parse_args()
    torch.set_num_threads(1)
    task = TASKS[options.env]
    policy, env = prepared(options.env, options.checkpoint)
    settings = Settings(options.env, (task,), options.episodes, policy.spec.execute, record=0)
    facts = {
        "env": options.env,
        "task": task,
        "policy": str(options.checkpoint.name) if options.checkpoint else "tiny, random",
        "device": device_name(policy.model.device),
        "cores": len(os.sched_getaffinity(0)),
        "load": os.getloadavg()[0],
        "episodes": options.episodes,
        "seconds an episode": shares(policy, env, settings),
        "episodes an hour": rates(policy, settings),
    }
    env.close()
    options.out.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
    spent = facts["seconds an episode"]
    for part, seconds in spent.items():
        print(f"{part:8} {seconds:6.2f} s an episode, {seconds / sum(spent.values()):4.0%}")
    for workers, rate in facts["episodes an hour"].items():
        print(f"{workers} workers: {rate['going']:.0f} episodes an hour, {rate['from the start']:.0f} with the start")


if __name__ == "__main__":
    main()
