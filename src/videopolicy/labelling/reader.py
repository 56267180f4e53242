"""Reads actions from the video of an episode."""

from dataclasses import dataclass
from math import isclose

import numpy as np
import torch
from jaxtyping import Float, Float32
from torch import Tensor

from videopolicy.backbones.base import Condition
from videopolicy.datasets.base import SAME_RATE, Dataset
from videopolicy.diffusion.clocks import INVERSE_DYNAMICS
from videopolicy.diffusion.joint import Joint
from videopolicy.errors import UserError, unknown
from videopolicy.images import fit_to_size
from videopolicy.labelling.labels import EpisodeLabels
from videopolicy.policies.checkpoint import CheckpointPolicy

# Draws that the model makes at once.
BATCH = 32


@dataclass(frozen=True)
class ActionReader:
    """Inverse dynamics of a policy, over the noise levels of its sampling.

    Attributes:
        policy: of a model with actions and video.
        draws: of each action, at least two; their mean is the label.
        seed: of their noise; that of a draw depends on the episode and the step besides, and on nothing else.
    """

    policy: CheckpointPolicy
    draws: int
    seed: int

    def check(self, dataset: Dataset) -> None:
        """Makes sure that the model's actions can be those of the data set.

        Raises:
            UserError: it lacks a view, has another rate, no states although actions are relative to them, or actions
                of its own of another width or meaning.
        """
        config, spec = self.policy.model.config, self.policy.spec
        if not self.policy.model.reads_future:
            raise UserError("this model reads no actions out of a given video; label by one of preset inverse_dynamics")
        if config.proprioception and dataset.state_width != config.state_width:
            raise UserError(
                f"{dataset.path}: the checkpoint acts from a state of {config.state_width} numbers, but its states "
                f"have {dataset.state_width or 'none'}"
            )
        for view in spec.views:
            if view not in dataset.views:
                raise UserError(f"{dataset.path}: {unknown('view', view, dataset.views)}; the checkpoint sees it")
        if config.fps and not isclose(dataset.fps, config.fps, rel_tol=SAME_RATE):
            raise UserError(
                f"{dataset.path}: {dataset.fps:g} steps a second, but the checkpoint acts at {config.fps:g}; bring it "
                f"to that with `videopolicy convert --fps {config.fps:g}`"
            )
        if spec.state_layout and dataset.state_layout != spec.state_layout:
            raise UserError(
                f"{dataset.path}: the checkpoint's actions are relative to the state {spec.state_layout!r}, but its "
                f"states are {dataset.state_layout or 'unspecified'!r}; say what they mean with `videopolicy convert`"
            )
        if dataset.action_width not in (None, spec.action_width):
            raise UserError(
                f"{dataset.path}: its own actions are {dataset.action_width} wide, the checkpoint's {spec.action_width}"
            )
        if dataset.action_width is not None and dataset.action_layout != spec.action_layout:
            raise UserError(
                f"{dataset.path}: its own actions are {dataset.action_layout or 'unspecified'!r}, the checkpoint's "
                f"{spec.action_layout or 'unspecified'!r}; one data set has one layout"
            )

    @torch.no_grad()
    def read(self, dataset: Dataset, index: int) -> EpisodeLabels:
        """The actions of a whole episode, in the env's own units.

        Raises:
            UserError: it cannot be read.
        """
        length, execute = dataset.length(index), self.policy.spec.execute
        starts, at_once = range(0, length, execute), max(1, BATCH // self.draws)
        labels = np.empty((length, self.policy.spec.action_width), np.float32)
        variances = []
        for first in range(0, len(starts), at_once):
            some = starts[first : first + at_once]
            for start, drawn in zip(some, self._draw(dataset, index, some), strict=True):
                kept = drawn[:, : length - start][:, :execute]
                variances.append(kept.var(0, ddof=1))
                state = self._state(dataset, index, start)
                labels[start : start + execute] = self.policy.executable(drawn.mean(0), state)[: kept.shape[1]]
        return EpisodeLabels(labels, self._confidence(np.concatenate(variances)))

    def _confidence(self, variances: Float32[np.ndarray, "N D"]) -> float:
        normalizer = self.policy.model.normalizer
        assert normalizer is not None
        varies = np.array(normalizer.high) > np.array(normalizer.low)
        return float(1 / (1 + variances[:, varies].mean())) if varies.any() else 1.0

    def _draw(self, dataset: Dataset, index: int, starts: range) -> Float32[np.ndarray, "n K A D"]:
        """Normalised chunks that begin at these steps, K draws of each."""
        model, draws = self.policy.model, self.draws
        condition, video = self._seen(dataset, index, starts)
        seeds = [self._seed(dataset.number(index), start, draw) for start in starts for draw in range(draws)]
        noise = self.policy.noise(seeds)
        given = Joint(video.repeat_interleave(draws, 0), noise.actions)
        condition = condition.map(lambda part: part.repeat_interleave(draws, 0))
        drawn = model.predict(condition, noise, self.policy.sampling, INVERSE_DYNAMICS, given).actions
        return drawn.unflatten(0, (len(starts), draws)).cpu().numpy()

    def _seen(self, dataset: Dataset, index: int, starts: range) -> tuple[Condition, Float[Tensor, "n F C h w"]]:
        """What the chunks go by, and the true video of each."""
        model, views = self.policy.model, self.policy.spec.views
        window, length, clips, words = model.config.window, dataset.length(index), [], []
        for start in starts:
            shown = dataset.episode(index, views, start, min(start + window.reach + 1, length))
            steps = window.frame_indices(0, len(shown))
            clips.append(np.stack([fit_to_size(shown.views[view][steps], model.config.size) for view in views]))
            words.append(shown.instruction)
        frames = torch.from_numpy(np.stack(clips)).to(model.device)
        codes = model.latents.encode_window(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])
        current, future = codes[:, :, 0], codes[:, :, 1:]
        condition = model.condition(current, words, states=self._felt(dataset, index, starts))
        return condition, model.likeliest(future, current)

    def _felt(self, dataset: Dataset, index: int, starts: range) -> Float[Tensor, "n S"] | None:
        """The states where these chunks begin, as the model has them; None if it reads none."""
        model = self.policy.model
        if model.state_normalizer is None:
            return None
        found = [dataset.episode(index, (), start, start + 1).states for start in starts]
        states = np.concatenate([state for state in found if state is not None])
        return torch.from_numpy(model.state_normalizer.apply(states)).to(model.device)

    def _state(self, dataset: Dataset, index: int, start: int) -> Float32[np.ndarray, "S"] | None:
        if not self.policy.spec.state_layout:
            return None
        states = dataset.episode(index, (), start, start + 1).states
        return None if states is None else states[0]

    def _seed(self, episode: int, start: int, draw: int) -> int:
        state = np.random.SeedSequence([self.seed, episode, start, draw]).generate_state(1, np.uint64)
        return int(state[0] >> np.uint64(1))
