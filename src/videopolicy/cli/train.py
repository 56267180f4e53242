"""Trains a policy on recorded demonstrations."""

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from videopolicy import registry
from videopolicy.datasets.mixture import actions_for, open_sources
from videopolicy.errors import UserError, check_range, unknown
from videopolicy.training.choices import Precision, Stage

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
    """Data sets, or .toml files that list them with weights and view maps: see `videopolicy.datasets.mixture`."""
    out: Path
    """The run's folder: checkpoint, losses, sampled videos, TensorBoard."""
    format: str | None = None
    """The data sets' format, if it cannot be guessed: a name from `videopolicy.datasets`."""
    actions_for: tuple[str, ...] = ()
    """Tasks or instructions whose actions are used; of all others only the video. All, if none are given."""
    preset: str = "tiny"
    """The recipe, and the model unless --init gives one: a name from `videopolicy.presets`."""
    stage: Stage | None = None
    """What learns: the video model, the head on a frozen video model, both (joint), or everything by the action loss
    alone (end_to_end); the preset's own if not given: joint, but for cloning."""
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
        given = self._given()
        sources = open_sources(self.data, self.format)
        if self.actions_for:
            sources = actions_for(sources, self.actions_for)
        # Only now, so that a slip in the options is told at once: importing torch takes seconds.
        import_module("videopolicy.cli._training").train(self, given, sources)

    def _given(self) -> dict[str, Any]:
        """The numbers that were given, by their names in a recipe; all options are sound in themselves.

        Raises:
            UserError: one is not.
        """
        asked = {name: getattr(self, name) for name in LIMITS}
        given = {name: value for name, value in asked.items() if value is not None}
        for name, value in given.items():
            check_range(f"--{name.replace('_', '-')}", value, *LIMITS[name])
        if self.preset not in registry.names("presets"):
            raise unknown("preset", self.preset, registry.names("presets"))
        if self.views and self.init:
            raise UserError("--views and --init exclude each other: the checkpoint's own views are trained on")
        if len(set(self.views)) < len(self.views):
            raise UserError(f"--views is {' '.join(self.views)}; name each view once")
        if self.video_horizon is not None:
            check_range("--video-horizon", self.video_horizon, 0, MOST_AHEAD)
        if self.stage:
            self.check_features(self.stage)
        return given

    def check_features(self, stage: Stage) -> None:
        """Raises UserError if --features says something about a stage that leaves no choice."""
        if self.features and stage != "joint":
            raise UserError(f"--features is about --stage joint; stage {stage!r} has one loss alone; leave it out")
