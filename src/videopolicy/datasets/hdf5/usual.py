"""Which of the stored episodes fit together: what most of them are is usual, and the odd ones are left out."""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace

from videopolicy.datasets.hdf5.stored import StoredEpisode
from videopolicy.datasets.hdf5.told import Told, listed

_REMEDY = "to use it, make it a data set of its own"


def keep_usual(found: Sequence[StoredEpisode], told: Told) -> list[StoredEpisode]:
    """Those that have the same views, widths, meanings and rate as most; of each, only what all of them have.

    Images of one view may differ in size between files of several episodes, as a conversion brings them to one.

    Args:
        found: all that can be read; where two kinds are equally common, the first one's is usual.
        told: is told of each that is left out, and of the views that only some have.
    """
    kept = _agreeing(found, _views, lambda one, usual: _lacks(one, usual), told)
    kept = _cut_to_usual_views(kept, told)
    kept = _agreeing(kept, lambda one: one.action_width, _other_width, told, lambda one: one.acts)
    kept = _agreeing(kept, lambda one: one.action_layout, _other_meaning, told, lambda one: one.acts)
    kept = _agreeing(kept, lambda one: one.states, _other_states, told)
    kept = _cut_to_usual_states(kept)
    kept = _agreeing(kept, lambda one: one.fps, _other_rate, told)
    left: list[StoredEpisode] = []
    for place in dict.fromkeys(_place(one) for one in kept):
        left += _agreeing([one for one in kept if _place(one) == place], _sizes, _other_size, told)
    return left


def _agreeing(
    found: Sequence[StoredEpisode],
    trait: Callable[[StoredEpisode], Hashable],
    differs: Callable[[StoredEpisode, StoredEpisode], str],
    told: Told,
    asked: Callable[[StoredEpisode], bool] = lambda one: True,
) -> list[StoredEpisode]:
    """Those of the most common trait, and those that are not asked for it; of the others it is told how they differ."""
    counts = Counter(trait(one) for one in found if asked(one))
    if len(counts) < 2:
        return list(found)
    usual = counts.most_common(1)[0][0]
    example = next(one for one in found if asked(one) and trait(one) == usual)
    kept: list[StoredEpisode] = []
    for one in found:
        why = differs(one, example) if asked(one) and trait(one) != usual else ""
        if why:
            told.of_episode("left out", one.file, one.name, f"{why}; {_REMEDY}", one.number)
        else:
            kept.append(one)
    return kept


def _views(one: StoredEpisode) -> frozenset[str]:
    return frozenset(one.cameras)


def _lacks(one: StoredEpisode, usual: StoredEpisode) -> str:
    """What it lacks; "" if it has all, and more."""
    missing = [view for view in usual.cameras if view not in one.cameras]
    keys = {usual.cameras[view].key.split("/")[-1] for view in missing}
    instead = [said for said in one.others if said.split(" (")[0] in keys]
    why = f"lacks the view {listed(missing)}, which the others have" if missing else ""
    return f"{why}, but has {listed(instead)}" if instead else why


def _cut_to_usual_views(found: Sequence[StoredEpisode], told: Told) -> list[StoredEpisode]:
    if not found:
        return []
    usual = [view for view in found[0].cameras if all(view in one.cameras for one in found)]
    cut: list[StoredEpisode] = []
    for one in found:
        spare = [view for view in one.cameras if view not in usual]
        if spare:
            told.of_episode("unused", one.file, one.name, f"the view {listed(spare)} is not read, as most lack it")
        cut.append(replace(one, cameras={view: one.cameras[view] for view in usual}))
    return cut


def _other_width(one: StoredEpisode, usual: StoredEpisode) -> str:
    return f"its actions are {one.action_width} wide, those of the others {usual.action_width}"


def _other_meaning(one: StoredEpisode, usual: StoredEpisode) -> str:
    mine, theirs = (layout or "unspecified" for layout in (one.action_layout, usual.action_layout))
    return f"the meaning of its actions is {mine}, that of the others {theirs}"


def _other_states(one: StoredEpisode, usual: StoredEpisode) -> str:
    """How its states differ; "" if it has all that are usual, and more."""
    if set(usual.states) <= set(one.states):
        return ""
    mine, theirs = (listed([str(column) for column in each.states]) or "none" for each in (one, usual))
    return f"its states are {mine}, those of the others {theirs}"


def _cut_to_usual_states(found: Sequence[StoredEpisode]) -> list[StoredEpisode]:
    fewest = min(found, key=lambda one: len(one.states), default=None)
    if fewest is None:
        return []
    cut: list[StoredEpisode] = []
    for one in found:
        spare = tuple(column for column in one.states if column not in fewest.states)
        states = tuple(column for column in one.states if column in fewest.states)
        others = one.other_states + spare
        cut.append(replace(one, states=states, state_layout=fewest.state_layout, other_states=others))
    return cut


def _other_rate(one: StoredEpisode, usual: StoredEpisode) -> str:
    return f"it has {one.fps:g} steps a second, the others {usual.fps:g}"


def _place(one: StoredEpisode) -> object:
    return one.file if one.name else None


def _sizes(one: StoredEpisode) -> tuple[tuple[int, int], ...]:
    return tuple(camera.size for camera in one.cameras.values())


def _other_size(one: StoredEpisode, usual: StoredEpisode) -> str:
    for view, camera in one.cameras.items():
        height, width = camera.size
        high, wide = usual.cameras[view].size
        if (height, width) != (high, wide):
            return f"its view {view} has {width}x{height} pixels, that of the others {wide}x{high}"
    return ""
