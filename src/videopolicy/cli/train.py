"""Trains a policy on recorded demonstrations."""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from videopolicy import checkpoint, registry
from videopolicy.cli._files import write_json
from videopolicy.cli._threads import choose_threads
from videopolicy.configs import to_json
from videopolicy.demos.mixture import Source, actions_for, open_sources
from videopolicy.errors import UserError, within
from videopolicy.model import Config, VideoPolicy
from videopolicy.training import state, trackers
from videopolicy.training.config import Precision, Stage, Training
from videopolicy.training.heldout import set_apart
from videopolicy.training.loop import Trainer
from videopolicy.training.setup import prepare, suited
from videopolicy.training.together import Together

OFTEN = (1, 10**9)
LIMITS = {
    "minutes": (0.001, 10**6),
    "steps": (1, 10**9),
    "batch": (1, 2**16),
    "accumulate": (1, 2**16),
    "lora": (0, 1024),
    "seed": (0, 2**32),
    "held_out": (0, 10**6),
    "log_every": OFTEN,
    "sample_every": OFTEN,
    "save_every": OFTEN,
}

MOST_AHEAD = 10**4

# What a resumed run may change: how long it goes on, what it needs of memory, and how often it tells of itself.
FREE = {"steps", "minutes", "accumulate", "compile", "log_every", "sample_every", "save_every"}


