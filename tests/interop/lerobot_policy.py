"""Plays the shipped checkpoint through LeRobot, and compares with the policy without LeRobot, to the bit.

    python -m venv LEROBOT        # Python 3.12, then as packages/lerobot/README.md says
    LEROBOT/bin/python tests/interop/lerobot_policy.py [--episodes 10] [--out experiments/interop]

It makes the policy's folder, asks LeRobot's `make_policy` and processors for plans, plays an episode with LeRobot's
`rollout`, and then runs `lerobot-eval` on the starts that `videopolicy evaluate` plays.
Exits with 1 if a number differs.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import lerobot_env
import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.envs import make_env_pre_post_processors, preprocess_observation
from lerobot.policies import make_policy, make_pre_post_processors
from lerobot.policies.factory import get_policy_class
from lerobot.scripts.lerobot_eval import rollout
from lerobot.utils.import_utils import register_third_party_plugins

from videopolicy import Chunked, Observation, open_policy
from videopolicy.envs.base import EVALUATION_SEED_OFFSET
from videopolicy.errors import UserError
from videopolicy.policies.base import derive_seed

HERE = Path(__file__).parent
TASK = "button-press-topdown-v3"
CHECKPOINT = HERE.parents[1] / "checkpoints" / TASK


def main() -> int:
    """Runs all of it, prints what came of it, and stores that if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--episodes", type=int, default=10, help="of lerobot-eval")
    parser.add_argument("--out", type=Path, help="folder for lerobot_policy.json")
    arguments = parser.parse_args()
    register_third_party_plugins()
    with TemporaryDirectory() as name:
        folder = Path(name) / "button"
        subprocess.run([Path(sys.executable).parent / "videopolicy-to-lerobot", CHECKPOINT, folder], check=True)
        equal = compare(folder)
        refused = refusals(folder)
        print(json.dumps(equal | refused, indent=2), flush=True)
        evaluated = evaluate(folder, arguments.episodes)
    names = ("lerobot", "videopolicy", "torch", "numpy", "gymnasium", "metaworld", "mujoco")
    versions = {"python": platform.python_version()} | {name: version(name) for name in names}
    result = {"cores": os.cpu_count(), "versions": versions, **equal, "refused": refused, "lerobot-eval": evaluated}
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out is not None:
        (arguments.out / "lerobot_policy.json").write_text(text + "\n", encoding="utf-8")
    return 0 if all(equal.values()) else 1


def opened(folder: Path, env: lerobot_env.ShownConfig):
    """The policy and its two pipelines, as lerobot-eval opens them."""
    config = PreTrainedConfig.from_pretrained(folder)
    config.pretrained_path = folder
    overrides = {"device_processor": {"device": config.device}, "rename_observations_processor": {"rename_map": {}}}
    pipelines = make_pre_post_processors(config, folder, preprocessor_overrides=overrides)
    return make_policy(config, env_cfg=env).eval(), *pipelines


def compare(folder: Path) -> dict[str, bool]:
    """Whether actions are those of the policy without LeRobot: of one picture, of a large one, of an episode."""
    config = lerobot_env.ShownConfig()
    policy, before, after = opened(folder, config)
    own, equal = open_policy(CHECKPOINT), {}
    rng = np.random.default_rng(0)
    for kind, size in (("small", (2, 64, 64, 3)), ("camera", (2, 480, 640, 3))):
        images = rng.integers(0, 256, size, np.uint8)
        batch = preprocess_observation({"pixels": {"corner2": images}}) | {"task": ["press the button from above"] * 2}
        seen = [Observation({"corner2": image}, "press the button from above") for image in images]
        policy.reset()
        resets = policy._resets
        chunk = after(policy.predict_action_chunk(before(batch))).numpy()
        first, second = ([derive_seed("lerobot", 0, resets, k, row) for row in range(2)] for k in range(2))
        equal[f"chunk_of_{kind}_pictures"] = same(chunk, own.plan(seen, first, False))
        steps = [after(policy.select_action(before(batch))).numpy() for _ in range(own.spec.execute)]
        equal[f"actions_of_{kind}_pictures"] = same(np.stack(steps, 1), own.plan(seen, second, False))
    equal["actions_of_an_episode"] = np.array_equal(*episodes(policy, before, after, own, config))
    return equal


def same(actions: np.ndarray, plans: list) -> bool:
    """Whether these are the first actions of the plans."""
    return np.array_equal(actions, np.stack([plan.actions for plan in plans])[:, : actions.shape[1]])


def episodes(policy, before, after, own, config: lerobot_env.ShownConfig) -> tuple[np.ndarray, np.ndarray]:
    """What is executed from one start: by LeRobot's rollout, and by a loop without it."""
    (vector,) = config.create_envs(1)[config.type].values()
    played = rollout(
        vector, policy, *make_env_pre_post_processors(config, policy.config), before, after, [EVALUATION_SEED_OFFSET]
    )
    env, resets, plans, executed, done = vector.envs[0].inner, policy._resets, iter(range(10**6)), [], False

    def ask(seen, _):
        return own.plan([seen], [derive_seed("lerobot", 0, resets, next(plans), 0)], False)[0]

    executor = Chunked(ask, execute=own.spec.execute)
    env.reset(seed=EVALUATION_SEED_OFFSET)
    while not done:
        action = executor.act(env.observe() if executor.needs_observation else None)
        _, _, _, truncated, info = env.step(action)
        done = truncated or info["success"]
        executed.append(action)
    vector.close()
    return played["action"][0].numpy(), np.stack(executed)


def refusals(folder: Path) -> dict[str, str]:
    """What LeRobot's users are told who train it, or who forget the checkpoint."""
    config = PreTrainedConfig.from_pretrained(folder)
    kind = get_policy_class("videopolicy")
    asked = {
        "trained": config.get_optimizer_preset,
        "no checkpoint": lambda: kind(config),
        "no folder": lambda: kind.from_pretrained(folder / "nowhere"),
        "too many actions": lambda: PreTrainedConfig.from_pretrained(folder, cli_overrides=["--n_action_steps=64"]),
    }
    said = {}
    for name, ask in asked.items():
        try:
            ask()
        except UserError as error:
            said[name] = str(error).replace(str(folder), "FOLDER")
    return said


def evaluate(folder: Path, count: int) -> dict:
    """The command itself; its overall success."""
    out = folder.parent / "evaluated"
    command = [Path(sys.executable).parent / "lerobot-eval", f"--policy.path={folder}", "--env.type=shown"]
    command += ["--env.discover_packages_path=lerobot_env", f"--env.task={TASK}", f"--eval.n_episodes={count}"]
    command += ["--eval.batch_size=1", f"--seed={EVALUATION_SEED_OFFSET}", f"--output_dir={out}"]
    subprocess.run(command, check=True, env=os.environ | {"PYTHONPATH": str(HERE), "HF_HUB_OFFLINE": "1"})
    overall = json.loads((out / "eval_info.json").read_text(encoding="utf-8"))["overall"]
    kept = ("n_episodes", "pc_success", "eval_s")
    return {"seeds from": EVALUATION_SEED_OFFSET} | {name: overall[name] for name in kept if name in overall}


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
