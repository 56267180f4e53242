"""Asks `examples/serve_lerobot.py` for plans, and compares with LeRobot's own `select_action`, to the bit.

    LEROBOT/bin/python tests/interop/served_act.py FOLDER        # with packages/client

Exits with 1 if a number differs.
"""

import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import get_policy_class, make_pre_post_processors
from lerobot.policies.utils import prepare_observation_for_inference
from videopolicy_client import Client

SERVER = Path(__file__).parents[2] / "examples/serve_lerobot.py"
PORT, INSTRUCTION, SECONDS = 8124, "reach the red disc", 300


def main(folder: str) -> int:
    """A few observations, drawn at random."""
    config = PreTrainedConfig.from_pretrained(folder)
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(config, folder)
    rng, equal = np.random.default_rng(0), []
    with subprocess.Popen([sys.executable, str(SERVER), folder, str(PORT)]) as server:
        try:
            with Client(f"ws://127.0.0.1:{PORT}", timeout=SECONDS) as client:
                for _ in range(4):
                    picture = rng.integers(0, 256, (*client.metadata["views"]["top"], 3), np.uint8)
                    state = rng.uniform(-1, 1, 2).astype(np.float32)
                    told = client.infer({"top": picture, "state": state, "instruction": INSTRUCTION})["actions"]
                    seen = {"observation.images.top": picture, "observation.state": state}
                    policy.reset()
                    with torch.inference_mode():
                        batch = before(prepare_observation_for_inference(seen, torch.device("cpu"), INSTRUCTION))
                        own = [after(policy.select_action(batch)).numpy()[0] for _ in range(config.n_action_steps)]
                    equal.append(np.array_equal(told, np.stack(own)))
        finally:
            server.terminate()
    print("equal", equal)
    return 0 if all(equal) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
