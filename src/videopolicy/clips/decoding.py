"""Blocks of frames, decoded and jittered, by as many processes as there are cores for it."""

from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from videopolicy.clips.augment import ColorJitter
from videopolicy.clips.windows import Window
from videopolicy.datasets.base import SAME_RATE, Dataset
from videopolicy.errors import UserError
from videopolicy.processes import ordered_map
from videopolicy.processors import processors
from videopolicy.types import Episode, Frames

# Fewer frames than this are decoded before another process has started.
WORTH_A_PROCESS = 4000


@dataclass(frozen=True)
class Block:
    """Control steps start to stop - 1 of an episode."""

    episode: int
    start: int
    stop: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class Decoded:
    """What a block holds.

    Attributes:
        block: which.
        frames: of every view, of every copy; also those past the block that its windows hold.
        episode: what else is known of the block's steps; without frames.
    """

    block: Block
    frames: tuple[tuple[Frames, ...], ...]
    episode: Episode


@dataclass(frozen=True)
class Decoding:
    """What is decoded, and how often each frame is jittered.

    Attributes:
        dataset: the demonstrations.
        views: which of them, in this order.
        copies: versions of every frame: the first as recorded, the others jittered.
        jitter: how far; drawn once for each episode, view and copy.
        seed: of those draws.
        window: whose frames are needed of every step that begins one; None for the step's own frame alone.
    """

    dataset: Dataset
    views: tuple[str, ...]
    copies: int = 1
    jitter: ColorJitter | None = None
    seed: int = 0
    window: Window | None = None

    def __call__(self, block: Block) -> Decoded:
        """Decodes and jitters one block."""
        beyond = self.beyond(block)
        episode = self.dataset.episode(block.episode, self.views, block.start, block.stop + beyond)
        if abs(episode.fps - self.dataset.fps) > SAME_RATE * self.dataset.fps:
            raise UserError(
                f"{self.dataset.path}: episode {block.episode} has {episode.fps:g} frames a second, most have "
                f"{self.dataset.fps:g}; bring all to one rate with `videopolicy convert --fps {self.dataset.fps:g}`"
            )
        frames = tuple(
            tuple(self._jittered(episode.views[view], copy, block.episode, v) for copy in range(self.copies))
            for v, view in enumerate(self.views)
        )
        actions, states = (
            None if values is None else values[: len(values) - beyond] for values in (episode.actions, episode.states)
        )
        return Decoded(block, frames, Episode({}, episode.instruction, episode.fps, actions, states, episode.task))

    def beyond(self, block: Block) -> int:
        """Control steps past a block, within its episode, that the windows beginning in the block reach."""
        if self.window is None:
            return 0
        return max(0, min(self.window.reach, self.dataset.length(block.episode) - block.stop))

    def _jittered(self, frames: Frames, copy: int, episode: int, view: int) -> Frames:
        if copy == 0 or self.jitter is None:
            return frames
        rng = np.random.default_rng([self.seed, copy, episode, view])
        return self.jitter.draw(rng).apply(frames)


def usable_workers(frames: int) -> int:
    """Processes that are worth their start for so many frames: one a core, fewer for little data."""
    return max(1, min(processors(), frames // WORTH_A_PROCESS))


def decode(decoding: Decoding, blocks: Sequence[Block], workers: int) -> Generator[Decoded, None, None]:
    """The blocks in their order; memory holds one more of them than there are workers.

    Args:
        decoding: what to do with each.
        blocks: which.
        workers: processes; with one, this process does it itself.

    Raises:
        UserError: a process died, or what the data set says of a block that it cannot read.
    """
    if workers == 1:
        yield from map(decoding, blocks)
        return

    def lost(block: Block, ending: str) -> str:
        return (
            f"{decoding.dataset.path}: the process that decoded episode {block.episode} died ({ending}), often for "
            "lack of memory; what was encoded before is kept, so give the same command again"
        )

    with closing(ordered_map(decoding, blocks, workers, lost, ahead=workers + 1)) as decoded:
        yield from decoded
