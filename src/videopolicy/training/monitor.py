"""What a run shows of itself: a progress bar, losses.jsonl, TensorBoard scalars, sampled videos."""

import json
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import UInt8
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from videopolicy.diffusion.joint import Joint
from videopolicy.diffusion.loss import Losses
from videopolicy.media import write_mp4

if TYPE_CHECKING:
    from videopolicy.training.loop import Trainer

# Clips shown side by side in a sampled video.
SAMPLED = 4


class Monitor:
    """Watches a trainer; only the main process writes."""

    def __init__(self, trainer: "Trainer") -> None:
        self.trainer = trainer
        self._recent: dict[str, list[float]] = {}

    def __enter__(self) -> "Monitor":
        run, main = self.trainer.run, self.trainer.accelerator.is_main_process
        run.mkdir(parents=True, exist_ok=True)
        if main:
            _keep_until(run / "losses.jsonl", self.trainer.step)
        # What is purged begins with this step; the last one that the state knows of stays.
        first = self.trainer.step + 1
        self._board = SummaryWriter(str(run / "tensorboard"), purge_step=first) if main else None
        self._bar = tqdm(
            total=1.0,
            initial=self.trainer.progress,
            desc=f"training {self.trainer.training.stage}",
            bar_format="{desc} {percentage:3.0f}%|{bar}|{postfix} [{elapsed}<{remaining}]",
            disable=not main,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.close()
        if self._board:
            self._board.close()

    def after_step(self, losses: Losses) -> None:
        """Takes a step's losses in; now and then writes them down and samples a video."""
        if not self._board:
            return
        training = self.trainer.training
        if training.stage != "action":
            self._recent.setdefault("video", []).append(losses.mean_video.item())
        if training.stage != "video":
            self._recent.setdefault("action", []).append(losses.mean_actions.item())
        self._bar.update(min(self.trainer.progress, 1.0) - self._bar.n)
        if self.trainer.step % training.log_every == 0:
            self._log()
        if self.trainer.step % training.sample_every == 0:
            self._sample()

    def _log(self) -> None:
        step = self.trainer.step
        means = {name: float(np.mean(values)) for name, values in self._recent.items()}
        self._recent.clear()
        rate = self.trainer.rate_now
        line = {"step": step, **means, "lr": rate, "seconds": round(self.trainer.seconds, 2)}
        with (self.trainer.run / "losses.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        assert self._board
        for name, value in means.items():
            self._board.add_scalar(f"loss/{name}", value, step)
        self._board.add_scalar("rate", rate, step)
        self._bar.set_postfix_str(f" step {step}, " + ", ".join(f"{name} {value:.3f}" for name, value in means.items()))

    def _sample(self) -> None:
        if self.trainer.training.stage == "action":
            return
        with self.trainer.ema.applied():
            frames = imagined_above_real(self.trainer)
        folder = self.trainer.run / "samples"
        folder.mkdir(exist_ok=True)
        fps = self.trainer.clips.fps / self.trainer.clips.window.stride
        write_mp4(folder / f"step-{self.trainer.step:06d}.mp4", frames, fps=fps)


@torch.no_grad()
def imagined_above_real(trainer: "Trainer") -> UInt8[np.ndarray, "T H W 3"]:
    """The futures that the model imagines for a few clips, the same at every call, above what really followed."""
    policy, objective = trainer.objective.policy, trainer.objective
    rng = np.random.default_rng(0)
    indices = rng.choice(len(trainer.clips), size=min(SAMPLED, len(trainer.clips)), replace=False)
    batch = trainer.clips.batch(indices, rng)
    clean = objective.clean(batch, generator=None)
    noise = Joint.randn_like(clean, torch.Generator().manual_seed(0))
    drawn = policy.sample(objective.condition(batch), noise, policy.config.sampling)

    def picture(joint: Joint) -> UInt8[np.ndarray, "T H W 3"]:
        # Clips and views side by side: (B, V, T, H, W, 3) -> (T, H, B V W, 3).
        return np.concatenate(policy.decode(joint.video).flatten(0, 1).cpu().numpy(), axis=2)

    return np.concatenate((picture(drawn), picture(clean)), axis=1)


def _keep_until(path: Path, step: int) -> None:
    """Drops what an earlier run logged after the step that this one starts from."""
    if path.exists():
        lines = [line for line in path.read_text().splitlines() if _step(line) <= step]
        aside = path.with_name(f".{path.name}.partial")
        aside.write_text("".join(line + "\n" for line in lines))
        aside.replace(path)


def _step(line: str) -> float:
    """The step that a line tells of; infinite for the torn last line of a run that was killed."""
    try:
        return json.loads(line)["step"]
    except ValueError:
        return float("inf")
