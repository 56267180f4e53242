"""Shows everything at once: records, trains, evaluates and reports, on a laptop, in a quarter of an hour."""

import shutil
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from videopolicy import checkpoint, registry
from videopolicy.cli import evaluate, record, train
from videopolicy.errors import UserError
from videopolicy.report.page import write_report
from videopolicy.training.config import Stage

# Seconds kept back for what comes after training: at least so many, and more where recording was slow.
RESERVE = 75.0
RESERVE_PER_RECORDING = 0.5
LEAST_TRAINING = 10.0
SHIPPED = "button-press-topdown-v3"


@dataclass(frozen=True)
class Command:
    """Watch a robot learn: record demonstrations, train on them through video, evaluate, open a page of videos.

    Everything lands in --out: the data, the trained policy, the evaluation and report.html.

    Examples:
    videopolicy demo
    videopolicy demo --task drawer-open-v3 --minutes 20 --out runs/drawer
    videopolicy demo --pretrained
    """

    task: tuple[str, ...] = (SHIPPED,)
    """One or more Meta-World tasks."""
    minutes: float = 14.0
    """Time for everything; training gets what the other steps leave."""
    out: Path = Path("runs/demo")
    """Where everything goes."""
    pretrained: bool = False
    """Skip recording and training: evaluate the checkpoint that comes with videopolicy."""
    episodes: int = 20
    """Episodes of each task in the evaluation."""
    demonstrations: int = 50
    """Recorded episodes of each task."""
    stage: Stage = "joint"
    """"action" leaves the video model untrained, to show what it is worth."""
    seed: int = 0
    """Of the demonstrations, the weights and the noise."""
    world: str = "metaworld"
    """The simulator."""

    def run(self) -> None:
        """Does it all, and ends with the page's path and the success rate."""
        if self.minutes <= 0:
            raise UserError(f"--minutes is {self.minutes}; give the whole demo some, 14 for instance")
        if self.out.exists() and any(self.out.iterdir()):
            raise UserError(f"{self.out} is not empty; choose another --out or remove it")
        started = time.monotonic()
        folder = self._shipped() if self.pretrained else self._learn(started)
        self._say("acting in the simulator, from starts never seen in training", 1.0)
        evaluation = evaluate.Command(
            checkpoint=folder, task=self.task, world=self.world, episodes=self.episodes, out=self.out / "evaluation"
        )
        summary = evaluation.measure()
        self._say("writing the page", 0.2)
        page = write_report(self.out)
        print(f"{(time.monotonic() - started) / 60:.1f} minutes in all. Open in a browser:\n{page}\n{summary}")

    def _learn(self, started: float) -> Path:
        """Records and trains; gives the checkpoint's folder."""
        self._say(f"recording {self.demonstrations} demonstrations of {', '.join(self.task)}", self.minutes)
        model = registry.entry("presets", "tiny").model
        data = self.out / "data"
        record.Command(
            task=self.task,
            out=data,
            episodes=self.demonstrations,
            views=model.views,
            size=model.size,
            world=self.world,
            seed=self.seed * 10_000,
        ).run()
        recorded = time.monotonic() - started
        reserve = RESERVE + RESERVE_PER_RECORDING * recorded
        left = 60 * self.minutes - recorded
        budget = max(left - reserve, LEAST_TRAINING) / 60
        self._say("training the video model and the action head", left / 60)
        train.Command(data=data, out=self.out, preset="tiny", stage=self.stage, minutes=budget, seed=self.seed).run()
        return self.out / "checkpoint"

    def _shipped(self) -> Path:
        """A copy of the checkpoint that comes with the package, so that OUT is a whole run."""
        for root in (Path(str(files("videopolicy"))), Path(__file__).parents[3]):
            folder = root / "checkpoints" / SHIPPED
            if folder.is_dir():
                break
        else:
            raise UserError("this installation carries no checkpoint; run the demo without --pretrained")
        _, provenance = checkpoint.load(folder)
        if lacking := [task for task in self.task if task not in provenance.tasks]:
            raise UserError(
                f"the checkpoint was trained on {', '.join(provenance.tasks)}, not {', '.join(lacking)}; "
                "run the demo without --pretrained to train on it"
            )
        shutil.copytree(folder, self.out / "checkpoint")
        return self.out / "checkpoint"

    def _say(self, what: str, minutes_left: float) -> None:
        print(f"\n== {what} (about {max(1, round(minutes_left))} min left)", flush=True)
