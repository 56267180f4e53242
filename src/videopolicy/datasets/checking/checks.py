"""Looks at every frame and every action of a data set: what it holds, and what is wrong with it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32

from videopolicy.actions.layout import Layout
from videopolicy.datasets.base import SAME_RATE, Dataset
from videopolicy.datasets.checking import problems as kinds
from videopolicy.datasets.checking.actions import ActionChecks, Ranges, jump, not_finite
from videopolicy.datasets.checking.episode import Read, read
from videopolicy.datasets.checking.frames import SAME, Stretch
from videopolicy.datasets.checking.problems import Problem
from videopolicy.datasets.notes import Note, left_out, merged
from videopolicy.datasets.outliers import Outliers, Watch
from videopolicy.datasets.phrases import plural
from videopolicy.errors import UserError


@runtime_checkable
class Timed(Protocol):
    """A `Dataset` may know when its steps were recorded."""

    def timestamps(self, index: int) -> Float[np.ndarray, "N"] | None:
        """Seconds of each step of one episode; None if that is not said."""
        ...


@runtime_checkable
class Declared(Protocol):
    """A `Dataset` may come with the range of its actions."""

    def declared_range(self) -> Float[np.ndarray, "2 D"] | None:
        """The smallest and the largest value of each dimension; None if that is not said."""
        ...


@dataclass(frozen=True)
class Findings:
    """What a data set holds, and what is wrong with it.

    Attributes:
        path: where it lies.
        steps: of every episode, with those that cannot be read.
        seconds: their duration together.
        rates: frames a second -> episodes.
        sizes: view -> the sizes (width, height) of its images.
        actions: the range of each dimension; None without actions.
        state_width: S, or None.
        action_layout: what the data set says the action's dimensions mean, "" if nothing.
        layout: the same, parsed; None if it says nothing that suits the actions.
        state_layout: the same of the state.
        instructions: instruction -> the episodes that could be read.
        without_actions: those of them that have no actions.
        on_disk: how many episodes there are, with those that cannot be read.
        lost: how many cannot be read.
        unused: what is sound, and not read.
        converted: what the conversion that wrote it said, line by line.
        problems: what is wrong; what the reader left out or mended is among it.
    """

    path: Path
    steps: tuple[int, ...]
    seconds: float
    rates: Mapping[float, int]
    sizes: Mapping[str, Sequence[tuple[int, int]]]
    actions: Ranges | None
    state_width: int | None
    action_layout: str
    layout: Layout | None
    state_layout: str
    instructions: Mapping[str, Sequence[int]]
    without_actions: Sequence[int]
    on_disk: int
    lost: int
    unused: Sequence[Note]
    converted: Sequence[str]
    problems: Sequence[Problem]

    @property
    def errors(self) -> int:
        """How many problems are errors."""
        return sum(problem.kind.severity == "error" for problem in self.problems)


def examine(dataset: Dataset, progress: Callable[[int], object] = lambda steps: None) -> Findings:
    """Reads every episode once, in blocks, and goes on after those that cannot be read.

    Args:
        dataset: any data set; what it knows beyond the protocol (`Timed`, `Declared`) is checked, too.
        progress: is told how many more steps are done.
    """
    survey, lost = _CheckState(dataset), list[Note]()
    for index in range(len(dataset)):
        try:
            survey.add(index, read(dataset, index, progress))
        except UserError as error:
            lost.append(Note("left out", str(error), (dataset.number(index),)))
    survey.problems += kinds.noted(merged(lost))
    return survey.findings()


class _CheckState:
    """What is known after some of the episodes."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.problems = kinds.noted(dataset.notes)
        self._width = dataset.action_width
        self._ranges = None if self._width is None else Ranges(self._width)
        widths = {"actions": dataset.action_width, "states": dataset.state_width}
        self._watches = {name: Watch(width) for name, width in widths.items() if width}
        self._layout = self._read_layout()
        self._action_checks = ActionChecks(self._layout, self._declared())
        self._fps: dict[int, float] = {}
        self._sizes: dict[str, Counter[tuple[int, int]]] = {}
        self._instructions: dict[str, list[int]] = {}
        self._without: list[int] = []
        # What moves is known when the ranges are.
        self._still: list[tuple[int, Stretch, np.ndarray | None]] = []
        self._seen: dict[tuple[int, bytes], list[tuple[int, np.ndarray]]] = {}

    def add(self, index: int, episode: Read) -> None:
        number = self._dataset.number(index)
        self._fps[index] = round(episode.fps, 3)
        self._instructions.setdefault(episode.instruction, []).append(index)
        if not episode.instruction.strip():
            self._tell(kinds.UNSAID, "its instruction is empty", number)
        if (length := self._dataset.length(index)) < kinds.WINDOW:
            self._tell(kinds.SHORT, plural(length, "step"), number)
        if episode.actions is None:
            self._without.append(index)
        if episode.miscount:
            self._tell(kinds.COUNTS, episode.miscount, number)
        self._look_at_pictures(number, episode)
        finite = self._numbers(number, episode)
        if "actions" in finite and self._ranges is not None:
            self._ranges.add(finite["actions"])
            self.problems += self._action_checks.problems(number, finite["actions"])
        if not episode.miscount:
            for name in self._watches.keys() & finite.keys():
                self._watches[name].add(index, finite[name])
        stamps = self._dataset.timestamps(index) if isinstance(self._dataset, Timed) else None
        if stamps is not None and (wrong := jump(stamps, episode.fps)):
            self._tell(kinds.TIME, wrong, number)
        self._look_for_copies(number, episode)

    def findings(self) -> Findings:
        outliers = {name: watch.outliers(partial(self._vectors, name)) for name, watch in self._watches.items()}
        self.problems += [*self._action_checks.polarity(), *self._far_outside(outliers), *self._mixed()]
        self.problems += self._frozen(outliers.get("actions", ()))
        lengths = tuple(self._dataset.length(index) for index in range(len(self._dataset)))
        return Findings(
            self._dataset.path,
            lengths,
            sum(length / self._fps.get(index, self._dataset.fps) for index, length in enumerate(lengths)),
            self._rates,
            {view: tuple(sizes) for view, sizes in self._sizes.items()},
            self._ranges,
            self._dataset.state_width,
            self._dataset.action_layout,
            self._layout,
            self._dataset.state_layout,
            self._instructions,
            self._without,
            len(self._dataset) + left_out(self._dataset.notes),
            len({number for p in self.problems if p.kind == kinds.UNREADABLE for number in p.episodes}),
            [note for note in self._dataset.notes if note.kind == "unused"],
            [note.text for note in self._dataset.notes if note.kind == "converted"],
            self.problems,
        )

    def _read_layout(self) -> Layout | None:
        text = self._dataset.action_layout
        if not text:
            return None
        try:
            layout = Layout.parse(text)
        except UserError as error:
            self.problems.append(Problem(kinds.LAYOUT, str(error)))
            return None
        if layout.width == self._width:
            return layout
        self.problems.append(
            Problem(kinds.LAYOUT, f"{text!r} names {layout.width} dimensions, there are {self._width}")
        )
        return None

    def _declared(self) -> np.ndarray | None:
        try:
            return self._dataset.declared_range() if isinstance(self._dataset, Declared) else None
        except UserError as error:
            self.problems.append(Problem(kinds.UNDECLARED, str(error)))
            return None

    def _tell(self, kind: kinds.ProblemKind, detail: str, episode: int) -> None:
        self.problems.append(Problem(kind, detail, (episode,)))

    def _look_at_pictures(self, number: int, episode: Read) -> None:
        pictures = episode.pictures
        for view, sizes in pictures.sizes.items():
            self._sizes.setdefault(view, Counter()).update(sizes)
        for view in dict.fromkeys(stretch.view for stretch in pictures.dark):
            dark = [stretch for stretch in pictures.dark if stretch.view == view]
            count = sum(stretch.stop - stretch.start for stretch in dark)
            self._tell(kinds.DARK, f"view {view}: {count} of {episode.steps}, from step {dark[0].start} on", number)
        for stretch in pictures.still:
            meanwhile = None if episode.actions is None else episode.actions[stretch.start : stretch.stop]
            if meanwhile is not None or stretch.stop - stretch.start == episode.steps:
                self._still.append((number, stretch, meanwhile))
        for one, other in pictures.twins:
            self._tell(kinds.TWINS, f"{one} and {other}", number)

    def _numbers(self, number: int, episode: Read) -> dict[str, Float32[np.ndarray, "N W"]]:
        """The actions and the states, as far as they are numbers; says so if they are not."""
        vectors, finite = {"actions": episode.actions, "states": episode.states}, {}
        for name, values in vectors.items():
            if values is not None and (detail := not_finite(name, values)):
                self._tell(kinds.NOT_FINITE, detail, number)
            elif values is not None and len(values):
                finite[name] = values
        return finite

    def _vectors(self, name: str, index: int) -> Float32[np.ndarray, "N W"]:
        """The actions or the states of an episode once more; no picture is decoded."""
        return getattr(self._dataset.episode(index, ()), name)

    def _far_outside(self, outliers: Mapping[str, Sequence[Outliers]]) -> Iterator[Problem]:
        for name, every in outliers.items():
            for one in every:
                numbers = tuple(self._dataset.number(index) for index in one.episodes)
                yield Problem(kinds.OUTLIERS, f"dimension {one.dimension} of the {name}: {one}", numbers)

    def _look_for_copies(self, number: int, episode: Read) -> None:
        sketch = np.concatenate(episode.pictures.sketch) if episode.pictures.sketch else np.zeros(0, np.uint8)
        before = self._seen.setdefault((episode.steps, episode.digest), [])
        for other, its in before:
            if its.shape == sketch.shape and np.abs(its.astype(int) - sketch).max(initial=0) < SAME:
                self._tell(kinds.COPIES, f"the same as episode {other}", number)
                return
        before.append((number, sketch))

    def _frozen(self, outliers: Sequence[Outliers]) -> Iterator[Problem]:
        ranges = self._ranges
        usual = np.zeros(0) if ranges is None else ranges.high - ranges.low
        # Beside a value far outside, every movement would look small.
        for one in outliers:
            usual[one.dimension] = one.high - one.low
        for number, stretch, meanwhile in self._still:
            where = f"view {stretch.view} stands still from step {stretch.start} to {stretch.stop - 1}"
            if meanwhile is None:
                yield Problem(kinds.FROZEN, f"{where}, the whole episode", (number,))
            elif ranges is not None and self._action_checks.moving(meanwhile, usual, ranges.switches):
                yield Problem(kinds.FROZEN, f"{where} while the actions change", (number,))

    @property
    def _rates(self) -> Counter[float]:
        return Counter(self._fps.values())

    def _mixed(self) -> Iterator[Problem]:
        usual = self._rates.most_common(1)[0][0] if self._rates else 0.0
        if any(abs(fps - usual) > SAME_RATE * usual for fps in self._rates):
            yield Problem(
                kinds.RATES, ", ".join(f"{fps:g} ({plural(n, 'episode')})" for fps, n in self._rates.most_common())
            )
        for view, sizes in self._sizes.items():
            if len(sizes) > 1:
                said = ", ".join(
                    f"{width}x{height} ({plural(n, 'episode')})" for (width, height), n in sizes.most_common()
                )
                yield Problem(kinds.SIZES, f"view {view}: {said}")
