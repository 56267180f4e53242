"""One training step of every preset in bf16, of some in every stage by every noise law, and one of them compiled."""

import copy
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from shared import DEVICE, begin, demand, presets, random_model

from videopolicy import registry
from videopolicy.errors import UserError
from videopolicy.hardware import now, peak_memory
from videopolicy.models.base import Model
from videopolicy.presets.base import Preset
from videopolicy.training.config import Training
from videopolicy.training.distributed import ProcessGroup, engine
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.objective import Objective, check_generates_video, total
from videopolicy.training.performance.benchmark import random_clips
from videopolicy.training.stages import STAGES, Stage
from videopolicy.training.step import TrainStep

# The full-size one is compiled where its throughput is measured.
COMPILED = "small"
# One of each model, and the full-size one; the others differ from them in what they are trained by.
WHOLE = ("tiny", "uwm", "uva", "fast_wam", "cloning", "svd")
CLIPS = 2


def main() -> None:
    """A row for each."""
    given, rows = begin(__doc__)
    every = presets(given.dry)
    for name, preset in every.items():
        model = random_model(preset.model)
        for stage, law in ways(name, preset):
            training = recipe(preset, stage, law)
            rows.attempt(partial(step, model, training), preset=name, stage=stage.name, law=law)
        del model
    preset = every[COMPILED]
    training = replace(recipe(preset, preset.training.stage, "joint"), compile=True)
    about = {"preset": COMPILED, "stage": f"{training.stage.name}, compiled", "law": "joint"}
    rows.attempt(partial(step, random_model(preset.model), training), **about)


def ways(name: str, preset: Preset) -> list[tuple[Stage, str]]:
    """The stages and noise laws in which it takes a step."""
    if name not in WHOLE:
        return [(preset.training.stage, (registry.plugin_of(type(preset.training.noise)) or ("", ""))[1])]
    stages = [stage for stage in (preset.training.own_stage(stage) for stage in STAGES) if suits(preset, stage)]
    # A student is asked at the starts of its teacher's segments, and nowhere else.
    return [(stage, law) for stage in stages for law in (("starts",) if stage.distills else registry.names("noise"))]


def suits(preset: Preset, stage: Stage) -> bool:
    """Whether a stage is for this kind of model at all."""
    try:
        check_generates_video(preset.model.generates_video, stage)
    except UserError:
        return False
    return True


def recipe(preset: Preset, stage: Stage, law: str) -> Training:
    """The preset's, as far as it does not matter here."""
    noise = registry.entry("noise", law)()
    training = replace(preset.training, stage=stage, noise=noise, batch_size=CLIPS, precision="bf16")
    return training.resolve(preset.model.sampling.sigma_max)


def step(model: Model, training: Training) -> dict[str, Any]:
    """Takes one, and makes sure that all is finite and that weights moved."""
    if DEVICE.type == "cuda":
        torch.cuda.reset_peak_memory_stats(DEVICE)
    teacher = copy.deepcopy(model) if training.stage.distills else None
    taken = TrainStep(Objective(model, training, teacher), training, engine(training.precision), ProcessGroup())
    batch = random_clips(model, training.batch_size)
    learning = [weight for weight in model.parameters() if weight.requires_grad]
    before = [weight.detach().flatten()[:64].clone() for weight in learning]
    begun = now(DEVICE)
    losses, norm = taken.gradient(batch, draw_noise(model, training, batch, generator_of(0, 0)))
    taken.update(1.0)
    ms = 1e3 * (now(DEVICE) - begun)
    loss = total(losses, pool_losses=training.pool_losses).item()
    after = [weight.detach().flatten()[:64] for weight in learning]
    demand(bool(torch.isfinite(torch.tensor([loss, norm.item()])).all()), f"loss {loss}, gradient norm {norm.item()}")
    demand(all(bool(torch.isfinite(part).all()) for part in after), "weights that are not finite")
    moved = sum(not torch.equal(old, new) for old, new in zip(before, after, strict=True))
    demand(moved > 0, "no weight moved")
    return {
        "ms": ms,
        "loss": loss,
        "gradient": norm.item(),
        "moved": moved / len(after),
        "gb": peak_memory(DEVICE) / 1e9,
    }


if __name__ == "__main__":
    main()
