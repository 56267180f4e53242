import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from videopolicy import registry
from videopolicy.datasets import blocks
from videopolicy.datasets.checking import problems as kinds
from videopolicy.datasets.checking import text
from videopolicy.datasets.checking.checks import examine
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.errors import UserError
from videopolicy.types import Episode

FPS = 10
LENGTHS = (40, 46, 52, 46)


def episode(seed, length):
    """A square that wanders over a grey ground, and a hand that closes half way."""
    rng = np.random.default_rng(seed)
    frames = np.full((length, 48, 64, 3), 100, np.uint8)
    for step in range(length):
        left = 8 * seed + step // 2
        frames[step, 8 + step // 2 : 24 + step // 2, left : left + 16] = (230, 200, 40)
    gripper = np.where(np.arange(length) < length // 2, -1.0, 1.0)[:, None]
    actions = np.concatenate([rng.uniform(-1, 1, (length, 3)), gripper], 1).astype(np.float32)
    views = {"left": frames, "right": np.ascontiguousarray(frames[:, :, ::-1])}
    return Episode(views, "push the cube", FPS, actions, rng.normal(size=(length, 2)).astype(np.float32))


EPISODES = [episode(seed, length) for seed, length in enumerate(LENGTHS)]


class InMemory:
    """A data set of these episodes; keeps account of what was asked of it."""

    def __init__(self, episodes, lengths=None):
        self.path, self.fps, self.fingerprint = Path("datasets"), FPS, ""
        self.views, self.tasks, self.notes = tuple(episodes[0].views), (episodes[0].instruction,), ()
        self.action_width, self.state_width = 4, 2
        self.action_layout, self.state_layout = "delta_position gripper[-1,1]", ""
        self.episodes, self.lengths, self.asked = episodes, lengths or [len(one) for one in episodes], []

    def __len__(self):
        return len(self.episodes)

    def number(self, index):
        return index

    def length(self, index):
        return self.lengths[index]

    def episode(self, index, views=None, start=0, stop=None):
        self.asked.append((index, start, stop))
        one = self.episodes[index]
        if isinstance(one, UserError):
            raise one
        frames = {view: one.views[view][start:stop] for view in (self.views if views is None else views)}
        vectors = [None if values is None else values[start:stop] for values in (one.actions, one.states)]
        return replace(one, views=frames, actions=vectors[0], states=vectors[1])


class Knowing(InMemory):
    """Knows time stamps and ranges, too."""

    stamps = None
    declared = np.array([[-1.0] * 4, [1.0] * 4])

    def timestamps(self, index):
        return np.arange(self.lengths[index]) / FPS if self.stamps is None else self.stamps

    def declared_range(self):
        return self.declared


def spoiled(index, **how):
    """The episodes with one of them changed: field -> a function of what it was."""
    episodes = list(EPISODES)
    one = episodes[index]
    episodes[index] = replace(one, **{name: change(getattr(one, name)) for name, change in how.items()})
    return InMemory(episodes)


def put(values, where, what):
    values = values.copy()
    values[where] = what
    return values


def freeze(frames):
    return put(frames, slice(10, 30), frames[10])


def found(dataset):
    return {(problem.kind, (*problem.episodes, None)[0]) for problem in examine(dataset).problems}


def each(views, change):
    return {view: change(frames) for view, frames in views.items()}


def without_gripper_turn(dataset):
    dataset.action_layout = "delta_position gripper[1,-1]"
    return dataset


def other_range(dataset, **known):
    dataset = Knowing(dataset.episodes)
    for name, value in known.items():
        setattr(dataset, name, value)
    return dataset


def with_rate(episodes, fps):
    return InMemory([*episodes[:3], replace(episodes[3], fps=fps)])


def smaller(one):
    return replace(one, views=each(one.views, lambda frames: frames[:, :-2]))


SPOILED = {
    "NaN in the actions": (lambda: spoiled(1, actions=lambda a: put(a, (7, 2), np.nan)), {(kinds.NOT_FINITE, 1)}),
    "infinite states": (lambda: spoiled(2, states=lambda s: put(s, (-1, 0), np.inf)), {(kinds.NOT_FINITE, 2)}),
    "a frozen view": (
        lambda: spoiled(0, views=lambda v: {**v, "left": freeze(v["left"])}),
        {(kinds.FROZEN, 0)},
    ),
    "one dark frame": (
        lambda: spoiled(3, views=lambda v: {**v, "right": put(v["right"], 5, 3)}),
        {(kinds.DARK, 3)},
    ),
    "darkness in both views throughout": (
        lambda: spoiled(3, views=lambda v: each(v, lambda frames: frames * 0)),
        {(kinds.DARK, 3)},
    ),
    "the same camera twice": (lambda: spoiled(1, views=lambda v: dict.fromkeys(v, v["left"])), {(kinds.TWINS, 1)}),
    "an episode recorded twice": (lambda: InMemory([*EPISODES, EPISODES[1]]), {(kinds.COPIES, 4)}),
    "actions that never change": (
        lambda: spoiled(2, actions=lambda a: np.full_like(a, -1)),
        {(kinds.STILL, 2)},
    ),
    "a gripper beyond its ends": (lambda: spoiled(2, actions=lambda a: put(a, (9, 3), 1.5)), {(kinds.RANGE, 2)}),
    "a gripper's ends swapped": (lambda: without_gripper_turn(InMemory(EPISODES)), {(kinds.GRIPPER, None)}),
    "an episode that cannot be read": (
        lambda: InMemory([EPISODES[0], UserError("torn"), *EPISODES[2:]], LENGTHS),
        {(kinds.UNREADABLE, 1)},
    ),
    "steps missing": (lambda: InMemory(EPISODES, [40, 46, 53, 46]), {(kinds.COUNTS, 2)}),
    "actions missing": (lambda: spoiled(1, actions=lambda a: a[:-1]), {(kinds.COUNTS, 1)}),
    "a view's frames missing": (
        lambda: spoiled(1, views=lambda v: {**v, "right": v["right"][:-3]}),
        {(kinds.COUNTS, 1)},
    ),
    "another rate": (lambda: with_rate(EPISODES, 30.0), {(kinds.RATES, None)}),
    "another size": (lambda: InMemory([*EPISODES[:3], smaller(EPISODES[3])]), {(kinds.SIZES, None)}),
    "no instruction": (lambda: spoiled(0, instruction=lambda text: " "), {(kinds.UNSAID, 0)}),
    "an episode that no window fits into": (
        lambda: InMemory([*EPISODES, episode(4, kinds.WINDOW - 1)]),
        {(kinds.SHORT, 4)},
    ),
    "a jump in time": (
        lambda: other_range(InMemory(EPISODES[:1]), stamps=np.arange(40) / FPS + (np.arange(40) > 8)),
        {(kinds.TIME, 0)},
    ),
    "time that stands still": (
        lambda: other_range(InMemory(EPISODES[:1]), stamps=np.minimum(np.arange(40), 20) / FPS),
        {(kinds.TIME, 0)},
    ),
    "actions beyond what is declared": (
        lambda: other_range(InMemory(EPISODES), declared=np.array([[-1, -1, -0.5, -1], [1.0] * 4])),
        {(kinds.RANGE, n) for n in range(4)},
    ),
}


@pytest.mark.parametrize("dataset", [InMemory(EPISODES), Knowing(EPISODES)], ids=["plain", "knowing"])
def test_nothing_is_wrong_with_a_clean_set(dataset):
    assert found(dataset) == set()


@pytest.mark.parametrize("name", SPOILED)
def test_each_kind_of_spoiling_is_found_and_nothing_else(name):
    spoil, expected = SPOILED[name]
    assert found(spoil()) == expected


@pytest.mark.parametrize("layout", ["delta_position gripper[-1,1] other:2", "delta_position grip"])
def test_a_layout_of_another_width_or_of_unknown_words_is_an_error(layout):
    dataset = InMemory(EPISODES)
    dataset.action_layout = layout
    assert found(dataset) == {(kinds.LAYOUT, None)}


def test_a_still_view_is_no_problem_while_the_actions_are_still_or_only_the_hand_moves():
    def rest(actions):
        return put(actions, (slice(10, 30), slice(0, 3)), 0.25)

    assert found(spoiled(0, views=lambda v: each(v, freeze), actions=rest)) == set()


def test_the_presets_windows_need_as_many_steps_as_an_episode_that_is_not_short():
    presets = [registry.entry("presets", name) for name in registry.names("presets")]
    assert max(preset.model.window.span for preset in presets) == kinds.WINDOW
    assert found(InMemory([*EPISODES, episode(4, kinds.WINDOW)])) == set()


def test_what_is_to_be_done_is_a_command_with_the_data_sets_own_values():
    mixed = examine(with_rate([*EPISODES[:2], smaller(EPISODES[2]), EPISODES[3]], 30.0))
    mixed = replace(mixed, path=Path("my data"))
    (rates,) = (problem.detail for problem in mixed.problems if problem.kind is kinds.RATES)
    assert rates == "10 (3 episodes), 30 (1 episode)"
    assert text.remedy(kinds.RATES, mixed).endswith("videopolicy convert 'my data' DST --fps 10")
    assert text.remedy(kinds.SIZES, mixed).endswith("videopolicy convert 'my data' DST --size 46")
    for kind in (kinds.NOT_FINITE, kinds.UNREADABLE):
        assert "with --strict" in text.remedy(kind, mixed)


def test_cameras_of_nearly_the_same_rate_may_be_mixed():
    assert found(with_rate(EPISODES, FPS * 1.001)) == set()


def test_video_without_actions_is_clean_unless_nothing_ever_moves_or_it_is_there_twice():
    video = [replace(one, actions=None, states=None) for one in EPISODES]
    still = replace(video[2], views=each(video[2].views, lambda frames: put(frames, slice(None), frames[0])))
    partly = replace(video[0], views=each(video[0].views, freeze))
    dataset = InMemory([partly, video[1], video[1], still])
    dataset.action_width, dataset.state_width, dataset.action_layout = None, None, ""
    assert found(dataset) == {(kinds.COPIES, 2), (kinds.FROZEN, 3)}


@pytest.mark.parametrize("bytes_", [1, 48 * 64 * 3 * 2 * 7, 2**30])
def test_the_size_of_blocks_changes_nothing_and_is_kept(bytes_, monkeypatch):
    dataset = spoiled(0, views=lambda v: {**v, "left": freeze(put(v["left"], 5, 0))})
    expected = sorted((p.kind.name, p.detail) for p in examine(dataset).problems)
    assert len(expected) == 2
    monkeypatch.setattr(blocks, "BLOCK", bytes_)
    dataset.asked.clear()
    assert sorted((p.kind.name, p.detail) for p in examine(dataset).problems) == expected
    a_step = 48 * 64 * 3 * 2
    assert max(stop - start for _, start, stop in dataset.asked) <= max(1, bytes_ // a_step)
    steps = [step for index, start, stop in dataset.asked if index == 0 for step in range(start, stop)]
    assert steps == list(range(LENGTHS[0]))


def test_progress_counts_every_step_whatever_happens():
    dataset = InMemory([EPISODES[0], UserError("torn"), *EPISODES[2:]], LENGTHS)
    done = []
    examine(dataset, done.append)
    assert sum(done) == sum(LENGTHS)


def test_the_facts_are_those_of_the_data():
    mixed = [*EPISODES[:3], replace(EPISODES[3], actions=None, instruction="pull it")]
    findings = examine(InMemory(mixed))
    actions = np.concatenate([one.actions for one in mixed if one.actions is not None])
    np.testing.assert_array_equal(findings.actions.low, actions.min(0))
    np.testing.assert_array_equal(findings.actions.high, actions.max(0))
    assert findings.actions.constant == ()
    assert findings.steps == LENGTHS
    assert findings.seconds == pytest.approx(sum(LENGTHS) / FPS)
    assert findings.sizes == {"left": ((64, 48),), "right": ((64, 48),)}
    assert findings.instructions == {"push the cube": [0, 1, 2], "pull it": [3]}
    assert list(findings.without_actions) == [3]
    said = dict(text.facts(findings))
    assert said["without actions"] == "1 of 4 episodes, 25 % of the frames"
    assert said["view left"] == "64x48"


def test_a_dimension_that_never_changes_is_named():
    fixed = [replace(one, actions=put(one.actions, (slice(None), 1), 0.5)) for one in EPISODES]
    findings = examine(InMemory(fixed))
    assert findings.actions.constant == (1,)
    assert dict(text.dimensions(findings))["action 1"] == "always 0.5"


def test_kinds_are_told_with_the_worst_first_and_every_episode_once():
    dataset = spoiled(0, views=lambda v: each(v, freeze))
    dataset.episodes[2] = UserError("torn")
    groups = kinds.grouped(examine(dataset).problems)
    assert [kind.severity for kind in groups] == ["error", "warning"]
    assert text.headline(kinds.FROZEN, groups[kinds.FROZEN]) == "1 episode: frozen frames (episode 0)"
    assert len(groups[kinds.FROZEN]) == 2
    assert text.verdict(examine(dataset)) == "1 kind of error and 1 kind of warning in 4 episodes"


def write(path, episodes):
    with Writer(path, FPS, ("left", "right")) as writer:
        for one in episodes:
            writer.add(one)
    return path


def rewrite(dataset, column, change):
    """The data set's table of steps with one column changed."""
    file = dataset / "data" / "chunk-000" / "file-000.parquet"
    table = pq.read_table(file)
    place = table.schema.get_field_index(column)
    field = table.schema.field(place)
    pq.write_table(table.set_column(place, field, pa.array(change(table[column].to_pylist()), field.type)), file)


def test_files_after_lossy_coding_are_judged_alike(tmp_path):
    assert found(open_dataset(write(tmp_path / "clean", EPISODES))) == set()
    hung = replace(EPISODES[2], views=each(EPISODES[2].views, freeze))
    dark = replace(EPISODES[3], views=each(EPISODES[3].views, lambda frames: put(frames, slice(4, 9), 0)))
    path = write(tmp_path / "spoiled", [*EPISODES[:2], hung, dark, EPISODES[0]])
    assert found(open_dataset(path)) == {(kinds.FROZEN, 2), (kinds.DARK, 3), (kinds.COPIES, 4)}


def test_files_with_numbers_that_are_none_or_cut_short_leave_the_other_episodes(tmp_path):
    clean = write(tmp_path / "clean", EPISODES)
    spoiled = shutil.copytree(clean, tmp_path / "nan")
    bad = LENGTHS[0] + 3
    rewrite(
        spoiled, "action", lambda rows: [[*row[:3], float("nan")] if at == bad else row for at, row in enumerate(rows)]
    )
    findings = examine(open_dataset(spoiled))
    (problem,) = findings.problems
    assert problem.episodes == (1,) and problem.kind.severity == "error" and "NaN" in problem.detail
    assert findings.instructions == {"push the cube": [0, 2, 3]}


def later_from(step):
    return lambda stamps: [stamp + (row >= step) for row, stamp in enumerate(stamps)]


def test_time_stamps_of_files_that_jump_within_an_episode_are_found(tmp_path):
    path = write(tmp_path / "datasets", EPISODES)
    rewrite(path, "timestamp", later_from(LENGTHS[0] + 5))
    assert found(open_dataset(path)) == {(kinds.TIME, 1), (kinds.MENDED, 1)}


def test_actions_beyond_the_statistics_of_the_files_are_found(tmp_path):
    path = write(tmp_path / "datasets", EPISODES)
    rewrite(path, "action", lambda rows: [[9.0, *row[1:]] if at == 3 else row for at, row in enumerate(rows)])
    assert found(open_dataset(path)) == {(kinds.RANGE, 0), (kinds.OUTLIERS, 0)}


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"action": {}}', '{"action": {"min": [0]}}', '{"action": {"min": [0], "max": [1]}}']
)
def test_statistics_that_are_none_are_a_warning_and_checking_goes_on(text, tmp_path):
    path = write(tmp_path / "datasets", EPISODES[:1])
    (path / "meta" / "stats.json").write_text(text, encoding="utf-8")
    assert found(open_dataset(path)) == {(kinds.UNDECLARED, None)}
