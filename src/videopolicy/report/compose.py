"""Imagined above executed: one video an episode, so that no player can drift; and one plan as a strip of frames."""

import base64
import io
import math
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Pictures

from videopolicy.media import write_mp4
from videopolicy.rollout.recordings import Imagined, Recording
from videopolicy.similarity import CEILING, psnr
from videopolicy.types import Frames, Image

PANEL = 192
GAP = 8
# A page holds many of them: half the size of the best, and hardly to be told from it.
CRF = 23
_BACK = (38, 41, 46)
_FILL = (122, 162, 247)
_HOLD_SECONDS = 1.0


def stacked(recording: Recording) -> Frames:
    """The executed episode below what was planned, frame n at control step n, views side by side.

    Above stands the next frame of the plan being executed: it shows the future, and execution catches up with it. The
    bar between fills as it does and is full when both panels show the same control step. The last frame is held for a
    second. Without plans only the executed panel is there.
    """
    below = [_beside({v: f[n] for v, f in recording.executed.items()}) for n in range(recording.length)]
    if recording.plans:
        frames = [np.concatenate([*_above(recording, n), frame]) for n, frame in enumerate(below)]
    else:
        frames = below
    return np.stack(frames + frames[-1:] * round(_HOLD_SECONDS * recording.fps))


def current(plans: tuple[Imagined, ...], step: int) -> tuple[Imagined, int]:
    """The plan that was being executed on the way to this step, and its first frame at this step or after.

    A plan made at this very step speaks of later ones, so the plan before it still answers for this one. Past a plan's
    last frame, that last one.
    """
    made = [plan for plan in plans if plan.step < step] or [plans[0]]
    plan = made[-1]
    return plan, next((k for k, target in enumerate(plan.targets) if target >= step), len(plan.targets) - 1)


def _above(recording: Recording, step: int) -> tuple[Image, Image]:
    plan, k = current(recording.plans, step)
    picture = _beside({view: frames[k] for view, frames in plan.frames.items()})
    start, target = (plan.targets[k - 1] if k else plan.step), plan.targets[k]
    # Past the last imagined frame there is nothing to catch up with, and full would say that the steps agree.
    done = (step - start) / max(target - start, 1) if step <= target else 0.0
    bar = np.full((GAP, picture.shape[1], 3), _BACK, np.uint8)
    bar[2:-2, : round(done * picture.shape[1])] = _FILL
    return picture, bar


def _beside(views: Mapping[str, Image]) -> Image:
    # Small frames are enlarged before coding: at their own size they would lose their colours to the codec's chroma.
    height = _even(max(PANEL, *(image.shape[0] for image in views.values())))
    gap = np.full((height, GAP, 3), _BACK, np.uint8)
    parts = [part for image in views.values() for part in (gap, _enlarged(image, height))]
    return np.concatenate(parts[1:], axis=1)


def _enlarged(image: Image, height: int) -> Image:
    size = (_even(image.shape[1] * height / image.shape[0]), height)
    return np.asarray(Pictures.fromarray(image).resize(size, Pictures.Resampling.BICUBIC))


def _even(pixels: float) -> int:
    """Browsers play H.264 of even sizes only."""
    return 2 * math.ceil(pixels / 2)


def mp4_uri(frames: Frames, fps: float) -> str:
    """The frames as an H.264 MP4 inside a data URI."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "stacked.mp4"
        write_mp4(path, frames, fps, crf=CRF)
        return data_uri("video/mp4", path.read_bytes())


@dataclass(frozen=True)
class Moment:
    """One column of a filmstrip: the same control step, imagined and executed, as PNG data URIs.

    Attributes:
        offset: control steps after the plan; 0 is the current frame, where nothing was imagined.
        step: the control step itself.
        imagined: the imagined frame; None at offset 0.
        executed: what was seen.
        psnr: of the imagined against the executed frame, in dB.
        still_psnr: of "nothing moves" against the executed frame, in dB.
    """

    offset: int
    step: int
    imagined: str | None
    executed: str
    psnr: float | None
    still_psnr: float | None


def liveliest(recording: Recording) -> Imagined | None:
    """The plan during which most happened: of those executed furthest, the one that the still frame fits least."""

    def stillness(plan: Imagined) -> tuple[int, float]:
        reached = [t for t in plan.targets if t < recording.length]
        frames = [(f[plan.step], f[t]) for f in recording.executed.values() for t in reached]
        return -len(reached), float(np.mean([min(psnr(a, b), CEILING) for a, b in frames] or [CEILING]))

    return min(recording.plans, key=stillness, default=None)


def filmstrip(recording: Recording, plan: Imagined, view: str) -> list[Moment]:
    """The current frame, then every imagined frame whose control step was reached, beside what was seen then."""
    executed = recording.executed[view]
    current = executed[plan.step]
    strip = [Moment(0, plan.step, None, png_uri(current), None, None)]
    for target, imagined in zip(plan.targets, plan.frames[view], strict=True):
        if target < recording.length:
            seen = executed[target]
            values = psnr(imagined, seen), psnr(current, seen)
            strip.append(Moment(target - plan.step, target, png_uri(imagined), png_uri(seen), *values))
    return strip


def png_uri(image: Image) -> str:
    """The image as a PNG inside a data URI."""
    buffer = io.BytesIO()
    Pictures.fromarray(image).save(buffer, "PNG", optimize=True)
    return data_uri("image/png", buffer.getvalue())


def data_uri(kind: str, content: bytes) -> str:
    """A file inside the page; `kind` is its media type."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
