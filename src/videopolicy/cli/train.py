"""Trains a policy on recorded demonstrations."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from videopolicy import checkpoint, registry
from videopolicy.cli._files import write_json
from videopolicy.cli._threads import choose_threads
from videopolicy.configs import to_json
from videopolicy.errors import UserError, within
from videopolicy.model import VideoPolicy
from videopolicy.training.config import Stage
from videopolicy.training.loop import Trainer
from videopolicy.training.setup import prepare
from videopolicy.training.state import FILE

LIMITS = {"minutes": (0.001, 10**6), "steps": (1, 10**9), "batch": (1, 2**16), "seed": (0, 2**32)}

# What a resumed run may change: how long it goes on, and how often it tells of itself.
FREE = {"steps", "minutes", "log_every", "sample_every", "save_every"}


@dataclass(frozen=True)
class Command:
    """Train a video policy: its video model, its head, or both at once.

    Ctrl-C stops after the current step and leaves a checkpoint; the same command with --resume goes on.

    Example: videopolicy train --data data/button --out runs/button

    In two stages: videopolicy train --data data/button --out runs/video --stage video, and then
    videopolicy train --data data/button --out runs/action --stage action --init runs/video/checkpoint
    """

    data: Path
    """The data set, as `videopolicy record` writes it."""
    out: Path
    """The run's folder: checkpoint, losses, sampled videos, TensorBoard."""
    format: str = "lerobot"
    """The data set's format: a name from `videopolicy.demos`."""
    preset: str = "tiny"
    """The recipe, and the model unless --init gives one: a name from `videopolicy.presets`."""
    stage: Stage = "joint"
    """What learns: the video model, the head on a frozen video model, or both."""
    init: Path | None = None
    """A checkpoint to start from; without one, all weights are fresh."""
    views: tuple[str, ...] = ()
    """Views to train on; the preset's own if none are given."""
    minutes: float | None = None
    """Stop after so much time, with the learning rate falling to meet it."""
    steps: int | None = None
    """Training steps; the preset's own if not given."""
    batch: int | None = None
    """Clips a step; the preset's own if not given."""
    checkpoint_gradients: bool = False
    """Compute inner values of the video model again on the way back: slower, far less memory."""
    seed: int = 0
    """Of fresh weights, order and noise."""
    resume: bool = False
    """Go on with the run in --out."""

    def run(self) -> None:
        """Trains to the end."""
        choose_threads()
        preset = registry.entry("presets", self.preset)
        given = {"minutes": self.minutes, "steps": self.steps, "batch": self.batch}
        given = {name: value for name, value in given.items() if value is not None}
        for name, value in {**given, "seed": self.seed}.items():
            within(f"--{name}", value, *LIMITS[name])
        recomputes = self.checkpoint_gradients or preset.training.checkpoint_gradients
        training = replace(preset.training, stage=self.stage, seed=self.seed, checkpoint_gradients=recomputes, **given)
        model = replace(preset.model, views=self.views) if self.views else preset.model
        init: VideoPolicy | None = None
        licence = checkpoint.LICENCE
        if self.init:
            if self.views:
                raise UserError("--views and --init exclude each other: the checkpoint's own views are trained on")
            init, origin = checkpoint.load(self.init)
            model, licence = init.config, origin.license
        if len(set(model.views)) < len(model.views):
            raise UserError(f"--views is {' '.join(model.views)}; name each view once")
        dataset = registry.build("demos", self.format, self.data)
        self._check_out()
        facts = {
            "preset": self.preset,
            "data": dataset.fingerprint,
            "init": str(self.init),
            "model": to_json(model),
            "training": to_json(training),
        }
        if self.resume:
            self._check_same(facts)
        policy, clips = prepare(dataset, model, training, self.out, init)
        trainer = Trainer(policy, clips, training, self.out, data=self.data.name, licence=licence)
        if self.resume:
            trainer.resume()
        write_json(self.out / "config.json", facts)
        trainer.train()
        print(f"trained {trainer.step} steps in {trainer.seconds / 60:.1f} minutes: {self.out / 'checkpoint'}")

    def _check_same(self, facts: dict[str, Any]) -> None:
        """Refuses to go on with a run under other settings: it would be neither the one nor the other."""
        try:
            before = json.loads((self.out / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{self.out}: config.json cannot be read ({error}); begin anew in another --out") from error
        pairs = [(name, before.get(name), facts[name]) for name in ("preset", "data", "init", "model")]
        old, new = before.get("training", {}), facts["training"]
        pairs += [(name, old.get(name), value) for name, value in new.items() if name not in FREE]
        if differing := [name for name, was, is_ in pairs if was != is_]:
            raise UserError(
                f"{self.out}: the run was begun with another {', '.join(differing)}; --resume needs the same settings"
            )

    def _check_out(self) -> None:
        """Makes sure that the run has a folder of its own; --init may lie in another run's, which must stay."""
        started = (self.out / "state" / FILE).is_file()
        if started and not self.resume:
            raise UserError(f"{self.out} holds a run already; go on with --resume, or choose another --out")
        if self.resume and not started:
            raise UserError(f"{self.out} holds no run to go on with; leave --resume out to begin one")
        if not started and (self.out / "checkpoint").exists():
            raise UserError(
                f"{self.out / 'checkpoint'} exists and would be replaced; choose another --out or remove it"
            )
        if (self.out / "meta").exists() or (self.out / "model.safetensors").exists():
            raise UserError(f"{self.out} holds a data set or a checkpoint; choose a folder of the run's own as --out")
