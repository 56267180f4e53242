"""Several data sets to train on together: a list of them as a TOML file, and what makes them fit one model.

```toml
[[data]]
path = "robot"            # beside this file, or absolute
format = "lerobot"        # may be left out
weight = 2.0              # share of the training clips, in any unit; left out everywhere: their numbers of clips
views = {corner2 = "top"} # the model's view = the data set's own
actions = false           # video only; true if left out
actions_for = ["push"]    # instead: tasks that keep their actions
actions_of = [0, 3, 7]    # or: episodes that keep them, by their numbers; with actions_for, both must hold
min_confidence = 0.8      # of actions that `videopolicy label` read from video, those that are kept; recorded ones are
action_columns = ["arm"]  # see `videopolicy.datasets.reading`; state_columns, mask, swap_red_blue likewise
```
"""

import shlex
import tomllib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from videopolicy.configs import from_json
from videopolicy.datasets.base import SAME_RATE, Dataset
from videopolicy.datasets.formats import open_any
from videopolicy.datasets.notes import numbered
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.datasets.transforms.action_layout import LayoutConverted
from videopolicy.datasets.transforms.select import Selection
from videopolicy.errors import UserError, unknown
from videopolicy.types import Frames


@dataclass(frozen=True)
class MixtureEntry:
    """What a list says of one data set; the module's docstring shows it.

    Attributes:
        path: where it lies, from the list's own folder.
        format: a name from `videopolicy.datasets`; None looks at what is there.
        weight: its share of the training clips, in any unit; None for its number of clips.
        views: the model's view -> the data set's own; None leaves them as they are.
        actions: whether any episode keeps its actions.
        actions_for: the tasks or instructions whose episodes do; None for all.
        actions_of: the numbers of the episodes that do; None for all.
        min_confidence: of episodes whose actions were read from video, the least of those that keep them; None for all.
        action_columns: see `videopolicy.datasets.reading.Reading`.
        state_columns: the same.
        mask: the same.
        swap_red_blue: the same.
    """

    path: str
    format: str | None = None
    weight: float | None = None
    views: dict[str, str] | None = None
    actions: bool = True
    actions_for: tuple[str, ...] | None = None
    actions_of: tuple[int, ...] | None = None
    min_confidence: float | None = None
    action_columns: tuple[str, ...] = ()
    state_columns: tuple[str, ...] = ()
    mask: str | None = None
    swap_red_blue: bool = False

    def __post_init__(self) -> None:
        if self.weight is not None and not 0 < self.weight < float("inf"):
            raise UserError(f"weight is {self.weight}; it must be above 0")
        if self.min_confidence is not None and not 0 <= self.min_confidence <= 1:
            raise UserError(f"min_confidence is {self.min_confidence}; a confidence is from 0 to 1")
        for key in ("actions_for", "actions_of", "min_confidence"):
            if not self.actions and getattr(self, key) is not None:
                raise UserError(f"actions = false and {key} exclude each other")


@dataclass(frozen=True)
class Mixture:
    """A list of data sets, as its file has it."""

    data: tuple[MixtureEntry, ...] = ()

    def __post_init__(self) -> None:
        if not self.data:
            raise UserError('lists no data sets; each begins with a line [[data]], then path = "FOLDER"')


@dataclass(frozen=True)
class Source:
    """A data set in a mixture.

    Attributes:
        dataset: what it shows.
        name: what it is called, different from the others' names.
        weight: its share of the training clips, in any unit; None for its number of clips, and then for all sources.
        view_map: the model's view -> its own, as the list says that it is from; None if it was given directly.
        strict: whether it is refused if anything of it cannot be read.
    """

    dataset: Dataset
    name: str
    weight: float | None = None
    view_map: Mapping[str, str] | None = None
    strict: bool = False


def open_sources(paths: Sequence[Path], format: str | None = None, reading: Reading = AS_IT_IS) -> tuple[Source, ...]:
    """The data sets at these paths; a .toml file lists others.

    Args:
        paths: at least one.
        format: of every path that is no list; None looks at what is there.
        reading: of every path that is no list; whether it is strict holds for all.

    Raises:
        UserError: what `read_mixture` or `videopolicy.datasets.formats.open_any` refuse; weights for only some.
    """
    sources: list[Source] = []
    if all(map(is_list, paths)) and (format, replace(reading, strict=False)) != (None, AS_IT_IS):
        raise UserError(
            f"{paths[0]}: a list says of each data set how it is read; write format, action_columns, state_columns, "
            "mask and swap_red_blue into its entries, and leave the options out"
        )
    for path in paths:
        if is_list(path):
            sources += read_mixture(path, reading.strict)
        else:
            sources.append(Source(open_any(path, format, reading), path.resolve().name, strict=reading.strict))
    named = tuple(replace(source, name=name) for source, name in zip(sources, _different(sources), strict=True))
    by_kind = {source.weight is None: source.name for source in reversed(named)}
    if len(by_kind) > 1:
        raise UserError(f"{by_kind[False]} has a weight and {by_kind[True]} none; give all data sets one, or none")
    return named


