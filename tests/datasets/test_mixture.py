from pathlib import Path

import numpy as np
import pytest
from tests.datasets.lerobot.test_columns import split_columns

from videopolicy.actions.convert import convert
from videopolicy.actions.layout import Layout
from videopolicy.datasets.formats import open_any
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.datasets.mixture import actions_for, open_sources, read_mixture, reconcile
from videopolicy.datasets.reading import Reading
from videopolicy.errors import UserError
from videopolicy.types import Episode

SIZE = 16


def write(path: Path, views=("top",), width=2, fps=10, layout="", size=SIZE, tasks=("push", "pull")) -> Path:
    """One short episode of each task."""
    rng = np.random.default_rng(len(path.name))
    with Writer(path, fps, views, action_layout=layout) as writer:
        for task in tasks:
            frames = {view: rng.integers(256, size=(4, size, size, 3), dtype=np.uint8) for view in views}
            actions = rng.uniform(0.1, 1, (4, width)).astype(np.float32) if width else None
            writer.add(Episode(frames, f"{task} the cube", fps, actions, task=f"{task}-v1"))
    return path


@pytest.fixture
def listed(tmp_path):
    """Writes a list of data sets; each entry as TOML takes it."""

    def writer(*entries: str) -> Path:
        path = tmp_path / "mixture.toml"
        path.write_text("\n".join(f"[[data]]\n{entry}" for entry in entries), encoding="utf-8")
        return path

    return writer


def test_a_list_names_weights_views_and_what_keeps_its_actions(listed, tmp_path):
    write(tmp_path / "robot")
    write(tmp_path / "hands", views=("left", "right"))
    sources = read_mixture(
        listed(
            'path = "robot"\nformat = "lerobot"\nweight = 2\nactions_for = ["push-v1"]',
            'path = "hands"\nweight = 0.5\nviews = {top = "right"}\nactions = false',
        )
    )
    assert [(source.name, source.weight) for source in sources] == [("robot", 2.0), ("hands", 0.5)]
    robot, hands = (source.dataset for source in sources)
    assert [robot.episode(index).actions is not None for index in (0, 1)] == [True, False]
    assert hands.views == ("top",) and hands.action_width is None
    assert hands.episode(0).actions is None
    assert [source.dataset.path for source in reconcile(sources, ("top",), SIZE)] == [robot.path, hands.path]


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("actions_of = [1]", [1]),
        ('actions_of = [0, 1]\nactions_for = ["push-v1"]', [0]),
        ("actions_of = [1, 0]", [0, 1]),
    ],
)
def test_a_list_says_which_episodes_keep_their_actions(listed, tmp_path, setting, expected):
    write(tmp_path / "robot")
    (source,) = read_mixture(listed(f'path = "robot"\n{setting}'))
    assert [index for index in (0, 1) if source.dataset.episode(index).actions is not None] == expected
    assert source.dataset.action_width == 2


def test_a_list_says_how_its_data_sets_are_read(listed, tmp_path):
    split_columns(write(tmp_path / "robot"), "action", {"action.a": (0, 1), "action.b": (1, 2)})
    (bare,) = read_mixture(listed('path = "robot"'))
    assert bare.dataset.action_width is None and not bare.strict
    (joined,) = read_mixture(listed('path = "robot"\naction_columns = ["action.b", "action.a"]'), strict=True)
    assert joined.strict and joined.dataset.action_width == 2
    write(tmp_path / "equal")
    own = open_any(tmp_path / "equal").episode(1).actions
    np.testing.assert_array_equal(joined.dataset.episode(1).actions, own[:, ::-1])
    with pytest.raises(UserError, match="no column is called action"):
        read_mixture(listed('path = "robot"'), strict=True)
    for wrong in ('mask = "train"', "swap_red_blue = true"):
        with pytest.raises(UserError, match="has no meaning for a data set of this format"):
            read_mixture(listed(f'path = "robot"\n{wrong}'))