@dataclass(frozen=True)
class Command:
    """Train a video policy: its video model, its head, or both at once.

    Ctrl-C stops after the current step and leaves a checkpoint; the same command with --resume goes on.

    On several devices or machines: accelerate launch -m videopolicy train ..., or torchrun, with the same options.

    Example: videopolicy train --data data/button --out runs/button

    In two stages: videopolicy train --data data/button --out runs/video --stage video, and then
    videopolicy train --data data/button --out runs/action --stage action --init runs/video/checkpoint
    """

    data: tuple[Path, ...]
    """Data sets, or .toml files that list them with weights and view maps: see `videopolicy.demos.mixture`."""
    out: Path
    """The run's folder: checkpoint, losses, sampled videos, TensorBoard."""
    format: str | None = None
    """The data sets' format, if it cannot be guessed: a name from `videopolicy.demos`."""
    actions_for: tuple[str, ...] = ()
    """Tasks or instructions whose actions are used; of all others only the video. All, if none are given."""
    preset: str = "tiny"
    """The recipe, and the model unless --init gives one: a name from `videopolicy.presets`."""
    stage: Stage = "joint"
    """What learns: the video model, the head on a frozen video model, or both."""
    init: Path | None = None
    """A checkpoint to start from; without one, all weights are fresh."""
    relative: bool = False
    """Learn poses relative to the state at the chunk's beginning; the data name their action and state spaces."""
    features: Literal["attached", "detached"] | None = None
    """Stage joint: whether the action loss trains the video model, too, or stops at its features; else the preset's."""
    video_horizon: int | None = None
    """Control steps that the video looks ahead, the preset's own if not given; with 0 it draws the current images."""
    views: tuple[str, ...] = ()
    """Views to train on; the preset's own if none are given."""
    lora: int | None = None
    """Rank of adapters through which alone the video model learns, for one GPU; 0 trains all of it. Needs --init."""
    minutes: float | None = None
    """Stop after so much time, with the learning rate falling to meet it."""
    steps: int | None = None
    """Training steps; the preset's own if not given."""
    batch: int | None = None
    """Clips a step, over all processes; the preset's own if not given."""
    accumulate: int | None = None
    """Parts in which each process takes its share of a batch: less memory, the same gradient."""
    precision: Precision | None = None
    """Of the passes: no is float32; the preset's own if not given. Weights and optimiser stay in float32."""
    checkpoint_gradients: bool = False
    """Compute inner values of the video model again on the way back: slower, far less memory."""
    compile: bool = False
    """Compile the blocks of the video model: minutes at the start, and faster steps on a GPU."""
    held_out: int | None = None
    """Episodes that are measured on and not trained on; the preset's own number if not given."""
    log_every: int | None = None
    """Steps between lines of the log; the preset's own if not given."""
    sample_every: int | None = None
    """Steps between looks at the held-out episodes, with a sampled video; the preset's own if not given."""
    save_every: int | None = None
    """Steps between checkpoints; the preset's own if not given."""
    track: tuple[str, ...] = ()
    """Trackers beside TensorBoard: wandb, trackio, or both."""
    seed: int = 0
    """Of fresh weights, order and noise."""
    resume: bool = False
    """Go on with the run in --out."""

    def run(self) -> None:
        """Trains to the end."""
        choose_threads()
        preset = registry.entry("presets", self.preset)
        training = self._recipe(preset.training)
        trackers.check(self.track)
        model = replace(preset.model, views=self.views) if self.views else preset.model
        init: VideoPolicy | None = None
        licence = checkpoint.LICENCE
        if self.init:
            if self.views:
                raise UserError("--views and --init exclude each other: the checkpoint's own views are trained on")
            init, origin = checkpoint.load(self.init)
            model, licence = init.config, origin.license
        if self.video_horizon is not None:
            model = self._looking_ahead(model, init)
        if len(set(model.views)) < len(model.views):
            raise UserError(f"--views is {' '.join(model.views)}; name each view once")
        sources, model = self._sources(model, training, init)
        self._check_out()
        facts = {
            "preset": self.preset,
            "data": [[source.dataset.fingerprint, source.weight] for source in sources],
            "init": str(self.init),
            "model": to_json(model),
            "training": to_json(training),
        }
        if self.resume:
            self._check_same(facts)
        together = Together()
        begun = state.newest(self.out / state.STATE, together) if self.resume else None
        policy, clips = prepare(sources, model, training, self.out, init, begun)
        clips, held_out = set_apart(clips, training.held_out)
        named = ", ".join(source.name for source in sources)
        trainer = Trainer(policy, clips, training, self.out, named, licence, held_out, self.track)
        if begun:
            trainer.resume(begun)
        if together.main:
            write_json(self.out / "config.json", facts)
        trainer.train()
        if together.main:
            print(f"trained {trainer.step} steps in {trainer.seconds / 60:.1f} minutes: {self.out / 'checkpoint'}")

    def _recipe(self, preset: Training) -> Training:
        """The preset's, with what the options change of it."""
        asked = {name: getattr(self, name) for name in LIMITS if name != "seed"}
        given = {name: value for name, value in asked.items() if value is not None}
        for name, value in {**given, "seed": self.seed}.items():
            within(f"--{name.replace('_', '-')}", value, *LIMITS[name])
        if self.precision:
            given["precision"] = self.precision
        given["compile"] = self.compile or preset.compile
        given["checkpoint_gradients"] = self.checkpoint_gradients or preset.checkpoint_gradients
        if self.features:
            if self.stage != "joint":
                raise UserError(
                    f"--features is about --stage joint; in stage {self.stage!r} only one of the parts learns"
                )
            given["detach_features"] = self.features == "detached"
        return replace(preset, stage=self.stage, seed=self.seed, **given)

    def _looking_ahead(self, model: Config, init: VideoPolicy | None) -> Config:
        """The model with as many frames as --video-horizon says; the video model's weights suit any number."""
        assert self.video_horizon is not None
        within("--video-horizon", self.video_horizon, 0, MOST_AHEAD)
        try:
            window = model.window.reaching(self.video_horizon)
        except UserError as error:
            raise UserError(f"--video-horizon {self.video_horizon}: {error}") from error
        if init and init.head and self.stage != "video" and window != model.window:
            raise UserError(
                f"--video-horizon {self.video_horizon}: the head of {self.init} reads {model.window.frames} frames a "
                f"view, not {window.frames}; begin from a checkpoint of --stage video, or leave --video-horizon out"
            )
        return replace(model, window=window)

    def _sources(
        self, model: Config, training: Training, init: VideoPolicy | None
    ) -> tuple[tuple[Source, ...], Config]:
        sources = open_sources(self.data, self.format)
        if self.actions_for:
            sources = actions_for(sources, self.actions_for)
        if self.relative and not model.relative:
            if init and init.head:
                raise UserError(f"{self.init}: its head learnt actions that are not relative; leave --relative out")
            model = replace(model, relative=True)
        return suited(sources, model, training, init)

    def _check_same(self, facts: dict[str, Any]) -> None:
        """Refuses to go on with a run under other settings: it would be neither the one nor the other."""
        try:
            before = json.loads((self.out / "config.json").read_text())
        except (OSError, ValueError) as error:
            raise UserError(f"{self.out}: config.json cannot be read ({error}); begin anew in another --out") from error
        pairs = [(name, before.get(name), facts[name]) for name in ("preset", "data", "init", "model")]
        # A run begun before there was some setting had what is now its default.
        old, new = {**to_json(Training()), **before.get("training", {})}, facts["training"]
        pairs += [(name, old.get(name), value) for name, value in new.items() if name not in FREE]
        if differing := [name for name, was, is_ in pairs if was != is_]:
            raise UserError(
                f"{self.out}: the run was begun with another {', '.join(differing)}; --resume needs the same settings"
            )

    def _check_out(self) -> None:
        """Makes sure that the run has a folder of its own; --init may lie in another run's, which must stay."""
        started = state.exists(self.out / state.STATE)
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
