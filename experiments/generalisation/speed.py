"""How long a training step of each policy takes, by turns on one thread: `python speed.py` writes speed.json.

The numbers of steps in `run.py` and in the study of LIBERO are chosen by it, so that both policies train for as long.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from run import ENVIRONMENT, machine

WAYS = (
    ("tiny", "video"),
    ("tiny", "action"),
    ("tiny", "joint"),
    ("cloning", "end_to_end"),
    ("tiny_libero", "joint"),
    ("cloning_libero", "end_to_end"),
)
ROUNDS = 2


def main() -> None:
    """Measures every way of training in turn, again and again, and keeps the median of the rounds."""
    rounds: dict[str, list[float]] = {f"{preset} {stage}": [] for preset, stage in WAYS}
    for _ in range(ROUNDS):
        for preset, stage in WAYS:
            rounds[f"{preset} {stage}"].append(step(preset, stage))
    facts = {
        "commit": machine()["commit"],
        "milliseconds_a_step": {name: round(median(ms), 1) for name, ms in rounds.items()},
    }
    (Path(__file__).parent / "speed.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=1))


def step(preset: str, stage: str) -> float:
    """The median milliseconds of some steps."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.json"
        words = ["bench", "--train", preset, "--stage", stage, "--repeats", "10", "--json", str(path)]
        subprocess.run([sys.executable, "-m", "videopolicy", *words], env=ENVIRONMENT, check=True)
        return json.loads(path.read_text(encoding="utf-8"))["step"]["median"]


if __name__ == "__main__":
    main()
