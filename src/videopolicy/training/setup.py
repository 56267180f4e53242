"""From a data set and a preset to a run that is ready to train."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState

from videopolicy.clips.cache import build_cache
from videopolicy.clips.dataset import Clips
from videopolicy.clips.normalize import MinMax
from videopolicy.demos.base import Dataset
from videopolicy.errors import UserError, unknown
from videopolicy.latents.base import Latents
from videopolicy.model import Config, VideoPolicy
from videopolicy.training.config import Training

# Episodes whose frames the latents are fitted to, spread evenly over the data set.
FITTED = 16
NEEDS_WEIGHTS = "this model begins from pretrained weights: `videopolicy import` them, then train with --init"


def prepare(
    dataset: Dataset, config: Config, training: Training, run: Path, init: VideoPolicy | None = None
) -> tuple[VideoPolicy, Clips]:
    """Builds the policy, fits its latents, and encodes the data set into RUN/cache.

    Args:
        dataset: the demonstrations.
        config: the policy's shape.
        training: the recipe; seeds the fresh weights.
        run: the run's folder.
        init: a policy of the same shape whose weights to start from; a head is added if it has none.

    Raises:
        UserError: the data set is empty, lacks a view or the actions that the stage needs, or has episodes too short,
            pictures of another size, or actions of another width; or a part needs pretrained weights.
    """
    _check(dataset, config, training)
    # A head that never learns must never act: the stage "video" leaves it, and its normaliser, to a later stage.
    normalizer = init.normalizer if init and training.stage != "video" else None
    if normalizer and dataset.action_width not in (None, len(normalizer.low)):
        raise UserError(
            f"{dataset.path}: actions are {dataset.action_width} wide, the checkpoint's {len(normalizer.low)}; "
            "train from scratch (without --init) or convert the data"
        )
    latents = (init.latents if init else _fitted(config, dataset)).to(PartialState().device)
    cache = build_cache(
        dataset,
        run / "cache",
        lambda frames: latents.encode(torch.from_numpy(frames)).cpu().numpy(),
        config.views,
        copies=training.copies,
        jitter=training.jitter if training.copies > 1 else None,
        seed=training.seed,
        key=_key(latents),
    )
    clips = Clips([cache], config.window, normalizer)
    policy = build(config, clips.normalizer if training.stage != "video" else None, training.seed)
    if policy.text.pretrained and not init:
        raise UserError(NEEDS_WEIGHTS)
    policy.latents.load_state_dict(latents.cpu().state_dict())
    if init:
        # The head may be there in one of the two only; everything else must be in both.
        missing, unexpected = policy.load_state_dict(init.state_dict(), strict=False)
        assert all(name.startswith("head.") for name in (*missing, *unexpected))
    # Fails now, not hours later, if an instruction is too long.
    with torch.no_grad():
        policy.text(clips.instructions)
    return policy, clips


def build(config: Config, normalizer: MinMax | None, seed: int) -> VideoPolicy:
    """A policy with fresh weights that depend on the seed alone."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return config.build(normalizer)


def _fitted(config: Config, dataset: Dataset) -> Latents:
    latents = config.latents.build()
    if latents.pretrained:
        raise UserError(NEEDS_WEIGHTS)
    chosen = np.unique(np.linspace(0, len(dataset) - 1, FITTED).round().astype(int))
    frames = [frames for index in chosen for frames in dataset.episode(int(index), config.views).views.values()]
    latents.fit(np.concatenate(frames))
    return latents


def _check(dataset: Dataset, config: Config, training: Training) -> None:
    """Refuses a data set that this policy cannot learn from, before anything is encoded."""
    if not len(dataset):
        raise UserError(f"{dataset.path}: no episodes; record some with `videopolicy record`")
    for view in config.views:
        if view not in dataset.views:
            raise UserError(f"{dataset.path}: {unknown('view', view, dataset.views)}")
    if training.stage != "video" and dataset.action_width is None:
        raise UserError(
            f"{dataset.path}: no episode has actions, which stage {training.stage!r} needs; use --stage video"
        )
    _check_size(dataset, config)
    try:
        config.window.check([dataset.length(index) for index in range(len(dataset))])
    except UserError as error:
        raise UserError(f"{dataset.path}: {error}") from error


def _check_size(dataset: Dataset, config: Config) -> None:
    """Looks at the first episode; the cache makes sure that the others are of the same size."""
    for view, frames in dataset.episode(0, config.views).views.items():
        height, width = frames.shape[1:3]
        if (height, width) != (config.size, config.size):
            raise UserError(
                f"{dataset.path}: view {view!r} is {width}x{height} pixels, but the policy sees "
                f"{config.size}x{config.size}; record with --size {config.size}"
            )


def _key(latents: Latents) -> str:
    """Changes when the latents' weights do."""
    digest = hashlib.sha256()
    for name, tensor in sorted(latents.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
