"""Trains a policy on recorded demonstrations."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Literal

import tyro

from videopolicy import checkpoint, registry
from videopolicy.cli._threads import choose_threads
from videopolicy.datasets.mixture import actions_for, open_sources
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.errors import UserError, check_range
from videopolicy.models.base import ModelConfig
from videopolicy.training.config import Training
from videopolicy.training.run import train

PRESET = "cotrained"
MOST_AHEAD = 10**4
# What --features says in words.
THROUGH = {"detached": 0.0, "attached": 1.0}


@dataclass(frozen=True)
class Command:
    """Train a video policy: its video model, its head, or both at once.

    The numbers of a recipe are those of --preset where no option says otherwise. Ctrl-C, SIGTERM, SIGHUP and SIGUSR1
    stop after the current step and leave a checkpoint; the same command with --resume goes on.

    On several devices or machines: accelerate launch -m videopolicy train ..., or torchrun, with the same options.

    Example: videopolicy train --data data/button --out runs/button

    In two stages: videopolicy train --preset tiny --data data/button --out runs/video --stage video, and then
    videopolicy train --preset tiny --data data/button --out runs/action --stage action --init runs/video/checkpoint
    """

    data: tuple[Path, ...]
    """Data sets, or .toml files that list them with weights and view maps: see `videopolicy.datasets.mixture`."""
    out: Path
    """The run's folder: checkpoint, losses, sampled videos, TensorBoard."""
    training: tyro.conf.OmitArgPrefixes[Training]
    format: str | None = None
    """The data sets' format, if it cannot be guessed: a name from `videopolicy.datasets`."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = AS_IT_IS
    actions_for: tuple[str, ...] = ()
    """Tasks or instructions whose actions are used; of all others only the video. All, if none are given."""
    preset: str = PRESET
    """The recipe, and the model unless --init gives one: a name from `videopolicy.presets`."""
    init: Path | None = None
    """A checkpoint to start from; without one, all weights are fresh."""
    relative: bool = False
    """Learn poses relative to the state at the chunk's beginning; the data name their action and state layouts."""
    proprioception: bool = False
    """Read the actions out of the robot's state, too, which the data must have."""
    committed: int = 0
    """The most actions of a chunk that will be executed before it arrives, so that it learns to continue them: of each
    clip the first ones are given, up to so many. 0: none, or as many as --init does."""
    features: Literal["attached", "detached"] | float | None = None
    """Stage joint: whether the action loss trains the video model, too, or stops at its features, or which share of its
    gradient, 0 to 1, goes on through them; else the preset's."""
    video_horizon: int | None = None
    """Control steps that the video covers, the preset's own if not given; with 0 it draws the current images."""
    views: tuple[str, ...] = ()
    """Views to train on; by default the preset's own, or those of the checkpoint to begin from, which a head keeps."""
    track: tuple[str, ...] = ()
    """Trackers beside TensorBoard: wandb, trackio, or both."""
    resume: bool = False
    """Go on with the run in --out."""

    @classmethod
    def parse(cls, arguments: Sequence[str], prog: str) -> "Command":
        """The command with the recipe of the preset that the arguments name, where they say nothing else."""
        name = PRESET
        for text, after in pairwise((*arguments, "")):
            # Of an option that is given twice, the last one holds.
            if text == "--preset" or text.startswith("--preset="):
                name = text.partition("=")[2] or after
        recipe = registry.entry("presets", name).training
        default = cls(data=tyro.MISSING, out=tyro.MISSING, training=recipe)
        return tyro.cli(cls, prog=prog, args=arguments, default=default)

    def run(self) -> None:
        """Trains to the end.

        Raises:
            UserError: an option is not sound, in itself or with the others; or what `train` refuses.
        """
        self._check()
        choose_threads()
        model, training = self._model(), self.training
        recipe = registry.entry("presets", self.preset).training
        training = replace(training, stage=recipe.own_stage(training.stage.name))
        if type(training.noise) is type(recipe.noise) and training.noise != recipe.noise:
            print(
                f"note: --noise takes the law's own levels, not those of preset {self.preset}; leave it out for these"
            )
        if self.features is not None:
            share = THROUGH[self.features] if isinstance(self.features, str) else self.features
            training = replace(training, stage=replace(training.stage, through=share))
        sources = open_sources(self.data, self.format, self.reading)
        if self.actions_for:
            sources = actions_for(sources, self.actions_for)
        train(
            sources,
            model,
            training,
            self.out,
            init=self.init,
            resume=self.resume,
            track=self.track,
            preset=self.preset,
        )

    def _check(self) -> None:
        if len(set(self.views)) < len(self.views):
            raise UserError(f"--views is {' '.join(self.views)}; name each view once")
        if self.video_horizon is not None:
            check_range("--video-horizon", self.video_horizon, 0, MOST_AHEAD)
        check_range("--committed", self.committed, 0, MOST_AHEAD)
        if isinstance(self.features, float):
            check_range("--features", self.features, 0, 1)
        stage = self.training.stage
        if self.features is not None and not (stage.video_loss and stage.action_loss):
            raise UserError(f"--features is about --stage joint; stage {stage.name!r} has one loss alone; leave it out")

    def _model(self) -> ModelConfig:
        """The preset's, or the checkpoint's, with what the options change of it."""
        model: ModelConfig = registry.entry("presets", self.preset).model
        if self.init:
            model = checkpoint.read_config(self.init)
        if self.views:
            model = replace(model, views=self.views)
        if self.relative:
            model = replace(model, relative=True)
        if self.proprioception:
            model = replace(model, proprioception=True)
        if self.committed:
            model = replace(model, committed=self.committed)
        if self.video_horizon is None:
            return model
        if not model.generates_video:
            raise UserError("this model generates no video: leave --video-horizon out")
        try:
            return replace(model, window=model.window.reaching(self.video_horizon))
        except UserError as error:
            raise UserError(f"--video-horizon {self.video_horizon}: {error}") from error
