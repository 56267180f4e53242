"""The library's entry to training: from data sets, a model and a recipe to a run's folder."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from videopolicy import checkpoint, registry
from videopolicy.configs import from_json, to_json
from videopolicy.datasets.base import Dataset
from videopolicy.datasets.mixture import Source, open_sources
from videopolicy.durable import write_text
from videopolicy.errors import UserError
from videopolicy.models.base import Model, ModelConfig
from videopolicy.ownership import owned
from videopolicy.processes import end_if_unguarded
from videopolicy.progress import say
from videopolicy.training import distillation, state
from videopolicy.training.config import Training
from videopolicy.training.data_summary import advice, summarize
from videopolicy.training.distributed import ProcessGroup, process_state
from videopolicy.training.loop import Origin, Trainer, lr_factor, share_done
from videopolicy.training.monitoring import trackers
from videopolicy.training.monitoring.validation import set_apart
from videopolicy.training.prepare import only_readable, prepare, suited
from videopolicy.upgrades import is_old_run, upgrade_run

# What a resumed run may change: how long it goes on, what it needs of memory, and how often it tells of itself.
FREE = {"steps", "minutes", "accumulate", "compile", "log_every", "validate_every", "save_every"}


@dataclass(frozen=True)
class RunSettings:
    """What a run's `config.json` holds.

    Attributes:
        preset: where model and recipe come from, "" if from nowhere.
        data: fingerprint and weight of each data set.
        init: the checkpoint that it started from; "None" without one.
        model: its shape.
        training: the recipe.
    """

    preset: str
    data: tuple[tuple[str, float | None], ...]
    init: str
    model: ModelConfig
    training: Training


Data = Dataset | Sequence[Source] | Sequence[Path] | Path


def train(
    data: Data,
    model: ModelConfig | None,
    training: Training,
    out: Path,
    *,
    init: Path | None = None,
    resume: bool = False,
    track: Sequence[str] = (),
    preset: str = "",
) -> Path:
    """Trains to the end; Ctrl-C, SIGTERM, SIGHUP and SIGUSR1 stop after the current step and leave a checkpoint.

    Args:
        data: data sets, opened or by their paths; a .toml file lists several (see `videopolicy.datasets.mixture`).
        model: its shape; None for that of the checkpoint to start from. With `init`, only its views and window, and
            whether its actions are relative and it reads states, count, as the weights decide the rest.
        training: the recipe.
        out: the run's folder: checkpoint, losses, sampled videos, TensorBoard.
        init: a checkpoint to start from; without one, all weights are fresh.
        resume: whether to go on with the run in `out`.
        track: trackers beside TensorBoard: "wandb", "trackio".
        preset: where model and recipe come from, for the record.

    Returns:
        The checkpoint's folder.

    Raises:
        KeyboardInterrupt: it was interrupted, after the checkpoint was written.
        UserError: the data do not suit the model, `out` is in use or no place for a run, or whatever `Trainer.train`
            refuses.
    """
    end_if_unguarded()
    trackers.check(track)
    sources = _sources(data)
    reads = [source.dataset.path for source in sources] + ([init] if init else [])
    # Of the processes of one run, one owns its folder.
    with owned(out, "train", reads) if process_state().is_main_process else nullcontext():
        _check_out(out, resume)
        trainer, settings = _prepared(sources, model, training, out, init, resume, track, preset)
        if trainer.group.main:
            write_text(out / "config.json", json.dumps(to_json(settings), indent=2) + "\n")
        _run(trainer)
    return out / "checkpoint"


def _prepared(
    sources: Sequence[Source],
    model: ModelConfig | None,
    training: Training,
    out: Path,
    init: Path | None,
    resume: bool,
    track: Sequence[str],
    preset: str,
) -> tuple[Trainer, RunSettings]:
    """The run, ready to train, and what it will say of itself."""
    begins: Model | None = None
    licence, stage = checkpoint.LICENCE, training.stage
    if init:
        begins, origin = checkpoint.load(init)
        distillation.check_law(stage, begins, origin.noise)
        model, licence = _of_checkpoint(begins, model or begins.config, init, training), origin.license
        training = _normalizing(begins, training, init, preset)
    distillation.check(stage, begins)
    if begins and stage.distills:
        training = distillation.at_starts(training, begins.config)
    if model is None:
        raise UserError("nothing says what to train: give a model, or a checkpoint to start from")
    sources, model = suited(sources, model, training, begins)
    data_sets = tuple((source.dataset.fingerprint, source.weight) for source in sources)
    settings = RunSettings(preset, data_sets, str(init), model, training)
    before = _check_same(out, settings) if resume else training
    trainer = _set_up(sources, model, training, out, begins, licence, resume, track)
    if trainer.group.main and (change := _changed_rate(before, trainer)):
        print(change, flush=True)
    return trainer, settings


def _set_up(
    sources: Sequence[Source],
    model: ModelConfig,
    training: Training,
    out: Path,
    begins: Model | None,
    licence: str,
    resume: bool,
    track: Sequence[str],
) -> Trainer:
    """A run that is ready to train, or to go on; the main process says what it is trained on."""
    group = ProcessGroup()
    begun = state.newest(out / state.STATE, group) if resume else None
    built, clips = prepare(sources, model, training, out, begins, begun)
    sources = only_readable(sources, out)
    clips, validation = set_apart(clips, training.validation_episodes)
    if group.main:
        lines = summarize(sources, clips, validation, training.validation_episodes)
        print("\n".join(lines + advice(clips, training, model)), flush=True)
    names = ", ".join(source.name for source in sources)
    trainer = Trainer(built, clips, training, out, Origin(names, licence), validation, track, begins=begins)
    if group.main and built.acts and not built.reads_motion:
        for note in model.sampling.warnings(trainer.training.noise):
            print(f"note: {note}", flush=True)
    if begun:
        trainer.resume(begun)
    return trainer


def _sources(data: Data) -> Sequence[Source]:
    if isinstance(data, Path):
        return open_sources([data])
    if isinstance(data, Sequence):
        paths = [one for one in data if isinstance(one, Path)]
        return open_sources(paths) if paths else [one for one in data if isinstance(one, Source)]
    return (Source(data, data.path.name),)


def _of_checkpoint(begins: Model, model: ModelConfig, init: Path, training: Training) -> ModelConfig:
    """The checkpoint's own shape, with what a run asks of it: other views or window, relative actions, the state.

    Raises:
        UserError: its head was trained otherwise.
    """
    own = begins.config
    learnt = begins.acts and training.stage.action_loss
    if learnt and model.window != own.window:
        raise UserError(
            f"{init}: its head reads {own.window.frames} frames a view, not {model.window.frames}; begin from a "
            "checkpoint of --stage video, or keep its window (leave --video-horizon out)"
        )
    if begins.acts and model.views != own.views:
        raise UserError(f"{init}: its head reads {', '.join(own.views)}, in this order; leave --views out")
    if begins.acts and model.relative and not own.relative:
        raise UserError(f"{init}: its head learnt actions that are not relative; leave --relative out")
    if learnt and model.proprioception and not own.proprioception:
        raise UserError(f"{init}: its head learnt without the robot's state; leave --proprioception out")
    if learnt and own.committed and model.committed not in (0, own.committed):
        raise UserError(f"{init}: its head continues {own.committed} committed actions; leave --committed out")
    asked = replace(
        own,
        window=model.window,
        views=model.views,
        relative=own.relative or model.relative,
        proprioception=own.proprioception or model.proprioception,
        # One that continues none learns to: a fresh encoder of committed actions adds nothing at first.
        committed=model.committed or own.committed,
    )
    return distillation.student(asked, training.student_steps) if training.stage.distills else asked


def _normalizing(begins: Model, training: Training, init: Path, preset: str) -> Training:
    """The recipe, with the way in which the actions are normalised that a head has learnt.

    Raises:
        UserError: the recipe asks for another way than its preset's, and the head learnt from actions in yet another.
    """
    if begins.normalizer is None or not training.stage.action_loss:
        return training
    own = begins.normalizer.method
    usual = registry.entry("presets", preset).training if preset else Training()
    if training.normalize not in (usual.normalize, own):
        raise UserError(
            f"{init}: its head learnt actions that were normalised by {own}; leave --normalize out, or begin from a "
            "checkpoint of --stage video"
        )
    return replace(training, normalize=own)


def _run(trainer: Trainer) -> None:
    """Trains, and says in the main process how far it came."""
    out, main = trainer.run, trainer.group.main
    try:
        trainer.train()
    except KeyboardInterrupt:
        if main and state.exists(out / state.STATE):
            say(f"{out} is kept as it was last saved: the same command with --resume goes on")
        raise
    if main:
        print(f"trained {trainer.step} steps in {trainer.seconds / 60:.1f} minutes: {out / 'checkpoint'}")


def _changed_rate(before: Training, trainer: Trainer) -> str:
    """What another length of the run makes of the next step's learning rate, in a line; "" if it stays."""
    now, step = trainer.training, trainer.step
    longer = [
        f"--{name} {getattr(now, name)} instead of {getattr(before, name)}"
        for name in ("steps", "minutes")
        if getattr(now, name) != getattr(before, name)
    ]
    old, new = (
        lr_factor(share_done(recipe, step, trainer.seconds), step, recipe.warmup, recipe.decay)
        for recipe in (before, now)
    )
    if not longer or old == new:
        return ""
    peak = max(group["peak"] for group in trainer.train_step.optimizer.param_groups)
    return (
        f"resumed with {' and '.join(longer)}: the learning rate goes from {old * peak:.3g} to {new * peak:.3g} "
        f"({new:.0%} of its peak), as its decay is drawn out over the new length"
    )


