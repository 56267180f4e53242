"""Inverse dynamics: which actions lead from one frame to a later one, read by a small network.

It sees only what changes, and not where. Shown a whole frame, it would know from where the robot and the object are
what the expert does there, and read that from any video, whatever moves in it.

What `videopolicy record` writes are the expert's own actions, while the frames show what the disturbed ones did: noise
in the labels. It is part of the error on demonstrations held out, and what it spoils in the reading is part of floor
and disagreement alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor, nn
from torch.nn.functional import mse_loss, silu

from videopolicy.diagnosis.demonstrations import Demonstration
from videopolicy.errors import UserError
from videopolicy.progress import progress_bar

STEPS, BATCH, RATE, DECAY = 500, 64, 2e-3, 0.05
# Intervals kept in memory.
MOST = 20_000
# One demonstration in five tells how well the others taught.
HELD_OUT = 5
# A dimension of which the held-out reading explains less than this share of the variance is not compared.
READABLE = 0.5


@dataclass(frozen=True)
class Trust:
    """How well actions are read from demonstrations that were not trained on, in units of `InverseDynamics.deviation`.

    Attributes:
        error: root mean square error of the mean action of an interval, over the dimensions that vary.
        constant: the same of always reading the mean action; about 1.
        explained: share of each dimension's variance that the reading explains, D of them; NaN where nothing varies.
    """

    error: float
    constant: float
    explained: Float[np.ndarray, "D"]

    @property
    def readable(self) -> Int[np.ndarray, "d"]:
        """The dimensions worth comparing."""
        return np.flatnonzero(self.explained >= READABLE)


@dataclass(frozen=True)
class FramePairs:
    """Intervals between two frames, n of them.

    Attributes:
        before: codes of the earlier frames.
        after: codes of the later frames.
        gaps: control steps from the one to the other.
        actions: the mean action of the interval, in the env's own units.
    """

    before: Float[Tensor, "n K h w"]
    after: Float[Tensor, "n K h w"]
    gaps: Int[Tensor, "n"]
    actions: Float32[np.ndarray, "n D"]


class InverseDynamics(nn.Module):
    """Reads the mean action between two frames from what changes; see `fit`.

    Attributes:
        reach: the longest gap.
        mean: of the mean actions of the demonstrations' intervals.
        deviation: theirs; 1 where they never vary.
    """

    def __init__(self, pairs: FramePairs, width: int = 32) -> None:
        super().__init__()
        self.reach = int(pairs.gaps.max())
        self.mean, deviation = pairs.actions.mean(0), pairs.actions.std(0)
        self.deviation = np.where(deviation > 1e-6, deviation, 1).astype(np.float32)
        self._convolutions = nn.ModuleList(
            [
                nn.Conv2d(pairs.before.shape[1] + 1, width, 3, stride=2, padding=1),
                nn.Conv2d(width, 2 * width, 3, padding=1),
            ]
        )
        self._joined = nn.Linear(2 * width, 4 * width)
        self._read = nn.Linear(4 * width, len(self.mean))

    def forward(
        self, before: Float[Tensor, "n K h w"], after: Float[Tensor, "n K h w"], gaps: Int[Tensor, "n"]
    ) -> Float[Tensor, "n D"]:
        """Mean actions as `normalised` gives them."""
        change = after.float() - before.float()
        when = (gaps / self.reach)[:, None, None, None].expand(-1, 1, *change.shape[-2:])
        x = torch.cat([change, when], dim=1)
        for convolution in self._convolutions:
            x = silu(convolution(x))
        return self._read(silu(self._joined(x.mean((2, 3)))))

    @torch.no_grad()
    def read(self, pairs: FramePairs) -> Float32[np.ndarray, "n D"]:
        """The same in blocks, as an array."""
        blocks = zip(pairs.before.split(256), pairs.after.split(256), pairs.gaps.split(256), strict=True)
        return torch.cat([self(*block) for block in blocks]).numpy()

    def normalised(self, actions: Float32[np.ndarray, "n D"]) -> Float32[np.ndarray, "n D"]:
        """Mean actions in units of their deviation in the demonstrations."""
        return ((actions - self.mean) / self.deviation).astype(np.float32)


def fit(demonstrations: Sequence[Demonstration], gaps: Sequence[int], seed: int) -> tuple[InverseDynamics, Trust]:
    """Trains on four demonstrations in five and measures on the fifth.

    Args:
        demonstrations: those without actions, or shorter than the longest gap, are left out.
        gaps: control steps between the frames that will be read.
        seed: of weights and batches.

    Raises:
        UserError: fewer than two are left.
    """
    usable = [shown for shown in demonstrations if shown.actions is not None and len(shown.codes) > max(gaps)]
    if len(usable) < 2:
        raise UserError(
            f"{len(usable)} successful demonstrations have actions and more than {max(gaps)} steps; it takes 2"
        )
    held = set(range(0, len(usable), HELD_OUT))
    taught, unseen = (
        intervals([shown for index, shown in enumerate(usable) if (index in held) == out], gaps)
        for out in (False, True)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        reader = InverseDynamics(taught)
        _train(reader, taught)
    return reader, _measure(reader, unseen)


def intervals(demonstrations: Sequence[Demonstration], gaps: Sequence[int]) -> FramePairs:
    """Intervals of these lengths from all over the demonstrations, at most about `MOST`."""
    starts = sum(len(shown.codes) for shown in demonstrations) * len(gaps)
    every = max(1, -(-starts // MOST))
    before, after, lengths, actions = [], [], [], []
    for shown in demonstrations:
        if shown.actions is None:
            continue
        total = np.concatenate([np.zeros((1, shown.actions.shape[1])), shown.actions.cumsum(0, dtype=np.float64)])
        for gap in gaps:
            start = np.arange(0, len(shown.codes) - gap, every)
            before.append(shown.codes[start])
            after.append(shown.codes[start + gap])
            lengths.append(torch.full((len(start),), gap))
            actions.append((total[start + gap] - total[start]) / gap)
    return FramePairs(
        torch.cat(before), torch.cat(after), torch.cat(lengths), np.concatenate(actions).astype(np.float32)
    )


def _train(reader: InverseDynamics, pairs: FramePairs) -> None:
    wanted = torch.from_numpy(reader.normalised(pairs.actions))
    optimiser = torch.optim.AdamW(reader.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, RATE, total_steps=STEPS)
    for _ in progress_bar(range(STEPS), desc="inverse dynamics", unit="step"):
        chosen = torch.randint(len(wanted), (BATCH,))
        optimiser.zero_grad()
        mse_loss(reader(pairs.before[chosen], pairs.after[chosen], pairs.gaps[chosen]), wanted[chosen]).backward()
        optimiser.step()
        schedule.step()
    reader.eval().requires_grad_(False)


def _measure(reader: InverseDynamics, unseen: FramePairs) -> Trust:
    wanted = reader.normalised(unseen.actions)
    wrong, constant = ((reader.read(unseen) - wanted) ** 2).mean(0), (wanted**2).mean(0)
    spread = wanted.var(0)
    varies = spread > 1e-6
    explained = np.where(varies, 1 - wrong / np.where(varies, spread, 1), np.nan)
    error, still = (float(np.sqrt(each[varies].mean())) if varies.any() else 0.0 for each in (wrong, constant))
    return Trust(error, still, explained)
