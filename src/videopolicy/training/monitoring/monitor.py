"""What a run shows of itself: a progress bar, its numbers, and sampled videos."""

import sys
from contextlib import AbstractContextManager
from types import TracebackType
from typing import TYPE_CHECKING

from jaxtyping import Float
from torch import Tensor
from tqdm import tqdm

from videopolicy.configs import to_json
from videopolicy.diffusion.loss import Losses
from videopolicy.errors import UserError
from videopolicy.media import write_mp4
from videopolicy.training.choices import PARTS
from videopolicy.training.monitoring import trackers
from videopolicy.training.monitoring.metrics_log import MetricsLog
from videopolicy.training.monitoring.throughput import ThroughputMeter, memory
from videopolicy.training.monitoring.validation import SHOWN, Drawn, Validator, imagined_above_real

if TYPE_CHECKING:
    from videopolicy.training.loop import Trainer


class Monitor:
    """Watches a trainer; called alike in every process, but only the main one writes."""

    def __init__(self, trainer: "Trainer") -> None:
        self.trainer = trainer
        training = trainer.training
        self._watch = ThroughputMeter()
        self._measures = trainer.held_out is not None
        clips = trainer.clips if trainer.held_out is None else trainer.held_out
        share = max(1, training.batch // (trainer.group.size * training.accumulate))
        self._looker = Validator(trainer.objective, clips, share, training.seed)
        self._says_failures = True

    def __enter__(self) -> "Monitor":
        trainer, main = self.trainer, self.trainer.group.main
        trainer.run.mkdir(parents=True, exist_ok=True)
        self._journal = None
        if main:
            trackers.start(trainer.accelerator, trainer.run, to_json(trainer.training))
            self._journal = MetricsLog(trainer.accelerator, trainer.run, trainer.step)
            if not self._measures:
                tqdm.write("no episodes are held out, so nothing is measured on unseen ones", file=sys.stderr)
        self._bar = tqdm(
            total=1.0,
            initial=trainer.progress,
            desc=f"training {trainer.training.stage}",
            bar_format="{desc} {percentage:3.0f}%|{bar}|{postfix} [{elapsed}<{remaining}]",
            disable=not main,
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.close()
        if self._journal:
            self._journal.close()
            for tracker in self.trainer.accelerator.trackers:
                tracker.finish()

    def waiting(self) -> AbstractContextManager[None]:
        """Within the block, which begins a step, the trainer waits for its data."""
        return self._watch.waiting()

    def after_step(self, losses: Losses, norm: Float[Tensor, ""]) -> None:
        """Takes a step in; now and then writes its numbers down, and looks at what the policy imagines.

        Args:
            losses: of the clips of all processes.
            norm: length of the gradient.
        """
        trainer = self.trainer
        trainer.meter.add(losses, norm)
        self._bar.update(min(trainer.progress, 1.0) - self._bar.n)
        if trainer.step % trainer.training.log_every == 0:
            self._log()
        else:
            self._watch.step()
        if trainer.step % trainer.training.sample_every == 0:
            self._look()

    def _log(self) -> None:
        trainer, step = self.trainer, self.trainer.step
        found = trainer.meter.read()
        # After the reading, which waits for the device: before it, steps are only asked for.
        self._watch.step()
        if not self._journal:
            return
        line = {**found, "lr": trainer.rate_now, "seconds": round(trainer.seconds, 2)}
        self._journal.write("losses", step, line)
        speed = self._watch.read(trainer.training.batch)
        self._journal.write("throughput", step, {**speed, **memory(trainer.accelerator.device)})
        parts = ", ".join(f"{part} {found[part]:.3f}" for part in trainer.meter.parts)
        self._bar.set_postfix_str(f" step {step}, {parts}")

    def _look(self) -> None:
        """Every process computes the same, as weights that are spread over processes need; one writes."""
        trainer, video = self.trainer, "video" in PARTS[self.trainer.training.stage]
        if not video and not self._measures:
            return
        trainer.objective.eval()
        with trainer.learner.clips_fit(), trainer.averaged(), trainer.accelerator.autocast():
            found, drawn = self._looker.look() if self._measures else ({}, self._looker.draw(SHOWN))
        trainer.objective.train()
        if self._journal and found:
            self._journal.write("validation", trainer.step, found)
        # What does not learn by video draws the same for ever, or what means nothing.
        if self._journal and video:
            self._show(drawn)

    def _show(self, drawn: Drawn) -> None:
        trainer = self.trainer
        path = trainer.run / "samples" / f"step-{trainer.step:06d}.mp4"
        try:
            path.parent.mkdir(exist_ok=True)
            write_mp4(path, imagined_above_real(drawn), fps=trainer.clips.fps / trainer.clips.window.stride)
        # A picture less is no reason to end a run of days.
        except (OSError, UserError) as error:
            if self._says_failures:
                tqdm.write(f"{path}: not written ({error}); the run goes on, without such videos", file=sys.stderr)
            self._says_failures = False
