import hashlib

import pytest

from videopolicy import registry
from videopolicy.envs import rendering
from videopolicy.envs.libero.tasks import HORIZONS, SUITES
from videopolicy.errors import UserError
from videopolicy.rollout.protocols import ProtocolTask, load, names

GOOD = """
title = "Two discs"
env = "pointmass"
episodes = 5
execute = 4
source = "a paper"
mean = 1

[[task]]
name = "reach-red"
horizon = 40
reference = 0.5

[[task]]
name = "reach-blue"
"""


@pytest.fixture
def write(tmp_path):
    def written(text):
        (tmp_path / "discs.toml").write_text(text, encoding="utf-8")
        return str(tmp_path / "discs.toml")

    return written


def test_a_file_is_read_as_it_stands(write):
    path = write(GOOD)
    protocol = load(path)
    assert (protocol.name, protocol.title, protocol.env, protocol.source) == (
        "discs",
        "Two discs",
        "pointmass",
        "a paper",
    )
    assert (protocol.episodes, protocol.execute, protocol.mean) == (5, 4, 1)
    assert protocol.tasks == (ProtocolTask("reach-red", 40, 0.5), ProtocolTask("reach-blue"))
    assert (protocol.horizons, protocol.references) == ({"reach-red": 40}, {"reach-red": 0.5})
    assert protocol.sha256 == hashlib.sha256(GOOD.encode()).hexdigest()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('title = "Two discs"', "", r"discs.toml: title is missing; it takes a text"),
        ("episodes = 5", 'episodes = "5"', r'discs.toml: episodes is "5"; it takes a whole number'),
        ("episodes = 5", "episodes = true", r"discs.toml: episodes is true; it takes a whole number"),
        ("episodes = 5", "episodes = 0", r"discs.toml: episodes is 0; it must be from 1 to 100000"),
        ("mean = 1", "mean = 63", r"discs.toml: mean is 63.0; it must be from 0 to 1"),
        ("execute = 4", "exeucte = 4", r"discs.toml: no field 'exeucte'; did you mean 'execute'"),
        ("pointmass", "pointmas", r"discs.toml: no env 'pointmas'; did you mean 'pointmass'"),
        ("reach-blue", "reach-red", r"discs.toml: task\[1\].name is 'reach-red', which stands twice"),
        ("reference = 0.5", "reference = nan", r"discs.toml: task\[0\].reference is nan"),
        ("horizon = 40", "horizon = 40.0", r"discs.toml: task\[0\].horizon is 40.0; it takes a whole number"),
        ("horizon = 40", "steps = 40", r"discs.toml: task\[0\]: no field 'steps\'"),
        ('name = "reach-blue"', "", r"discs.toml: task\[1\].name is missing"),
        (GOOD[GOOD.index("[[task]]") :], "task = []", r"discs.toml: task is empty"),
        (GOOD[GOOD.index("[[task]]") :], "task = [1]", r"discs.toml: task\[0\] is 1; it takes a map of its fields"),
        (
            "horizon = 40",
            "seeds = [1000000, 7]",
            r"discs.toml: task\[0\].seeds\[1\] is 7; it must be from 1000000 to 4294967295",
        ),
        ("horizon = 40", "seeds = [1e6]", r"task\[0\].seeds\[0\] is 1000000.0; it takes a whole"),
        ("horizon = 40", "seeds = [true]", r"task\[0\].seeds\[0\] is true; it takes a whole"),
        ("horizon = 40", "seeds = [4294967296]", r"seeds\[0\] is 4294967296; it must be .* to 4294967295"),
        ("horizon = 40", "seeds = 1000000", r"task\[0\].seeds is 1000000; it takes a list"),
        ("horizon = 40", "seeds = [1000000, 1000001, 1000000]", r"task\[0\]: seeds has 1000000 twice"),
        (
            "horizon = 40",
            "seeds = [1000000, 1000001]",
            r"seeds lists 2, but episodes is 5; list one for each",
        ),
        ("mean = 1", "mean", r"discs.toml is no TOML: .*line 7"),
    ],
)
def test_every_mistake_is_one_line_that_names_file_and_key(write, old, new, message):
    assert old in GOOD
    with pytest.raises(UserError, match=message) as error:
        load(write(GOOD.replace(old, new)))
    assert len(str(error.value).splitlines()) == 1


def test_a_task_may_list_the_seeds_of_its_episodes(write):
    seeds = (1_000_009, 1_000_000, 2**32 - 1, 1_000_003, 1_000_004, 1_000_005)
    protocol = load(write(GOOD.replace("horizon = 40", f"seeds = {list(seeds)}")))
    assert protocol.seeds == {"reach-red": seeds}
    assert [task.seeds for task in protocol.tasks] == [seeds, ()]


def test_an_unknown_name_is_told_the_known_ones():
    with pytest.raises(UserError, match="no protocol 'mt1O'; did you mean 'mt10'"):
        load("mt1O")


@pytest.mark.parametrize("name", names())
def test_what_comes_with_the_package_names_tasks_of_its_env(name):
    protocol = load(name)
    known = registry.module("envs", protocol.env).TASKS
    assert {task.name for task in protocol.tasks} <= set(known)


@pytest.mark.parametrize("suite", SUITES)
def test_liberos_suites_are_whole(suite):
    protocol = load(suite.replace("libero_10", "libero10"))
    assert protocol.tasks == tuple(ProtocolTask(task, HORIZONS[suite]) for task in SUITES[suite])
    # One for each of the states that LIBERO fixes.
    assert protocol.episodes == 50


@pytest.mark.metaworld
def test_mt10_is_metaworlds_own_ten():
    # Before anything imports MuJoCo, or no env could draw in this process from then on.
    rendering.choose()
    env_dict = pytest.importorskip("metaworld.env_dict")
    assert [task.name for task in load("mt10").tasks] == list(env_dict.MT10_V3)


def test_objects_that_are_kept_for_judging_are_tasks_of_the_whole_suite():
    kept, whole = (load(name) for name in ("unseen_objects", "libero_object"))
    assert len(kept.tasks) == 4
    assert set(kept.tasks) < set(whole.tasks)
    assert kept.episodes == whole.episodes
