"""The checkpoint that comes with the project, on its task of Meta-World, in both precisions."""

import shutil
import time
from functools import partial
from pathlib import Path
from typing import Any

from shared import Given, begin

from videopolicy.cli.evaluate import Command
from videopolicy.processors import processors
from videopolicy.rollout.results import read_evaluation

TASK = "button-press-topdown-v3"
CHECKPOINT = Path(__file__).resolve().parents[3] / "checkpoints" / TASK
EPISODES = 20


def main() -> None:
    """A row for each precision."""
    given, rows = begin(__doc__)
    for precision in ("float32", "bfloat16"):
        rows.attempt(partial(evaluate, given, precision), precision=precision)


def evaluate(given: Given, precision: Any) -> dict[str, Any]:
    """Plays the episodes from the first on."""
    out = given.work / f"shipped-{precision}"
    shutil.rmtree(out, ignore_errors=True)
    episodes = 1 if given.dry else EPISODES
    own = {"episodes": episodes, "workers": min(episodes, processors()), "precision": precision, "record": 0}
    begun = time.monotonic()
    Command(checkpoint=CHECKPOINT, task=(TASK,), out=out, **own).run()
    seconds = time.monotonic() - begun
    _, results = read_evaluation(out)
    return {"successes": sum(row.success for row in results), "episodes": len(results), "seconds": seconds}


if __name__ == "__main__":
    main()