def is_list(path: Path) -> bool:
    """Whether a path is that of a list of data sets, and not of one."""
    return path.suffix == ".toml"


def read_mixture(path: Path, strict: bool = False) -> tuple[Source, ...]:
    """The data sets that a TOML file lists, each with its own view map, and with or without actions.

    Args:
        path: the file.
        strict: refuse a data set of which anything cannot be read, or not as its files say.

    Raises:
        UserError: no such file, no TOML, an entry that is unknown or of another type, or a data set that cannot be
            opened; the message names the file.
    """
    try:
        listed = tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        hint = 'texts need quotes, as in path = "robot"'
        raise UserError(f"{path}: not a readable list of data sets ({error}); {hint}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not a readable list of data sets ({error})") from error
    mixture = from_json(Mixture, listed, file=path)
    return tuple(_source(path, index, entry, strict) for index, entry in enumerate(mixture.data))


def actions_for(sources: Sequence[Source], tasks: Collection[str]) -> tuple[Source, ...]:
    """The same data sets, of which only these tasks keep their actions: the others are video.

    Args:
        sources: what is trained on.
        tasks: names of tasks, or instructions.

    Raises:
        UserError: no data set has a task of such a name.
    """
    _check_tasks(tasks, [source.dataset for source in sources])
    return tuple(replace(source, dataset=Selection(source.dataset, actions_for=tasks)) for source in sources)


def reconcile(
    sources: Sequence[Source], views: Sequence[str], size: int, action_layout: str = "", state_layout: str = ""
) -> tuple[Source, ...]:
    """The same data sets as one model sees them: their actions, and states if wanted, in one layout.

    Args:
        sources: what is trained on.
        views: the model's.
        size: pixels of a side of its images.
        action_layout: that its actions are in; "" takes that of the first data set with actions that names one.
        state_layout: that its states are in; "" leaves them as they are.

    Raises:
        UserError: a data set is empty, has another rate, lacks a view, has images of another size or actions that
            cannot be converted; the message says how to mend it.
    """
    for source in sources:
        if not len(source.dataset):
            raise UserError(f"{source.dataset.path}: no episodes; record some with `videopolicy record`")
        _check_views(source, views, alone=len(sources) == 1)
        _check_rate_and_size(source.dataset, sources[0].dataset, views, size)
    acting = [source.dataset for source in sources if source.dataset.action_width is not None]
    _check_named(acting, "action", action_layout)
    if state_layout:
        _check_named([dataset for dataset in acting if dataset.state_width is not None], "state", state_layout)
    target = action_layout or next((dataset.action_layout for dataset in acting if dataset.action_layout), "")
    fitting = tuple(replace(source, dataset=_converted(source.dataset, target, state_layout)) for source in sources)
    _check_widths([source.dataset for source in fitting])
    return fitting


def _source(path: Path, index: int, entry: MixtureEntry, strict: bool) -> Source:
    folder = path.parent / entry.path
    own = {name: getattr(entry, name) for name in ("action_columns", "state_columns", "mask", "swap_red_blue")}
    reading = Reading(**own, strict=strict)
    dataset = open_any(folder, entry.format, reading)
    tasks = entry.actions_for if entry.actions else ()
    _check_tasks(tasks or (), [dataset])
    if entry.actions_of is not None:
        _check_numbers(f"{path}: data[{index}].actions_of", entry.actions_of, dataset)
    chosen = (tasks, entry.actions_of, entry.min_confidence)
    plain = entry.views is None and chosen == (None, None, None)
    shown = dataset if plain else Selection(dataset, entry.views, *chosen)
    return Source(shown, folder.resolve().name, entry.weight, entry.views or {}, strict)


def _different(sources: Sequence[Source]) -> list[str]:
    """The sources' names, numbered where one occurs again."""
    names: list[str] = []
    for source in sources:
        tries = (source.name if count == 1 else f"{source.name}-{count}" for count in range(1, len(sources) + 1))
        names.append(next(name for name in tries if name not in names))
    return names


def _check_tasks(tasks: Collection[str], datasets: Sequence[Dataset]) -> None:
    known = {instruction for dataset in datasets for instruction in dataset.tasks}
    if set(tasks) <= known:
        return
    # Their names are with the episodes, which takes longer to look up.
    for dataset in datasets:
        for index in range(len(dataset)):
            with suppress(UserError):
                known |= {dataset.episode(index, (), 0, 1).task} - {""}
    for task in tasks:
        if task not in known:
            raise unknown("task", task, known)