def _check_same(out: Path, now: RunSettings) -> Training:
    """The recipe so far, which may differ in what is free.

    Raises:
        UserError: the run has other settings: it would be neither the one nor the other.
    """
    file = out / "config.json"
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{out}: config.json cannot be read ({error}); begin anew in another --out") from error
    if is_old_run(found):
        raise UserError(
            f"{out}: an earlier version began this run, and drew its noise otherwise; go on from its weights in "
            f"another folder: --out NEW --init {out / 'checkpoint'}, without --resume"
        )
    # A run begun before there was some setting had what is now its default.
    settings = from_json(RunSettings, upgrade_run(found), file=file)
    old, new = to_json(settings), to_json(now)
    old, new = ({**values.pop("training"), **values} for values in (old, new))
    if differing := [name for name, value in new.items() if name not in FREE and old[name] != value]:
        raise UserError(
            f"{out}: the run was begun with another {', '.join(differing)}; --resume needs the same settings"
        )
    return settings.training


def _check_out(out: Path, resume: bool) -> None:
    """Makes sure that the run has a folder of its own; --init may lie in another run's, which must stay."""
    started = state.exists(out / state.STATE)
    if started and not resume:
        raise UserError(f"{out} holds a run already; go on with --resume, or choose another --out")
    if resume and not started:
        raise UserError(f"{out} holds no run to go on with; leave --resume out to begin one")
    if not started and (out / "checkpoint").exists():
        raise UserError(f"{out / 'checkpoint'} exists and would be replaced; choose another --out or remove it")
