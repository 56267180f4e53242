"""From a data set and a preset to a run that is ready to train."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from math import isclose
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from videopolicy.clips.cache import Cache, build_cache
from videopolicy.clips.dataset import Clips, Episodes
from videopolicy.clips.normalize import Normalizer
from videopolicy.clips.statistics import FrameStatistics, Statistics, first_frames
from videopolicy.configs import to_json
from videopolicy.datasets.base import SAME_RATE, Dataset
from videopolicy.datasets.mixture import Source, reconcile
from videopolicy.datasets.transforms.readable import (
    Checked,
    UnreadableError,
    find_lost,
    readable,
    remember,
    remembered,
)
from videopolicy.errors import UserError
from videopolicy.latents.base import Latents
from videopolicy.models.base import Model, ModelConfig
from videopolicy.progress import progress_bar
from videopolicy.training import lora
from videopolicy.training.config import Training
from videopolicy.training.distributed import ENCODING, ProcessGroup, process_state
from videopolicy.training.objective import check_generates_video
from videopolicy.training.proprioception import check_relative, state_width
from videopolicy.training.state import facts_of, weights_of
from videopolicy.types import Frames

# Episodes of each data set whose frames the latents are fitted to, and pixels of all of them together: 100 MB.
FITTED = 16
FITTED_PIXELS = 2**25
# Control steps that are read at once of an episode that is too long to be fitted to as a whole.
BLOCK = 16
NEEDS_WEIGHTS = "this model begins from pretrained weights: `videopolicy import` them, then train with --init"


def prepare(
    data: Dataset | Sequence[Source],
    config: ModelConfig,
    training: Training,
    run: Path,
    init: Model | None = None,
    begun: Path | None = None,
) -> tuple[Model, Clips]:
    """Builds the model, fits its latents, and encodes the data into RUN/cache.

    Episodes shorter than a clip are encoded with the others, and have no clips; nor have, in a stage that learns by
    actions alone, episodes without any.

    Of several processes the main one does the work, and the others wait; all of them must see the run's folder.

    Args:
        data: the demonstrations; several data sets come as sources.
        config: the model's shape.
        training: the recipe; seeds the fresh weights.
        run: the run's folder.
        init: a model of the same shape whose weights to start from; a head is added if it has none.
        begun: the state of a run that is gone on with; latents and ranges of actions stay as they are there.

    Raises:
        UserError: the data do not suit the model or each other, which `suited` tells; a part needs pretrained
            weights; or LoRA cannot be had.
    """
    lora.check(training, begins_trained=init is not None)
    sources, config = suited(data, config, training, init)
    group = ProcessGroup(ENCODING)
    latents = _latents(config, init, begun)
    _check_instructions(config, sources, init)
    fresh = not (init or begun)
    with group.main_first():
        if group.main:
            _encode(sources, config, training, run, latents, fresh)
    if fresh:
        # The same in every process.
        group.copy_state(latents)
    sources = only_readable(sources, run)
    caches = _caches(sources, config, training, run / "cache", latents.to(process_state().device))
    clips = _clips(caches, sources, config, training, _learnt(training, init, begun))
    model = build(config, clips.normalizer if training.stage.action_loss else None, training.seed)
    model.state_normalizer = clips.state_normalizer
    model.latents.load_state_dict(latents.cpu().state_dict())
    if group.main:
        model.frame_statistics = _first_frames(sources, clips.episodes, config.views)
    if init:
        _begin_from(model, init)
    return model, clips


def _clips(
    caches: Sequence[Cache], sources: Sequence[Source], config: ModelConfig, training: Training, learnt: Statistics
) -> Clips:
    """The clips of all sources, in the ranges that are learnt already, if any are."""
    acts = training.stage.action_loss
    return Clips(
        caches,
        config.window,
        learnt.actions,
        [source.weight for source in sources if source.weight is not None] or None,
        normalize=training.normalize,
        relative=config.relative_transform if acts else None,
        episodes=_useful(Episodes.of(caches), config, training),
        proprioception=config.proprioception and acts,
        state_normalizer=learnt.states,
    )


def _learnt(training: Training, init: Model | None, begun: Path | None) -> Statistics:
    """The ranges of the run that is gone on with, or of the head to start from.

    A head that never learns must never act: the stage "video" leaves it, and its normaliser, to a later stage.
    """
    if begun and (kept := facts_of(begun))["normalizer"]:
        states = kept.get("state_normalizer")
        return Statistics(
            Normalizer.from_json(kept["normalizer"]), states=Normalizer.from_json(states) if states else None
        )
    if init and training.stage.action_loss:
        return Statistics(init.normalizer, states=init.state_normalizer)
    return Statistics()


def _begin_from(model: Model, init: Model) -> None:
    """The head may be there in one of the two only; everything else must be in both."""
    missing, unexpected = model.load_state_dict(init.state_dict(), strict=False)
    heads = tuple(f"{name}." for part in (model, init) for name in _action_names(part))
    assert all(name.startswith(heads) for name in (*missing, *unexpected)), "only the head may differ"


def _first_frames(sources: Sequence[Source], episodes: Episodes, views: Sequence[str]) -> Mapping[str, FrameStatistics]:
    """What training frames look like; those with actions, if there are any, as only they show where to act."""
    chosen = episodes.take(np.nonzero(episodes.has_actions)[0]) if episodes.has_actions.any() else episodes
    where = list(zip(chosen.source.tolist(), chosen.number.tolist(), strict=True))
    return first_frames([source.dataset for source in sources], where, views)


def _useful(every: Episodes, config: ModelConfig, training: Training) -> Episodes:
    """Those that hold a clip, with actions in a stage that learns by them alone."""
    useful = every.lengths >= config.window.span
    if not training.stage.video_loss:
        useful &= every.has_actions
    return every.take(np.nonzero(useful)[0])


def _action_names(model: Model) -> list[str]:
    return [name for name, module in model.named_modules() if module in model.action_modules]


def suited(
    data: Dataset | Sequence[Source], config: ModelConfig, training: Training, init: Model | None = None
) -> tuple[tuple[Source, ...], ModelConfig]:
    """The data as the model sees them, and its shape with what the data say of their actions.

    Raises:
        UserError: a data set is empty, lacks a view, has only episodes too short, pictures of another size, another
            rate, or actions of another width or meaning; none has the actions, or states, that the stage needs; or
            the stage teaches video to a model that generates none.
    """
    check_generates_video(config.generates_video, training.stage)
    sources = tuple(data) if isinstance(data, Sequence) else (Source(data, data.path.name),)
    # Without a head that has learnt actions, what the checkpoint says of their meaning binds nobody.
    learnt = init.normalizer if init and training.stage.action_loss else None
    own = config if learnt else replace(config, action_layout="", state_layout="")
    states = [source.dataset.state_layout for source in sources if source.dataset.action_width is not None]
    state_layout = own.state_layout or next(filter(None, states), "")
    reads = config.relative or (config.proprioception and training.stage.action_loss)
    sources = reconcile(sources, config.views, config.size, own.action_layout, state_layout if reads else "")
    for source in sources:
        _check_lengths(source.dataset, config)
    config = replace(config, fps=_rate(sources[0].dataset, config.fps if learnt else None))
    acting = [source.dataset for source in sources if source.dataset.action_width is not None]
    if not training.stage.action_loss:
        return sources, config
    if not any(_acts(dataset, config.window.span) for dataset in acting):
        lost = [note.text for source in sources for note in source.dataset.notes if note.kind == "left out"]
        raise UserError(
            f"{sources[0].dataset.path}: no episode has actions, which stage {training.stage.name!r} needs; "
            f"use --stage video{''.join(f'; {text}' for text in lost[:1])}"
        )
    if learnt and not config.relative and acting[0].action_width != len(learnt.low):
        raise UserError(
            f"{acting[0].path}: actions are {acting[0].action_width} wide, the checkpoint's {len(learnt.low)}; "
            "train from scratch (without --init) or convert the data"
        )
    action_layout = own.action_layout or next(
        (dataset.action_layout for dataset in acting if dataset.action_layout), ""
    )
    config = replace(config, action_layout=action_layout, state_layout=state_layout)
    if config.proprioception:
        config = replace(config, state_width=state_width(acting, config.state_width if learnt else 0))
    if relative := config.relative_transform:
        check_relative(acting, relative)
    return sources, config


def _rate(dataset: Dataset, learnt: float | None) -> float:
    """The control steps a second of the data, which must be those that a head has learnt."""
    if learnt and not isclose(dataset.fps, learnt, rel_tol=SAME_RATE):
        raise UserError(
            f"{dataset.path}: {dataset.fps:g} control steps a second, but the checkpoint acts at {learnt:g}; bring "
            f"them to the same with `videopolicy convert --fps {learnt:g}`, or train from scratch (without --init)"
        )
    return learnt or dataset.fps


def build(config: ModelConfig, normalizer: Normalizer | None, seed: int) -> Model:
    """A model with fresh weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.build(normalizer)


