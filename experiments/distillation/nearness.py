"""How near few steps come to where a policy's many steps arrive, from the same noise, for clips of held-out episodes.

python experiments/distillation/nearness.py --teacher CHECKPOINT --students RUN/checkpoint ... --data DATA --out FILE
"""

import json
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import tyro

from videopolicy import checkpoint
from videopolicy.clips.dataset import ClipBatch
from videopolicy.datasets.mixture import open_sources
from videopolicy.diffusion.joint import Joint
from videopolicy.models.base import Model
from videopolicy.models.sampling import Sampling
from videopolicy.training.config import Training
from videopolicy.training.monitoring.validation import evenly
from videopolicy.training.prepare import prepare

# Of the path that counts as the truth: steps of Heun's method. Twice as many change what it draws by 1e-4.
STEPS = 20


@dataclass(frozen=True)
class Options:
    """What to compare."""

    teacher: Path
    data: Path
    """Episodes that neither has learnt from."""
    out: Path
    students: tuple[Path, ...] = ()
    clips: int = 24
    seed: int = 0
    """Of the noise."""


def drawn(model: Model, clips: ClipBatch, noise: Joint, sampling: Sampling) -> Joint:
    """Latents and normalised actions."""
    return model.sample(model.condition(torch.from_numpy(clips.current), clips.instructions), noise, sampling)


def apart(one: Joint, other: Joint) -> dict[str, float]:
    """Mean squared differences."""
    difference = one - other
    return {"video": difference.video.square().mean().item(), "actions": difference.actions.square().mean().item()}


def main(options: Options) -> None:
    """Writes one line a way to sample: its distance from the teacher's many steps, and from what followed."""
    teacher, _ = checkpoint.load(options.teacher)
    with tempfile.TemporaryDirectory() as folder:
        _, every = prepare(open_sources([options.data]), teacher.config, Training(), Path(folder), teacher)
        clips = every.batch(evenly(len(every), options.clips), None)
    own = teacher.config.sampling
    noise = Joint.randn_like(teacher.blank(len(clips.actions)), torch.Generator().manual_seed(options.seed))
    goal = drawn(teacher, clips, noise, replace(own, sampler="heun", steps=STEPS))
    future = torch.from_numpy(clips.future)
    followed = Joint(teacher.flatten(future, torch.from_numpy(clips.current[:, 0])), torch.from_numpy(clips.actions))
    ways = {f"teacher, {steps}": (teacher, replace(own, steps=steps)) for steps in (1, 2, 4, 8, 16)}
    ways |= {f"teacher, {steps} at a student's levels": (teacher, own.distilled(steps)) for steps in (2, 4)}
    for path in options.students:
        student, _ = checkpoint.load(path)
        ways[f"{path.parent.name}, {student.config.sampling.steps}"] = (student, student.config.sampling)
    rows = {}
    for name, (model, sampling) in ways.items():
        found = drawn(model, clips, noise, sampling)
        rows[name] = {"from_many_steps": apart(found, goal), "from_what_followed": apart(found, followed)}
        numbers = [f"{value:.4f}" for row in rows[name].values() for value in row.values()]
        print(f"{name:40}", *numbers, flush=True)
    facts = {"clips": len(clips.actions), "seed": options.seed, "rows": rows}
    options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(tyro.cli(Options))
