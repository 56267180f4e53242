"""What the items share: arguments, rows that are on disk at once, presets and random weights on the device."""

import argparse
import gc
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videopolicy import registry
from videopolicy.backbones import unet
from videopolicy.clips.normalize import Normalizer
from videopolicy.errors import UserError
from videopolicy.hardware import device_name
from videopolicy.heads import conv3d
from videopolicy.latents import svd
from videopolicy.models.base import Model, ModelConfig
from videopolicy.models.video_action import Config
from videopolicy.presets.base import Preset, preset
from videopolicy.text import clip
from videopolicy.text.encoder import EncoderConfig
from videopolicy.training.performance.benchmark import ACTION_WIDTH
from videopolicy.types import Observation

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NORMALIZER = Normalizer((-1.0,) * ACTION_WIDTH, (1.0,) * ACTION_WIDTH)
# Parameters of the largest model that is tried on a CPU as it is.
TOY = 20e6


@dataclass(frozen=True)
class Given:
    """What `run.py` tells an item.

    Attributes:
        what: arguments of the item's own.
        rows: the file for its rows.
        work: a folder that stays from call to call.
        out: a folder for what is to be carried away; None if nothing is.
        ends: when it is stopped, by the clock that `time.monotonic` reads in all processes.
        dry: whether to do it at toy size.
    """

    what: list[str]
    rows: Path
    work: Path
    out: Path | None
    ends: float
    dry: bool

    @property
    def left(self) -> float:
        """Seconds until it is stopped."""
        return self.ends - time.monotonic()


def begin(doc: str | None) -> "tuple[Given, Rows]":
    """Reads the arguments and opens the rows."""
    parser = argparse.ArgumentParser(description=doc)
    parser.add_argument("what", nargs="*")
    for name in ("--rows", "--work"):
        parser.add_argument(name, type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--ends", type=float, required=True)
    parser.add_argument("--dry", action="store_true")
    given = Given(**vars(parser.parse_args()))
    if given.dry:
        # For a CPU, compiling takes minutes, and the project's tests do it.
        torch.compiler.set_stance("force_eager")
    return given, Rows(given.rows)


class Rows:
    """Flat rows, on disk after every one: an item that is stopped keeps what it has.

    Attributes:
        rows: all so far; call `save` after changing one.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.rows: list[dict[str, Any]] = []
        self.save()

    def add(self, **row: Any) -> None:
        """One more."""
        self.rows.append(row)
        print(" ".join(f"{key}={value}" for key, value in row.items()), file=sys.stderr, flush=True)
        self.save()

    def attempt(self, measure: Callable[[], dict[str, Any]], **about: Any) -> bool:
        """Adds what a measurement finds, or its error in a line; leaves the device empty for the next.

        Returns:
            Whether it went well.
        """
        try:
            self.add(**about, **measure())
            return True
        # One that fails must not cost the others.
        except Exception as error:
            lines = [line for line in str(error).splitlines() if line.strip()] or [""]
            self.add(**about, error=f"{type(error).__name__}: {lines[0][:200]}")
            return False
        finally:
            gc.collect()
            torch.cuda.empty_cache()

    def save(self) -> None:
        """Writes all of them."""
        facts = {"device": device_name(DEVICE), "torch": f"torch {torch.__version__}", "rows": self.rows}
        aside = self.file.with_suffix(".partial")
        aside.write_text(json.dumps(facts), encoding="utf-8")
        aside.replace(self.file)


def presets(dry: bool) -> dict[str, Preset]:
    """All of them, or those that a CPU can do, at toy size where there is one."""
    every = {name: offline(preset(name)) for name in registry.names("presets")}
    if not dry:
        return every
    toys = {name: replace(one, model=toy(name, one.model)) for name, one in every.items()}
    return {name: one for name, one in toys.items() if parameters(one.model) < TOY}


def offline(one: Preset) -> Preset:
    """A preset that needs no text encoder of the hub's: tokens of the same width by a small tower of random weights."""
    if not isinstance(one.model.text, EncoderConfig):
        return one
    tower = clip.Config(width=one.model.text.width, hidden=64, layers=1, heads=1)
    return replace(one, model=replace(one.model, text=tower))


def chosen(name: str, dry: bool) -> Preset:
    """One of them, at toy size if wanted."""
    one = preset(name)
    return replace(one, model=toy(name, one.model)) if dry else one


def toy(name: str, config: ModelConfig) -> ModelConfig:
    """A preset's shape with all its parts, so small that a CPU does a step in a second."""
    if name.startswith("small") and isinstance(config, Config) and isinstance(config.backbone, unet.Config):
        return replace(config, backbone=unet.Config(taps=config.backbone.taps))
    if name == "svd" and isinstance(config, Config):
        taps = ("up_blocks.2", "up_blocks.1.resnets.1", "up_blocks.0.resnets.1")
        shape = {"channels": (32, 32, 32), "head_channels": 16, "attention": (True, True, False), "id_width": 8}
        backbone = replace(config.backbone, taps=taps, **shape)
        small = {"latents": svd.EXAMPLE, "text": clip.EXAMPLE, "backbone": backbone, "head": conv3d.Config()}
        return replace(config, size=32, sampling=replace(config.sampling, steps=2), **small)
    return config


def parameters(config: ModelConfig) -> int:
    """How many a model has, counted without memory for them."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in config.build(NORMALIZER).parameters())


def random_model(config: ModelConfig, dtype: torch.dtype = torch.float32) -> Model:
    """Random weights, made on the device in this precision; latents that are fitted to data are fitted to noise."""
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with DEVICE:
            model = config.build(NORMALIZER)
    finally:
        torch.set_default_dtype(before)
    model.latents.float()
    if not model.latents.pretrained:
        frames = np.random.default_rng(0).integers(0, 256, (2, 1 + config.window.frames, config.size, config.size, 3))
        model.latents.fit_window(frames.astype(np.uint8))
    return model.to(DEVICE)


def observation(config: ModelConfig, seed: int = 0) -> Observation:
    """Noise in every view."""
    rng = np.random.default_rng(seed)
    images = {view: rng.integers(0, 256, (config.size, config.size, 3), dtype=np.uint8) for view in config.views}
    return Observation(images, "press the button")


def demand(true: bool, what: str) -> None:
    """Raises UserError unless something holds that a measurement would be worthless without."""
    if not true:
        raise UserError(what)