def _latents(config: ModelConfig, init: Model | None, begun: Path | None) -> Latents:
    """Those of the run that is gone on with, or of the weights to start from; or fresh ones, which are to be fitted."""
    if init and not begun:
        return init.latents
    latents = config.latents.build()
    if begun:
        latents.load_state_dict(weights_of(begun, "latents."))
        return latents
    if latents.pretrained:
        raise UserError(NEEDS_WEIGHTS)
    return latents


def _encode(
    sources: Sequence[Source], config: ModelConfig, training: Training, run: Path, latents: Latents, fresh: bool
) -> None:
    """Fits fresh latents and fills the caches, for which sound data are decoded once; the main process's work.

    Only when an episode cannot be read is everything read to find out which others cannot; then it begins anew.
    """
    unknown = [source for source in sources if remembered(_list_of_lost(source, run)) is None]
    checked = [replace(one, dataset=Checked(one.dataset, config.size)) for one in only_readable(sources, run)]
    try:
        _fit_and_fill(checked, config, training, run, latents, fresh)
    except UnreadableError:
        if not unknown:
            raise
        for source in unknown:
            remember(_list_of_lost(source, run), _lost(source, config))
        _fit_and_fill(only_readable(sources, run), config, training, run, latents, fresh)
    else:
        for source in unknown:
            remember(_list_of_lost(source, run), {})


