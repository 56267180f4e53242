"""Asks `videopolicy serve` with the real `openpi-client`, unchanged, and compares with the policy in this process.

    python -m venv OPENPI        # Python 3.11: pip install openpi-client==0.1.2 typing_extensions
    python tests/interop/openpi.py --openpi OPENPI/bin/python [--out experiments/interop]

Exits with 1 if a number differs. It is no part of the tests, as that client wants numpy < 2.
It imports typing_extensions, but does not declare it.
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

import numpy as np

from videopolicy import make_env, open_policy
from videopolicy.types import Observation

HERE = Path(__file__).parent
TASK = "button-press-topdown-v3"
CHECKPOINT = HERE.parents[1] / "checkpoints" / TASK
# As openpi's example for LIBERO sends them.
SIZE, STARTS, TOKEN = 224, 4, "a-token"


def main() -> int:
    """Serves the checkpoint, has it asked, prints what came of it, and stores that if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--openpi", required=True, help="Python with openpi-client")
    parser.add_argument("--out", type=Path, help="folder for openpi.json")
    arguments = parser.parse_args()
    images, instruction = pictures()
    with TemporaryDirectory() as folder:
        asked, answers = Path(folder) / "images.npz", Path(folder) / "answers.npz"
        np.savez(asked, images=images)
        facts = ask(arguments.openpi, asked, answers)
        equal = compare(images, instruction, np.load(answers))
    own = {name: version(name) for name in ("torch", "numpy", "msgpack", "websockets")}
    result = {
        "cores": os.cpu_count(),
        "here": {"python": platform.python_version(), **own},
        "there": facts.pop("versions"),
        **equal,
        **facts,
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.out is not None:
        (arguments.out / "openpi.json").write_text(text + "\n", encoding="utf-8")
    return 0 if all(equal.values()) else 1


def pictures() -> tuple[np.ndarray, str]:
    """What the camera sees at a few starts of the task."""
    env = make_env("metaworld", TASK, views=("corner2",), size=SIZE)
    seen = []
    for seed in range(STARTS):
        env.reset(seed=seed)
        seen.append(env.observe())
    env.close()
    return np.stack([one.images["corner2"] for one in seen]), seen[0].instruction


def ask(python: str, images: Path, answers: Path) -> dict:
    """Starts the server, and lets the other side talk to it."""
    serve = [sys.executable, "-m", "videopolicy", "serve", CHECKPOINT, "--port", "0", "--style", "libero"]
    with subprocess.Popen([*map(str, serve), "--token", TOKEN], stdout=subprocess.PIPE, encoding="utf-8") as server:
        try:
            assert server.stdout is not None
            line = next(line for line in server.stdout if line.startswith("serving "))
            port = line.strip().rpartition(":")[2]
            command = [python, str(HERE / "theirs_openpi.py"), port, TOKEN, str(images), str(answers)]
            done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8", check=True)
        finally:
            server.terminate()
    if server.returncode:
        raise SystemExit(f"the server ended with {server.returncode}")
    return json.loads(done.stdout)


def compare(images: np.ndarray, instruction: str, answers: np.lib.npyio.NpzFile) -> dict[str, bool]:
    """Whether actions are those of the policy in this process, to the bit."""
    policy = open_policy(CHECKPOINT)
    seen = [Observation({"corner2": image}, instruction) for image in images]
    own = [plan.actions for plan in policy.plan(seen, answers["seeds"].tolist(), False)]
    (chunk,) = policy.plan(seen[:1], [int(answers["executed_seed"])], False)
    executed = answers["executed"]
    return {
        "plans_are_equal": np.array_equal(np.stack(own), answers["actions"]),
        "executed_are_equal": np.array_equal(chunk.actions[: len(executed)], executed),
    }


if __name__ == "__main__":
    sys.exit(main())