def _check_numbers(where: str, numbers: Sequence[int], dataset: Dataset) -> None:
    """Refuses what are not numbers of different episodes of a data set."""
    known = [dataset.number(index) for index in range(len(dataset))]
    if not numbers:
        raise UserError(f"{where} names no episode; if none keeps its actions, write actions = false")
    for number in numbers:
        if number not in known:
            raise UserError(f"{where} has {number}, but the data set has {numbered(known)}")
        if numbers.count(number) > 1:
            raise UserError(f"{where} names episode {number} twice")


def _check_views(source: Source, views: Sequence[str], alone: bool) -> None:
    dataset, given = source.dataset, source.view_map or {}
    missing = [view for view in views if view not in dataset.views]
    if not missing:
        return
    # The policy's names may be a preset's, of which a user with one data set has never heard.
    if alone and source.view_map is None:
        lost = [note.text for note in dataset.notes if note.kind == "left out" and repr(missing[0]) in note.text]
        own = f"name the data set's own (--views {shlex.join(dataset.views)}), or say in a list which is meant"
        raise UserError(f"{dataset.path}: {unknown('view', missing[0], dataset.views)}; {(*lost, own)[0]}")
    spare = iter([view for view in dataset.views if view not in views])
    theirs = {ours: given.get(ours, ours) for ours in views if ours not in missing}
    theirs |= {ours: given.get(other, other) for ours, other in zip(missing, spare, strict=False)}
    pairs = ", ".join(f'{ours} = "{theirs.get(ours, "THEIRS")}"' for ours in views)
    wrong = f"its view map names {', '.join(given)}; the policy wants {missing[0]}"
    raise UserError(
        f"{dataset.path}: {wrong if given else unknown('view', missing[0], dataset.views)}; "
        f"write in the list which is meant, perhaps views = {{{pairs}}}"
    )


def _check_rate_and_size(dataset: Dataset, first: Dataset, views: Sequence[str], size: int) -> None:
    """Looks at one frame; episodes with others of another size are left out when they are read."""
    wrong, options = [], ""
    for view, frames in _first_frames(dataset, views).items():
        height, width = frames.shape[1:3]
        if (height, width) != (size, size) and not options:
            wrong.append(f"view {view!r} is {width}x{height} pixels, but the policy sees {size}x{size}")
            options = f" --size {size}"
    if abs(dataset.fps - first.fps) > SAME_RATE * first.fps:
        wrong.append(f"{dataset.fps:g} control steps a second, but {first.path} has {first.fps:g}")
        options += f" --fps {first.fps:g}"
    if wrong:
        command = f"videopolicy convert {shlex.quote(str(dataset.path))} DST{options}"
        raise UserError(f"{dataset.path}: {'; '.join(wrong)}; bring it to that with `{command}`")


def _first_frames(dataset: Dataset, views: Sequence[str]) -> Mapping[str, Frames]:
    """Of the first episode that can be read."""
    first: UserError | None = None
    for index in range(len(dataset)):
        try:
            return dataset.episode(index, views, 0, 1).views
        except UserError as error:
            first = first or error
    raise UserError(f"{dataset.path}: none of its {len(dataset)} episodes can be read: {first}")


def _check_named(acting: Sequence[Dataset], kind: Literal["action", "state"], learnt: str) -> None:
    """Refuses values whose layout is unspecified beside specified ones, or for a policy whose layout is specified."""
    layouts = [(dataset, dataset.action_layout if kind == "action" else dataset.state_layout) for dataset in acting]
    named = {f"those of {dataset.path} are": layout for dataset, layout in layouts if layout}
    known = {"the policy's are": learnt} if learnt else named
    for dataset, own in layouts:
        if known and not own:
            (whose, layout), *_ = known.items()
            command = f"videopolicy convert {shlex.quote(str(dataset.path))} DST --{kind}-layout"
            raise UserError(
                f"{dataset.path}: the layout of its {kind}s is unspecified, {whose} {layout!r}; "
                f'if they mean the same, say so: `{command} "{layout}"`'
            )


def _converted(dataset: Dataset, action_layout: str, state_layout: str) -> Dataset:
    """In these layouts, where there are actions and the data set says what its own are."""
    if dataset.action_width is None:
        return dataset
    actions = action_layout if dataset.action_layout else ""
    states = state_layout if dataset.state_layout else ""
    if actions in ("", dataset.action_layout) and states in ("", dataset.state_layout):
        return dataset
    return LayoutConverted(dataset, actions, states)


def _check_widths(datasets: Sequence[Dataset]) -> None:
    acting = [dataset for dataset in datasets if dataset.action_width is not None]
    for dataset in acting:
        if dataset.action_width != acting[0].action_width:
            raise UserError(
                f"{dataset.path}: its actions are {dataset.action_width} wide, those of {acting[0].path} "
                f"{acting[0].action_width}; train on its video alone (actions = false in the list), or convert it"
            )
