"""What a run shows of itself: a progress bar, its numbers, and sampled videos."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from videopolicy.configs import to_json
from videopolicy.diffusion.loss import Losses
from videopolicy.errors import UserError
from videopolicy.media import write_mp4
from videopolicy.progress import progress_bar, say
from videopolicy.training.config import Training
from videopolicy.training.distributed import ProcessGroup
from videopolicy.training.monitoring import trackers
from videopolicy.training.monitoring.loss_stats import LossStats
from videopolicy.training.monitoring.metrics_log import MetricsLog
from videopolicy.training.monitoring.throughput import ThroughputMeter, memory
from videopolicy.training.monitoring.validation import SHOWN, Samples, Validator, imagined_above_real


@dataclass(frozen=True, eq=False)
class StepReport:
    """What a step came to.

    Attributes:
        step: steps taken, this one included.
        progress: share of the run that is done, 0 to 1.
        losses: of the clips of all processes.
        norm: gradient norm.
        lr: learning rate; the video model's, if the head has another.
        seconds: time spent training, over all resumes.
    """

    step: int
    progress: float
    losses: Losses
    norm: Float[Tensor, ""]
    lr: float
    seconds: float


class Evaluator(Protocol):
    """Who has the weights: measures and samples with their average."""

    def validate(self, validator: Validator, count: int | None) -> tuple[dict[str, float], Samples]:
        """All measures and samples of a validator, or so many samples alone; in all processes alike."""
        ...


class Monitor:
    """Watches a run; called alike in every process, but only the main one writes."""

    def __init__(
        self,
        run: Path,
        training: Training,
        stats: LossStats,
        validator: Validator,
        measures: bool,
        accelerator: Accelerator,
        group: ProcessGroup,
    ) -> None:
        """Nothing is shown yet.

        Args:
            run: the run's folder.
            training: the recipe.
            stats: collects losses between lines of the log; a resumed run's have the steps that no line tells of yet.
            validator: measures on the validation set; on training clips, from which only videos are then sampled, if
                there is none.
            measures: whether there is a validation set.
            accelerator: with the trackers, if any.
            group: the processes.
        """
        self._run, self._training, self._stats = run, training, stats
        self._validator, self._measures = validator, measures
        self._accelerator, self._group = accelerator, group
        self._meter = ThroughputMeter()
        self._log: MetricsLog | None = None
        self._says_failures = True

    def begin(self, step: int, progress: float) -> "Monitor":
        """Opens the logs of a run that has taken so many steps; use as a context manager, which closes them."""
        self._run.mkdir(parents=True, exist_ok=True)
        if self._group.main:
            trackers.start(self._accelerator, self._run, to_json(self._training))
            self._log = MetricsLog(self._accelerator, self._run, step)
            if not self._measures:
                say("no episodes are held out, so nothing is measured on unseen ones")
        self._bar = progress_bar(
            total=1.0,
            initial=progress,
            desc=f"training {self._training.stage.name}",
            bar_format="{desc} {percentage:3.0f}%|{bar}|{postfix} [{elapsed}<{remaining}]",
            disable=not self._group.main,
        )
        return self

    def __enter__(self) -> "Monitor":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._bar.close()
        if self._log:
            self._log.close()
            for tracker in self._accelerator.trackers:
                tracker.finish()

    def waiting(self) -> AbstractContextManager[None]:
        """Within the block, which begins a step, the run waits for its data."""
        return self._meter.waiting()

    def after_step(self, report: StepReport, evaluator: Evaluator) -> None:
        """Takes a step in; now and then writes its numbers down, and measures on the validation set.

        Args:
            report: the step.
            evaluator: has the weights.
        """
        self._stats.add(report.losses, report.norm)
        self._bar.update(min(report.progress, 1.0) - self._bar.n)
        if report.step % self._training.log_every == 0:
            self._write(report)
        else:
            self._meter.step()
        if report.step % self._training.validate_every == 0:
            self._validate(report.step, evaluator)

    def _write(self, report: StepReport) -> None:
        found = self._stats.read()
        # After the reading, which waits for the device: before it, steps are only asked for.
        self._meter.step()
        if not self._log:
            return
        self._log.write("losses", report.step, {**found, "lr": report.lr, "seconds": round(report.seconds, 2)})
        speed = self._meter.read(self._training.batch_size)
        self._log.write("throughput", report.step, {**speed, **memory(self._accelerator.device)})
        parts = ", ".join(f"{part} {found[part]:.3f}" for part in self._stats.parts)
        self._bar.set_postfix_str(f" step {report.step}, {parts}")

    def _validate(self, step: int, evaluator: Evaluator) -> None:
        """Every process computes the same, as weights that are spread over processes need; one writes."""
        video = self._training.stage.video_loss
        if not video and not self._measures:
            return
        found, samples = evaluator.validate(self._validator, None if self._measures else SHOWN)
        if self._log and found:
            self._log.write("validation", step, found)
        # What does not learn by video draws the same for ever, or what means nothing.
        if self._log and video:
            self._show(step, samples)

    def _show(self, step: int, samples: Samples) -> None:
        path = self._run / "samples" / f"step-{step:06d}.mp4"
        clips = self._validator.clips
        try:
            path.parent.mkdir(exist_ok=True)
            write_mp4(path, imagined_above_real(samples), fps=clips.fps / clips.window.stride)
        # A picture less is no reason to end a run of days.
        except (OSError, UserError) as error:
            if self._says_failures:
                say(f"{path}: not written ({error}); the run goes on, without such videos")
            self._says_failures = False
