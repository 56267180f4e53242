"""Shows everything at once: records, trains, evaluates and reports, on a laptop, in minutes."""

import shutil
import time
from dataclasses import dataclass, replace
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Literal

from videopolicy import checkpoint, registry
from videopolicy.cli import evaluate, record, train
from videopolicy.cli._files import write_json
from videopolicy.datasets.lerobot.writer import refuse_existing
from videopolicy.envs.base import EVALUATION_SEED_OFFSET
from videopolicy.errors import UserError, check_range
from videopolicy.ownership import owned
from videopolicy.presets.base import Preset
from videopolicy.report.page import write_report
from videopolicy.rollout.runner import MOST_EPISODES
from videopolicy.training.config import Training
from videopolicy.training.objective import check_generates_video
from videopolicy.training.stages import ACTION, Stage

# Seconds kept back for preparing the data, loading and the page. The evaluation comes on top: one of its episodes takes
# about as long as a demonstration took.
RESERVE = 25.0
LEAST_TRAINING = 10.0
# Demonstrations of one seed and of the next begin in different states.
SEEDS_APART = 10_000
NOT_PRETRAINED = ("minutes", "preset", "demonstrations", "stage", "seed")
LIMITS = {
    "minutes": (0.1, 10_000),
    "episodes": (1, MOST_EPISODES),
    "demonstrations": (1, SEEDS_APART),
    "seed": (0, EVALUATION_SEED_OFFSET // SEEDS_APART - 1),
}
SHIPPED = "button-press-topdown-v3"
LEARNING = {
    "joint": "training the video model and the action head together",
    "action": "training the action head on a video model that stays untrained",
}


@dataclass(frozen=True)
class Command:
    """Watch a robot learn: record demonstrations, train on them through video, evaluate, open a page of videos.

    Everything lands in --out: the data, the trained policy, the evaluation and report.html.

    Example: videopolicy demo

    Another task, with more time: videopolicy demo --task drawer-open-v3 --minutes 20 --out runs/drawer

    Without training: videopolicy demo --pretrained
    """

    task: tuple[str, ...] = (SHIPPED,)
    """One or more Meta-World tasks."""
    minutes: float = 8.0
    """Time for everything; training gets what the other steps leave."""
    preset: str = "tiny"
    """The model and its recipe: a name from `videopolicy.presets`, such as tiny_wan."""
    out: Path = Path("runs/demo")
    """Where everything goes."""
    pretrained: bool = False
    """Skip recording and training: evaluate the checkpoint that comes with videopolicy."""
    episodes: int = 20
    """Episodes of each task in the evaluation."""
    demonstrations: int = 50
    """Recorded episodes of each task."""
    stage: Literal["joint", "action"] = "joint"
    """"joint" is the preset's own; "action" leaves the video model untrained, to show what it is worth."""
    seed: int = 0
    """Of the demonstrations, the weights and the noise."""

    def run(self) -> None:
        """Does it all, and ends with the page's path and the success rate."""
        # All of it now: a slip that only the evaluation notices would cost the whole training.
        for name, (least, most) in LIMITS.items():
            check_range(f"--{name}", getattr(self, name), least, most)
        self._check()
        refuse_existing(self.out)
        with owned(self.out, "demo"):
            # Another process may have made it before this one owned it.
            refuse_existing(self.out)
            self._show()

    def _check(self) -> None:
        preset: Preset = registry.entry("presets", self.preset)
        if self.pretrained:
            idle = (name for name in NOT_PRETRAINED if getattr(self, name) != getattr(Command, name))
            if name := next(idle, None):
                raise UserError(f"--pretrained records and trains nothing, so --{name} is for nothing; leave it out")
            return
        check_generates_video(preset.model.generates_video, self._stage(preset.training))

    def _stage(self, recipe: Training) -> Stage:
        """What learns: all that the preset's own recipe teaches, or the head alone."""
        return recipe.stage if self.stage == "joint" else ACTION

    def _show(self) -> None:
        clock = Clock()
        if self.pretrained:
            self._unpack()
        else:
            self._record(clock)
            self._train(clock)
        clock.begin("evaluate", "acting in the simulator, from starts never seen in training", 1)
        evaluation = evaluate.Command(checkpoint=self.out / "checkpoint", task=self.task, episodes=self.episodes)
        summary = evaluation.measure()
        clock.begin("report", "writing the page", 0)
        page = write_report(self.out)
        minutes = clock.minutes()
        write_json(self.out / "demo.json", {"minutes": minutes, "success": summary})
        print(f"{sum(minutes.values()):.1f} minutes in all; open this page in a browser:\n{page}\n{summary}")

    def _record(self, clock: "Clock") -> None:
        what = f"{self.demonstrations} demonstrations of {', '.join(self.task)} by the simulator's scripted expert"
        clock.begin("record", f"recording {what}", self.minutes)
        model = registry.entry("presets", self.preset).model
        record.Command(
            task=self.task,
            out=self.out / "data",
            episodes=self.demonstrations,
            views=model.views,
            size=model.size,
            seed=self.seed * SEEDS_APART,
        ).run()

    def _train(self, clock: "Clock") -> None:
        recorded = clock.seconds()
        left = 60 * self.minutes - recorded
        evaluation = recorded * self.episodes / self.demonstrations
        budget = max(left - RESERVE - evaluation, LEAST_TRAINING)
        recipe = registry.entry("presets", self.preset).training
        stage = self._stage(recipe)
        what = LEARNING[self.stage] if stage.video_loss or self.stage == "action" else "training the policy"
        clock.begin("train", what, left / 60)
        train.Command(
            data=(self.out / "data",),
            out=self.out,
            preset=self.preset,
            training=replace(recipe, stage=stage, minutes=budget / 60, seed=self.seed),
        ).run()

    def _unpack(self) -> None:
        """Copies the checkpoint that comes with the package into OUT, so that OUT is a whole run."""
        roots = (Path(str(files("videopolicy"))), Path(__file__).parents[3])
        folder = next((root / "checkpoints" / SHIPPED for root in roots if (root / "checkpoints").is_dir()), None)
        if folder is None:
            raise UserError("this installation carries no checkpoint; run the demo without --pretrained")
        _, provenance = checkpoint.load(folder)
        if lacking := [task for task in self.task if task not in provenance.tasks]:
            raise UserError(
                f"the checkpoint was trained on {', '.join(provenance.tasks)}, not {', '.join(lacking)}; "
                "run the demo without --pretrained to train on it"
            )
        shutil.copytree(folder, self.out / "checkpoint")


class Clock:
    """Says what begins and how long is left, and keeps how long each part took."""

    def __init__(self) -> None:
        self._starts: dict[str, float] = {}

    def begin(self, name: str, what: str, minutes_left: float) -> None:
        """Begins a part of the demo, which ends the one before."""
        self._starts[name] = time.monotonic()
        print(f"\n== {what} (about {max(1, round(minutes_left))} min left)", flush=True)

    def seconds(self) -> float:
        """Since the first part began."""
        return time.monotonic() - min(self._starts.values())

    def minutes(self) -> dict[str, float]:
        """How long each part took."""
        edges = [*self._starts.values(), time.monotonic()]
        return {
            name: round((after - start) / 60, 2)
            for name, (start, after) in zip(self._starts, pairwise(edges), strict=True)
        }
