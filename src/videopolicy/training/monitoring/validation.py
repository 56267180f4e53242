"""How well a model does on clips that it never learns from.

Clips, noise levels and noise are the same every time, so that the numbers of a run compare from one to the next.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from videopolicy.actions.layout import Layout
from videopolicy.clips.dataset import ClipBatch, Clips
from videopolicy.diffusion.joint import Joint
from videopolicy.errors import UserError
from videopolicy.similarity import CEILING, psnr, ssim
from videopolicy.training.objective import Objective

# Noise levels: the middles of as many parts of the training distribution, all of the same probability.
LEVELS = 5
# Clips whose loss is measured, and clips that the model draws, which takes as many passes as a plan has steps.
MEASURED = 64
DRAWN = 16
# Of these, clips shown side by side in a video.
SHOWN = 4


def set_apart(clips: Clips, episodes: int) -> tuple[Clips, Clips | None]:
    """Clips to train on, and those of episodes that are held out.

    Args:
        clips: of all episodes.
        episodes: to hold out; fewer are, if otherwise more than half were, or a data set had none to train on.

    Returns:
        The second is None if nothing can be held out, or nothing should be.
    """
    for fewer in range(min(episodes, len(clips.episodes) // 2), 0, -1):
        try:
            return clips.split(fewer)
        except UserError:
            continue
    return clips, None


@dataclass(frozen=True, eq=False)
class Samples:
    """What a model draws for some clips, beside the truth.

    Attributes:
        batch: the clips.
        actions: mean absolute error of each dimension, in normalised units; NaN if no clip has actions.
        imagined: RGB frames of every view.
        real: what followed, as the latents show it.
    """

    batch: ClipBatch
    actions: Float[np.ndarray, "D"]
    imagined: UInt8[np.ndarray, "B V T H W 3"]
    real: UInt8[np.ndarray, "B V T H W 3"]


class Validator:
    """Measures on the same clips again and again; computes with whatever weights the objective then has."""

    def __init__(self, objective: Objective, clips: Clips, batch: int, seed: int) -> None:
        """Chooses the clips, spread evenly over all episodes.

        Args:
            objective: what is measured.
            clips: of the validation set.
            batch: clips that fit on the device at once.
            seed: of the noise.
        """
        self.objective, self.clips, self.batch, self.seed = objective, clips, batch, seed

    def measure(self) -> tuple[dict[str, float], Samples]:
        """All numbers, and what was drawn.

        Returns:
            "video" and "action", whichever counts: the mean loss over all levels, and at each as "video/sigma_2.72";
            "action_error": mean absolute error of sampled chunks in normalised units, and of each part in the
            env's units as "action_error/gripper", if the actions' loss counts; "psnr" in dB and "ssim" of the
            imagined video against what followed, if the video's does.
        """
        drawn = self.draw(DRAWN)
        stage, found = self.objective.training_config.stage, self.losses()
        if stage.action_loss:
            found |= self._action_error(drawn)
        if stage.video_loss:
            found |= similarity(drawn)
        return found, drawn

    def losses(self) -> dict[str, float]:
        """The denoising loss at fixed noise levels and with fixed noise."""
        training = self.objective.training_config
        found: dict[str, list[float]] = {}
        for levels in training.noise.grid(LEVELS):
            video, action = [], []
            for batch, noise in self._batches(MEASURED):
                losses = self.objective.losses_at(batch, levels, noise)
                of_video, of_actions = losses.by_clip()
                video += of_video[losses.counts.video.any(1)].tolist()
                action += of_actions[losses.counts.has_actions].tolist()
            for part, values, sigma in (("video", video, levels.video), ("action", action, levels.actions)):
                if values and part in training.stage.losses:
                    mean = float(np.mean(values))
                    found.setdefault(part, []).append(mean)
                    found[f"{part}/sigma_{float(sigma):.3g}"] = [mean]
        return {name: float(np.mean(values)) for name, values in found.items()}

    @torch.no_grad()
    def draw(self, count: int) -> Samples:
        """What the model imagines and would do at the start of so many clips."""
        model = self.objective.model
        batches, imagined, real, errors = [], [], [], []
        for batch, noise in self._batches(count):
            drawn, clean = self.objective.imagine(batch, noise), self.objective.clean(batch, None)
            current = torch.from_numpy(batch.current).to(model.device)
            imagined.append(model.decode(drawn.video, current).cpu().numpy())
            real.append(model.decode(clean.video, current).cpu().numpy())
            errors.append((drawn.actions - clean.actions).abs().mean(1).cpu().numpy()[batch.has_actions])
            batches.append(batch)
        found = np.concatenate(errors)
        error = found.mean(0) if len(found) else np.full(found.shape[1], np.nan)
        return Samples(batches[0], error, np.concatenate(imagined), np.concatenate(real))

    def _batches(self, count: int) -> Iterator[tuple[ClipBatch, Joint]]:
        """So many clips with the noise of each, which depends on the clip and the seed alone."""
        indices = evenly(len(self.clips), count)
        for first in range(0, len(indices), self.batch):
            chosen = indices[first : first + self.batch]
            batch = self.clips.batch(chosen, None)
            yield batch, Joint.cat([self._noise(int(index), batch.actions.shape[2]) for index in chosen])

    def _noise(self, index: int, width: int) -> Joint:
        model = self.objective.model
        video = model.blank(1).video.cpu()
        seed = int(np.random.SeedSequence([self.seed, index]).generate_state(1)[0])
        blank = Joint(video, video.new_zeros(1, model.config.window.actions, width))
        return Joint.randn_like(blank, torch.Generator().manual_seed(seed)).map(lambda part: part.to(model.device))

    def _action_error(self, drawn: Samples) -> dict[str, float]:
        normalizer = self.objective.model.normalizer
        if normalizer is None or not np.isfinite(drawn.actions).all():
            return {}
        zero, one = np.zeros((1, len(drawn.actions))), np.ones((1, len(drawn.actions)))
        own = drawn.actions * (normalizer.invert(one) - normalizer.invert(zero))[0]
        named = parts(self.objective.model.config.learned_layout, len(own))
        by_part = {f"action_error/{name}": float(own[place].mean()) for name, place in named.items()}
        return {"action_error": float(drawn.actions.mean()), **by_part}


def parts(layout: Layout | None, width: int) -> dict[str, slice]:
    """A name for each part of an action -> its dimensions; each dimension by itself if unspecified."""
    if layout is None:
        return {f"dimension_{i}": slice(i, i + 1) for i in range(width)}
    kinds = [f"{part.reference}_{part.kind}".strip("_") for part in layout.parts]
    return {
        kind if kinds.count(kind) == 1 else f"{kind}_{part.start}": part.slice
        for kind, part in zip(kinds, layout.parts, strict=True)
    }


def evenly(count: int, most: int) -> Int[np.ndarray, "n"]:
    """At most so many of `count` places, spread evenly from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(int))


def similarity(drawn: Samples) -> dict[str, float]:
    """Mean PSNR (each frame's at most `CEILING` dB) and mean SSIM over the frames of all views."""
    frames = [images.reshape(-1, *images.shape[3:]) for images in (drawn.imagined, drawn.real)]
    pairs = list(zip(*frames, strict=True))
    return {
        "psnr": float(np.mean([min(psnr(one, other), CEILING) for one, other in pairs])),
        "ssim": float(np.mean([ssim(one, other) for one, other in pairs])),
    }


def imagined_above_real(drawn: Samples) -> UInt8[np.ndarray, "T H W 3"]:
    """Some of the imagined futures side by side, above what really followed."""
    chosen = evenly(len(drawn.imagined), SHOWN)

    def picture(frames: UInt8[np.ndarray, "B V T H W 3"]) -> UInt8[np.ndarray, "T H W 3"]:
        # Clips and views side by side: (B, V, T, H, W, 3) -> (T, H, B V W, 3).
        return np.concatenate(frames[chosen].reshape(-1, *frames.shape[2:]), axis=2)

    return np.concatenate((picture(drawn.imagined), picture(drawn.real)), axis=1)
