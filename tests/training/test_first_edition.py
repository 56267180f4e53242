"""The first losses of every kind of recipe are those of the first edition, given the noise that it drew.

20 of each, one of `svd`. The first edition drew all noise of a run from one generator; the numbers were computed with
its code at d541447, on one thread of the processor that is named below. On such a one they agree to the last bit;
elsewhere other kernels round otherwise, and Adam enlarges that. It drew the seeds of the latents from a copy of the
generator, before all else.
"""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.porting.weights import ACTING

from videopolicy import registry
from videopolicy.clips.normalize import Normalizer
from videopolicy.clips.windows import Window
from videopolicy.diffusion.noise import joint
from videopolicy.hardware import device_name
from videopolicy.latents import svd
from videopolicy.text import clip
from videopolicy.training.distributed import ProcessGroup, engine
from videopolicy.training.loop import lr_factor
from videopolicy.training.noise import draw_noise
from videopolicy.training.objective import Objective
from videopolicy.training.performance.benchmark import random_clips
from videopolicy.training.prepare import build
from videopolicy.training.step import TrainStep

pytestmark = pytest.mark.slow

STEPS, CLIPS, WIDTH = 20, 4, 7
PROCESSOR = "AMD EPYC", "AVX512", "2.13.0"
WINDOWS = {"tiny": Window(4, 8, 32), "cloning": Window(4, 8, 32).reaching(0)}
# The paper's preset with its levels, taps and recipe, but narrow, and two views of 64 pixels.
NARROW = {
    "latents": svd.Config(channels=(32, 32, 32, 32)),
    "text": clip.Config(width=48, hidden=32, layers=2, heads=1),
    "backbone": replace(ACTING.backbone, channels=(32, 32, 64, 64), head_channels=16, id_width=32),
}

randint, rand = torch.randint, torch.rand


def _randint_from_a_copy(high, size, generator, state):
    copy = torch.Generator()
    copy.set_state(state)
    return randint(high, size, generator=copy)


def _rand_apart(*size, generator):
    # Whether a state is hidden, one number a clip, was not drawn then.
    if len(size) > 1:
        return rand(*size, generator=generator)
    return rand(*size, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["tiny", "cloning", "svd", "small"])
def test_the_first_losses_are_those_of_the_first_edition(name, monkeypatch):
    expected = load_file(Path(__file__).with_name("first_edition.safetensors"))
    preset = registry.entry("presets", name)
    model = preset.model
    if name == "svd":
        model = replace(ACTING, **NARROW)
    elif name == "small":
        model = replace(model, backbone=replace(model.backbone, channels=(32, 64), head_channels=16))
    training = replace(preset.training, batch_size=CLIPS, gradient_checkpointing=False)
    if name != "svd":
        # Since then these presets learn shorter chunks, faster, and at other noise levels.
        model = replace(model, window=WINDOWS.get(name, model.window))
        training = replace(training, head_lr=5e-4, noise=joint.Config())
    if name in WINDOWS:
        training = replace(training, lr=5e-4)
    built = build(model, Normalizer((-1.0,) * WIDTH, (1.0,) * WIDTH), training.seed)
    step = TrainStep(Objective(built, training), training, engine(training.precision), ProcessGroup())
    here = (
        device_name(torch.device("cpu")),
        torch.backends.cpu.get_cpu_capability(),
        torch.__version__.partition("+")[0],
    )
    generator = torch.Generator().manual_seed(training.seed)
    batch = replace(random_clips(built, CLIPS), has_actions=np.array([True, True, False, True]))
    # So narrow a U-Net of svd's enlarges what is rounded otherwise to hundredths before it has learnt a thing.
    coarse = here != PROCESSOR and name == "svd"
    share = 0.05 if coarse else 0.01
    for number in range(1 if name == "svd" else STEPS):
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randint", partial(_randint_from_a_copy, state=generator.get_state()))
            patch.setattr(torch, "rand", _rand_apart)
            noise = draw_noise(built, training, batch, generator)
        losses, norm = step.gradient(batch, noise)
        step.update(lr_factor(number / training.steps, number, training.warmup, training.decay))
        parts = {"video": losses.video, "actions": losses.actions, "norm": norm}
        # What the first update leaves is rounded otherwise: the optimiser computes it in one pass since.
        near = 0 if here == PROCESSOR and number == 0 else share
        for part, value in parts.items():
            if (part == "video" and not training.stage.video_loss) or (part == "norm" and coarse):
                continue
            torch.testing.assert_close(value, expected[f"{name}/{part}"][number], rtol=near, atol=near * 0.1)