def _fit_and_fill(
    sources: Sequence[Source], config: ModelConfig, training: Training, run: Path, latents: Latents, fresh: bool
) -> None:
    if fresh:
        _fit(latents.cpu(), sources, config)
    _caches(sources, config, training, run / "cache", latents.to(process_state().device))


def _fit(latents: Latents, sources: Sequence[Source], config: ModelConfig) -> None:
    """Fits fresh latents to the data."""
    if latents.temporal == 1:
        latents.fit(np.concatenate(list(_frames_to_fit(sources, config))))
    else:
        latents.fit_window(np.stack(list(_windows_to_fit(sources, config))))


def _frames_to_fit(sources: Sequence[Source], config: ModelConfig) -> Iterator[Frames]:
    """Frames of all data sets, each with its share: whole episodes where they are short, or blocks all over them."""
    for dataset, index, most in _episodes_to_fit(sources, config):
        for start, stop in _blocks(dataset.length(index), most):
            yield from dataset.episode(index, config.views, start, stop).views.values()


def _windows_to_fit(sources: Sequence[Source], config: ModelConfig) -> Iterator[UInt8[np.ndarray, "1+T H W 3"]]:
    """Windows of all data sets, each with its share, that begin all over the episodes; in all about as many frames."""
    window = config.window
    for dataset, index, most in _episodes_to_fit(sources, config):
        last = max(0, dataset.length(index) - 1 - window.reach)
        count = max(1, most // (1 + window.frames))
        for start in np.unique(np.linspace(0, last, count).round().astype(int)).tolist():
            shown = dataset.episode(index, config.views, start, min(start + window.reach + 1, dataset.length(index)))
            for frames in shown.views.values():
                yield frames[window.frame_indices(0, len(frames))]


def _episodes_to_fit(sources: Sequence[Source], config: ModelConfig) -> Iterator[tuple[Dataset, int, int]]:
    """Episodes of all data sets: data set, number, and of how many steps to take the frames, a view."""
    sizes = [source.weight or sum(map(source.dataset.length, range(len(source.dataset)))) for source in sources]
    steps = FITTED_PIXELS // (config.size**2 * len(config.views))
    for source, size in zip(sources, sizes, strict=True):
        chosen = np.unique(np.linspace(0, len(source.dataset) - 1, FITTED).round().astype(int)).tolist()
        most = max(1, int(steps * size / sum(sizes) / len(chosen)))
        for index in chosen:
            yield source.dataset, index, most


def _blocks(length: int, most: int) -> list[tuple[int, int]]:
    """Where to read so many steps of an episode, spread evenly."""
    if length <= most:
        return [(0, length)]
    size = min(BLOCK, most)
    starts = np.linspace(0, length - size, most // size).round().astype(int).tolist()
    return [(start, start + size) for start in starts]


def only_readable(sources: Sequence[Source], run: Path) -> tuple[Source, ...]:
    """The data without the episodes of which a run has found out that they cannot be read.

    Args:
        sources: as the model sees them (see `suited`).
        run: the run's folder, where it is kept.

    Raises:
        UserError: none is left; or a source is strict, and one cannot be read.
    """
    lost = [remembered(_list_of_lost(source, run)) or {} for source in sources]
    return tuple(
        replace(source, dataset=readable(source.dataset, its, source.strict))
        for source, its in zip(sources, lost, strict=True)
    )


def _list_of_lost(source: Source, run: Path) -> Path:
    return run / f"unreadable-{source.dataset.fingerprint}.json"


def _lost(source: Source, config: ModelConfig) -> dict[int, str]:
    """Which episodes cannot be read, and why; reads everything."""
    total = sum(map(source.dataset.length, range(len(source.dataset))))
    with progress_bar(total=total, desc=f"read {source.name}", unit="step") as bar:
        return find_lost(source.dataset, config.views, config.size, bar.update)


def _caches(
    sources: Sequence[Source], config: ModelConfig, training: Training, folder: Path, latents: Latents
) -> list[Cache]:
    """One of each data set; of several, in folders named after them."""
    over_time = latents.temporal > 1
    encode = latents.encode_window if over_time else latents.encode
    return [
        build_cache(
            source.dataset,
            folder if len(sources) == 1 else folder / source.name,
            lambda frames: encode(torch.from_numpy(frames)).cpu().numpy(),
            config.views,
            window=config.window if over_time else None,
            copies=training.copies,
            jitter=training.jitter if training.copies > 1 else None,
            seed=training.seed,
            key=_key(latents, config),
        )
        for source in sources
    ]


def _check_lengths(dataset: Dataset, config: ModelConfig) -> None:
    longest = max(map(dataset.length, range(len(dataset))))
    if longest < config.window.span:
        raise UserError(
            f"{dataset.path}: its longest episode has {longest} control steps, but a clip spans {config.window.span} "
            f"({config.window.frames} frames at stride {config.window.stride}, {config.window.actions} actions); "
            "train without this data set, or with a preset of shorter clips"
        )


def _acts(dataset: Dataset, span: int) -> bool:
    """Whether an episode that is long enough, and can be read, has actions."""
    for index in range(len(dataset)):
        if dataset.length(index) >= span:
            with suppress(UserError):
                if dataset.episode(index, (), 0, 1).actions is not None:
                    return True
    return False


def _check_instructions(config: ModelConfig, sources: Sequence[Source], init: Model | None) -> None:
    """Fails before anything is encoded, and not hours later, if an instruction is too long."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        text = init.text if init else config.text.build()
        if text.pretrained and not init:
            raise UserError(NEEDS_WEIGHTS)
        text(sorted({instruction for source in sources for instruction in source.dataset.tasks}))


def _key(latents: Latents, config: ModelConfig) -> str:
    """Changes with the latents' weights, and with what else their codes depend on."""
    digest = hashlib.sha256(json.dumps(to_json(config.latents), sort_keys=True).encode())
    for name, tensor in sorted(latents.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