def test_data_sets_and_lists_of_them_go_together(listed, tmp_path):
    write(tmp_path / "robot")
    inner = listed('path = "robot"')
    sources = open_sources([tmp_path / "robot", inner])
    assert [source.name for source in sources] == ["robot", "robot-2"]
    assert {source.weight for source in sources} == {None}


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([], "lists no data sets"),
        (["weight = 1"], "data[0].path is missing; it takes a text"),
        (['path = "robot"\nweigth = 1'], "data[0]: no field 'weigth'; did you mean 'weight'"),
        (['path = "robot"\nweight = 0'], "data[0]: weight is 0.0; it must be above 0"),
        (['path = "robot"\nweight = inf'], "weight is inf; it takes a finite number"),
        (['path = "robot"\nweight = true'], "data[0].weight is true; it takes a number"),
        (['path = "robot"\nviews = ["top"]'], 'data[0].views is ["top"]; it takes a map, each value a text'),
        (['path = "robot"\nweight = "two"'], 'data[0].weight is "two"; it takes a number'),
        (['path = "robot"\nviews = "front"'], 'data[0].views is "front"; it takes a map'),
        (["path = robot"], 'texts need quotes, as in path = "robot"'),
        (['path = "robot"\nviews = {top = 1}'], "data[0].views.top is 1; it takes a text"),
        (['path = "robot"\nactions = false\nactions_for = ["push-v1"]'], "exclude each other"),
        (['path = "robot"\nactions = false\nactions_of = [0]'], "actions = false and actions_of exclude each other"),
        (['path = "robot"\nactions_of = []'], "names no episode; if none keeps its actions, write actions = false"),
        (['path = "robot"\nactions_of = [0, 1.0]'], "data[0].actions_of[1] is 1.0; it takes a whole number"),
        (['path = "robot"\nactions_of = [true]'], "data[0].actions_of[0] is true; it takes a whole number"),
        (['path = "robot"\nactions_of = [-1]'], "has -1, but the data set has episodes 0-1"),
        (['path = "robot"\nactions_of = [2]'], "has 2, but the data set has episodes 0-1"),
        (['path = "robot"\nactions_of = [1, 0, 1]'], "data[0].actions_of names episode 1 twice"),
        (['path = "robot"\nactions_of = 1'], "data[0].actions_of is 1; it takes a list, each item a whole number"),
        (['path = "robot"\nactions_for = ["psh-v1"]'], "no task 'psh-v1'; did you mean 'push-v1'"),
        (['path = "robot"\nviews = {top = "tpo"}'], "no view 'tpo'; did you mean 'top'"),
        (['path = "nowhere"'], "nowhere: no such data set"),
        (
            ['path = "robot"', 'path = "robot"\nweight = 1'],
            "robot-2 has a weight and robot none; give all data sets one, or none",
        ),
        (['path = "robot"\n[extra]'], "no field 'extra'"),
        (["path = "], "not a readable list of data sets"),
        (['path = "robot"\nformat = 3'], "data[0].format is 3; it takes a text"),
        (['path = "robot"\nactions = "no"'], 'data[0].actions is "no"; it takes true or false'),
        (['path = "robot"', 'path = "robot"\nweight = -1'], "data[1]: weight is -1.0; it must be above 0"),
    ],
)
def test_a_list_that_is_wrong_is_refused_by_what_is_wrong(listed, tmp_path, entries, message):
    write(tmp_path / "robot")
    with pytest.raises(UserError) as refusal:
        open_sources([listed(*entries)])
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"nothing\.toml: not a readable list"):
        open_sources([tmp_path / "nothing.toml"])


def kept(sources):
    """Instruction and task of every episode that has actions, by batch and not by flag."""
    episodes = [source.dataset.episode(index) for source in sources for index in range(len(source.dataset))]
    return {(episode.instruction, episode.task) for episode in episodes if episode.actions is not None}


@pytest.mark.parametrize("name", ["push-v1", "push the cube"])
def test_only_the_tasks_that_are_named_keep_their_actions(tmp_path, name):
    sources = open_sources([write(tmp_path / "one"), write(tmp_path / "another", tasks=("pull",))])
    assert kept(actions_for(sources, [name])) == {("push the cube", "push-v1")}
    with pytest.raises(UserError, match="no task 'push-v2'; did you mean 'push-v1'"):
        actions_for(sources, ["push-v2"])


def both(tmp_path, **other):
    return open_sources([write(tmp_path / "first"), write(tmp_path / "second", **other)])


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"fps": 30}, "second: 30 control steps a second, but .*first has 10.* convert .*second DST --fps 10`"),
        ({"views": ("front",)}, "second: no view 'top'; known: front; .* views = {top = \"front\"}"),
        (
            {"size": 24},
            "second: view 'top' is 24x24 pixels, but the policy sees 16x16; .* convert .*second DST --size 16`",
        ),
        ({"size": 24, "fps": 20}, "24x24 .*; 20 control steps .* convert .*second DST --size 16 --fps 10`"),
        ({"width": 3}, "second: its actions are 3 wide, those of .*first 2; .*actions = false"),
    ],
)
def test_what_does_not_fit_is_refused_with_what_mends_it(tmp_path, other, message):
    with pytest.raises(UserError, match=message):
        reconcile(both(tmp_path, **other), ("top",), SIZE)


def test_one_data_set_given_as_it_is_is_trained_on_under_its_own_views(tmp_path):
    sources = open_sources([write(tmp_path / "one", views=("front", "left wrist"))])
    with pytest.raises(UserError, match=r"--views front 'left wrist'\)") as refusal:
        reconcile(sources, ("corner2",), SIZE)
    assert str(refusal.value).count("corner2") == 1


