"""What `videopolicy train` does once its options are sound in themselves."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from videopolicy import checkpoint, registry
from videopolicy.cli._files import write_json
from videopolicy.cli._threads import choose_threads
from videopolicy.configs import to_json
from videopolicy.datasets.mixture import Source
from videopolicy.errors import UserError
from videopolicy.models.video_action import Config, VideoActionModel
from videopolicy.training import state
from videopolicy.training.choices import Stage
from videopolicy.training.config import Training
from videopolicy.training.data_summary import overview
from videopolicy.training.distributed import ProcessGroup
from videopolicy.training.loop import Trainer
from videopolicy.training.monitoring import trackers
from videopolicy.training.monitoring.validation import set_apart
from videopolicy.training.prepare import prepare, suited

if TYPE_CHECKING:
    from videopolicy.cli.train import Command

# What a resumed run may change: how long it goes on, what it needs of memory, and how often it tells of itself.
FREE = {"steps", "minutes", "accumulate", "compile", "log_every", "sample_every", "save_every"}


def train(command: "Command", given: dict[str, Any], sources: Sequence[Source]) -> None:
    """Trains to the end.

    Args:
        command: the options.
        given: what they change of the preset's numbers.
        sources: the data.
    """
    choose_threads()
    preset = registry.entry("presets", command.preset)
    training = _recipe(command, given, preset.training)
    trackers.check(command.track)
    _check_out(command)
    model = replace(preset.model, views=command.views) if command.views else preset.model
    init: VideoActionModel | None = None
    licence = checkpoint.LICENCE
    if command.init:
        init, origin = checkpoint.load(command.init)
        model, licence = init.config, origin.license
    if command.video_horizon is not None:
        model = _looking_ahead(command, model, init, training.stage)
    if command.relative and not model.relative:
        if init and init.head:
            raise UserError(f"{command.init}: its head learnt actions that are not relative; leave --relative out")
        model = replace(model, relative=True)
    sources, model = suited(sources, model, training, init)
    facts = {
        "preset": command.preset,
        "data": [[source.dataset.fingerprint, source.weight] for source in sources],
        "init": str(command.init),
        "model": to_json(model),
        "training": to_json(training),
    }
    if command.resume:
        _check_same(command, facts)
    group = ProcessGroup()
    begun = state.newest(command.out / state.STATE, group) if command.resume else None
    policy, clips = prepare(sources, model, training, command.out, init, begun)
    clips, held_out = set_apart(clips, training.held_out)
    if group.main:
        print("\n".join(overview(sources, clips, held_out, training.held_out)), flush=True)
    named = ", ".join(source.name for source in sources)
    trainer = Trainer(policy, clips, training, command.out, named, licence, held_out, command.track)
    if begun:
        trainer.resume(begun)
    if group.main:
        write_json(command.out / "config.json", facts)
    _run(trainer)


def _run(trainer: Trainer) -> None:
    """Trains, and says in the main process how far it came."""
    where, main = trainer.run, trainer.group.main
    try:
        trainer.train()
    except KeyboardInterrupt:
        if main and state.exists(where / state.STATE):
            print(f"{where} is kept as it was last saved: the same command with --resume goes on", file=sys.stderr)
        raise
    if main:
        print(f"trained {trainer.step} steps in {trainer.seconds / 60:.1f} minutes: {where / 'checkpoint'}")


def _recipe(command: "Command", given: dict[str, Any], preset: Training) -> Training:
    """The preset's, with what the options change of it."""
    changes = {**given, "stage": command.stage or preset.stage}
    command.check_features(changes["stage"])
    if command.precision:
        changes["precision"] = command.precision
    changes["compile"] = command.compile or preset.compile
    changes["checkpoint_gradients"] = command.checkpoint_gradients or preset.checkpoint_gradients
    if command.features:
        changes["detach_features"] = command.features == "detached"
    return replace(preset, **changes)


def _looking_ahead(command: "Command", model: Config, init: VideoActionModel | None, stage: Stage) -> Config:
    """The model with as many frames as --video-horizon says; the video model's weights suit any number."""
    assert command.video_horizon is not None
    if not model.imagines:
        raise UserError("this model draws no video: leave --video-horizon out")
    try:
        window = model.window.reaching(command.video_horizon)
    except UserError as error:
        raise UserError(f"--video-horizon {command.video_horizon}: {error}") from error
    if init and init.head and stage != "video" and window != model.window:
        raise UserError(
            f"--video-horizon {command.video_horizon}: the head of {command.init} reads {model.window.frames} frames a "
            f"view, not {window.frames}; begin from a checkpoint of --stage video, or leave --video-horizon out"
        )
    return replace(model, window=window)


def _check_same(command: "Command", facts: dict[str, Any]) -> None:
    """Refuses to go on with a run under other settings: it would be neither the one nor the other."""
    try:
        before = json.loads((command.out / "config.json").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{command.out}: config.json cannot be read ({error}); begin anew in another --out") from error
    pairs = [(name, before.get(name), facts[name]) for name in ("preset", "data", "init", "model")]
    # A run begun before there was some setting had what is now its default.
    old, new = {**to_json(Training()), **before.get("training", {})}, facts["training"]
    pairs += [(name, old.get(name), value) for name, value in new.items() if name not in FREE]
    if differing := [name for name, was, is_ in pairs if was != is_]:
        raise UserError(
            f"{command.out}: the run was begun with another {', '.join(differing)}; --resume needs the same settings"
        )


def _check_out(command: "Command") -> None:
    """Makes sure that the run has a folder of its own; --init may lie in another run's, which must stay."""
    started = state.exists(command.out / state.STATE)
    if started and not command.resume:
        raise UserError(f"{command.out} holds a run already; go on with --resume, or choose another --out")
    if command.resume and not started:
        raise UserError(f"{command.out} holds no run to go on with; leave --resume out to begin one")
    if not started and (command.out / "checkpoint").exists():
        raise UserError(f"{command.out / 'checkpoint'} exists and would be replaced; choose another --out or remove it")
    if (command.out / "meta").exists() or (command.out / "model.safetensors").exists():
        raise UserError(f"{command.out} holds a data set or a checkpoint; choose a folder of the run's own as --out")