def test_a_view_map_with_a_slip_of_the_pen_is_named_and_mended(listed, tmp_path):
    write(tmp_path / "one", views=("cam", "wrist"))
    sources = open_sources([listed('path = "one"\nviews = {fornt = "cam", wrist = "wrist"}')])
    said = r"names fornt, wrist; the policy wants front; .*views = {front = \"cam\", wrist = \"wrist\"}"
    with pytest.raises(UserError, match=said):
        reconcile(sources, ("front", "wrist"), SIZE)


def test_unspecified_actions_do_not_train_beside_named_ones(listed, tmp_path):
    write(tmp_path / "pose", width=7, layout=POSE)
    write(tmp_path / "bare", width=7)
    said = f'bare: .*of .*pose are {POSE!r}.*`videopolicy convert .*bare DST --action-layout "{POSE}"`'
    for paths in (("pose", "bare"), ("bare", "pose")):
        with pytest.raises(UserError, match=said.replace("[", r"\[")):
            reconcile(open_sources([tmp_path / path for path in paths]), ("top",), SIZE)
    as_video = open_sources([listed('path = "pose"', 'path = "bare"\nactions = false')])
    assert len(reconcile(as_video, ("top",), SIZE)) == 2
    assert len(reconcile(open_sources([tmp_path / "bare"] * 2), ("top",), SIZE)) == 2


def test_unspecified_actions_do_not_train_a_policy_that_names_its_own(tmp_path):
    sources = open_sources([write(tmp_path / "unnamed", width=10)])
    with pytest.raises(
        UserError, match=r"unnamed: the layout of its actions is unspecified, the policy's are .*convert"
    ):
        reconcile(sources, ("top",), SIZE, action_layout=OTHER)


def test_video_without_actions_fits_any_width(tmp_path):
    sources = reconcile(both(tmp_path, width=0), ("top",), SIZE)
    assert [source.dataset.action_width for source in sources] == [2, None]


POSE, OTHER = "position axis_angle gripper[-1,1]", "position rotation_6d gripper[1,0]"


def test_actions_go_into_the_layout_of_the_first_that_names_one(tmp_path):
    paths = [write(tmp_path / "plain", width=0), write(tmp_path / "pose", width=7, layout=POSE)]
    sources = open_sources([*paths, write(tmp_path / "other", width=10, layout=OTHER)])
    fitting = reconcile(sources, ("top",), SIZE)
    assert [source.dataset.action_width for source in fitting] == [None, 7, 7]
    before, after = (listed[2].dataset.episode(1, (), 1, 3).actions for listed in (sources, fitting))
    np.testing.assert_array_equal(after, convert(before, Layout.parse(OTHER), Layout.parse(POSE)))
    assert fitting[1].dataset.fingerprint == sources[1].dataset.fingerprint
    assert fitting[2].dataset.fingerprint != sources[2].dataset.fingerprint
    # What is in the layout already stays as it is.
    assert [source.dataset for source in reconcile(fitting, ("top",), SIZE)] == [s.dataset for s in fitting]


def test_a_checkpoints_layout_goes_before_the_datas(tmp_path):
    sources = open_sources([write(tmp_path / "pose", width=7, layout=POSE)])
    (converted,) = reconcile(sources, ("top",), SIZE, action_layout=OTHER)
    assert (converted.dataset.action_width, converted.dataset.action_layout) == (10, OTHER)


def test_layouts_that_mean_different_things_are_refused_with_the_reason(tmp_path):
    paths = [write(tmp_path / "pose", width=7, layout=POSE), write(tmp_path / "arm", width=7, layout="joints:7")]
    with pytest.raises(UserError, match=r"arm: its actions are 'joints:7', but .* is needed, and the one has 1 part"):
        reconcile(open_sources(paths), ("top",), SIZE)


def test_states_that_nobody_named_are_not_taken_for_the_policys(tmp_path):
    paths = []
    for name, layout in (("named", "position"), ("unnamed", "")):
        paths.append(tmp_path / name)
        with Writer(paths[-1], 10, ("top",), action_layout="position", state_layout=layout) as writer:
            values = np.ones((4, 3), np.float32)
            writer.add(Episode({"top": np.zeros((4, SIZE, SIZE, 3), np.uint8)}, "push", 10, values, values))
    sources = open_sources(paths)
    assert len(reconcile(sources, ("top",), SIZE)) == 2
    with pytest.raises(
        UserError, match=r"unnamed: the layout of its states is unspecified.*--state-layout \"position\""
    ):
        reconcile(sources, ("top",), SIZE, state_layout="position")


@pytest.mark.parametrize(("format", "reading"), [("lerobot", Reading()), (None, Reading(mask="train"))])
def test_options_that_a_list_says_itself_are_refused_beside_lists_alone(listed, tmp_path, format, reading):
    write(tmp_path / "robot")
    with pytest.raises(UserError, match="a list says of each data set how it is read; write format"):
        open_sources([listed('path = "robot"')], format, reading)
    assert len(open_sources([listed('path = "robot"')], None, Reading(strict=True))) == 1
