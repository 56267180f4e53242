import json
from dataclasses import asdict, replace

import pytest

from videopolicy.configs import to_json
from videopolicy.errors import UserError
from videopolicy.rollout.results import Result, open_results, read_evaluation, timeless
from videopolicy.rollout.settings import Recorded

SETTINGS = Recorded("pointmass", ("reach-red",), policy="checkpoint", target="a", sampling={"steps": 4})


def result(episode):
    return Result("reach-red", episode, 1_000_000 + episode, episode % 2 == 0, 20, 0.5, 4, False)


@pytest.fixture
def folder(tmp_path):
    results = open_results(tmp_path / "evaluation", SETTINGS)
    for episode in range(3):
        results.append(result(episode))
    return results.folder


def test_a_new_folder_holds_no_episodes(tmp_path):
    assert open_results(tmp_path / "new", SETTINGS).rows == []


def test_reading_gives_back_what_was_written(folder):
    results = open_results(folder, SETTINGS)
    assert results.rows == [result(0), result(1), result(2)]
    assert results.successes == 2
    assert results.ended == {("reach-red", 0), ("reach-red", 1), ("reach-red", 2)}


def test_lines_of_an_older_version_are_read(folder):
    path = folder / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    path.write_text(
        "".join(json.dumps({k: v for k, v in row.items() if k != "ended"}) + "\n" for row in rows), encoding="utf-8"
    )
    assert open_results(folder, SETTINGS).rows == [result(0), result(1), result(2)]


def test_what_a_newer_version_adds_is_not_heeded(folder):
    with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result(3)) | {"seconds": 1, "jerk": 0.5}) + "\n")
    assert open_results(folder, SETTINGS).rows[3] == replace(result(3), seconds=1.0)


@pytest.mark.parametrize("line", ["3", "[]", "{}"])
def test_a_line_of_something_else_is_named(folder, line):
    with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match="line 4 is no result"):
        open_results(folder, SETTINGS)


def test_the_same_evaluation_is_the_same_but_for_order_and_time():
    rows = [result(0), result(1)]
    assert timeless([replace(result(1), seconds=9.0), result(0)]) == timeless(rows)
    assert timeless([replace(result(1), steps=21), result(0)]) != timeless(rows)


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_torn_last_line_is_dropped_and_the_next_one_stands_alone(folder, cut):
    path = folder / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    results = open_results(folder, SETTINGS)
    assert results.rows == [result(0), result(1)]
    results.append(result(2))
    assert open_results(folder, SETTINGS).rows == [result(0), result(1), result(2)]


def test_an_episode_that_is_told_of_twice_counts_once_and_says_so(folder, capsys):
    """What two evaluations in one folder left behind, before one process alone could own it."""
    path = folder / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    doubled = [row for row in rows for row in (row, row | {"seconds": 9.0})]
    path.write_text("".join(json.dumps(row) + "\n" for row in doubled), encoding="utf-8")
    results = open_results(folder, SETTINGS)
    assert (results.successes, len(results.rows)) == (2, 3)
    assert results.rows == read_evaluation(folder)[1] == [result(0), result(1), result(2)]
    said = f"note: {path}: lines that tell of an episode again: 3; each episode counts once\n"
    assert capsys.readouterr().err == said * 2


def test_an_episode_that_is_told_of_in_two_ways_is_refused(folder):
    path = folder / "results.jsonl"
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(replace(result(1), success=True))) + "\n")
    with pytest.raises(UserError, match=r"lines 2 and 4 tell of episode 1 of reach-red differently; delete one"):
        read_evaluation(folder)


def test_damage_elsewhere_is_named(folder):
    path = folder / "results.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join([lines[0], lines[1][:-10], lines[2]]) + "\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"results.jsonl, line 2 is no result"):
        open_results(folder, SETTINGS)


@pytest.mark.parametrize(
    ("name", "value"),
    [("task", 1), ("episode", "0"), ("success", None), ("seconds", "long"), ("steps", True), ("recorded", 1)],
)
def test_a_value_of_another_kind_is_damage_too(folder, name, value):
    with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result(3)) | {name: value}) + "\n")
    with pytest.raises(UserError, match=rf"line 4 is no result of an episode \({name} is .+; it takes"):
        open_results(folder, SETTINGS)


@pytest.mark.parametrize("name", ["episode", "seed", "steps", "seconds", "plans", "retries"])
def test_a_count_below_zero_is_damage_too(folder, name):
    with (folder / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(result(3)) | {name: -1}) + "\n")
    with pytest.raises(UserError, match=rf"line 4 is no result of an episode \({name} is -1.*; it must be from 0"):
        open_results(folder, SETTINGS)


def test_other_settings_are_refused_and_named(folder):
    with pytest.raises(UserError, match="seed was 0, now 5") as error:
        open_results(folder, replace(SETTINGS, seed=5))
    assert "env was" not in str(error.value)


def test_a_setting_that_one_run_lacks_differs(folder):
    with pytest.raises(UserError, match="steps was 4, now None; precision was None, now bfloat16"):
        open_results(folder, replace(SETTINGS, sampling={"precision": "bfloat16"}))


def test_settings_that_no_episode_has_ended_with_bind_nobody(tmp_path):
    """A slip in them may have been why none has."""
    open_results(tmp_path, replace(SETTINGS, execute=1000))
    assert open_results(tmp_path, SETTINGS).rows == []
    assert json.loads((tmp_path / "settings.json").read_text(encoding="utf-8")) == to_json(SETTINGS)


def test_ignored_settings_may_differ(folder):
    assert len(open_results(folder, replace(SETTINGS, target="b"), ignore={"target"}).rows) == 3
    assert len(open_results(folder, replace(SETTINGS, renderer="llvmpipe"), ignore={"renderer"}).rows) == 3
    assert json.loads((folder / "settings.json").read_text(encoding="utf-8")) == to_json(SETTINGS)


def test_a_longer_run_is_what_the_settings_tell_of_then(folder):
    free = {"episodes", "record"}
    open_results(folder, replace(SETTINGS, episodes=50), ignore=free)
    open_results(folder, replace(SETTINGS, record=9), ignore=free)
    kept = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    assert (kept["episodes"], kept["record"]) == (50, 9)


def test_episodes_of_nobody_knows_what_are_refused(folder):
    (folder / "settings.json").unlink()
    with pytest.raises(UserError, match=r"holds episodes, but no settings.json that says of what"):
        open_results(folder, SETTINGS)


def test_the_contents_of_what_is_served_are_part_of_the_settings(tmp_path):
    served = replace(SETTINGS, policy="remote", target="ws://here", identity={"served checkpoint": "a"})
    open_results(tmp_path, served).append(result(0))
    with pytest.raises(UserError, match="served checkpoint was a, now b"):
        open_results(tmp_path, replace(served, identity={"served checkpoint": "b"}))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("{", "Expecting property name"),
        ("3", "the whole is 3"),
        ('{"env": "pointmass", "tasks": "reach-red"}', 'tasks is "reach-red"; it takes'),
        ('{"env": "pointmass", "tasks": [], "episodes": "ten"}', 'episodes is "ten"; it takes a whole number'),
        ('{"env": "pointmass", "tasks": [], "episodes": 0}', "episodes is 0; it must be from 1 to"),
        ('{"env": "pointmass", "tasks": [], "latency": -1}', "latency is -1; it must be from 0 to"),
        ('{"env": "pointmass", "tasks": [], "speed": 2}', "no field 'speed'"),
    ],
)
def test_settings_that_are_none_are_named(folder, text, fault):
    (folder / "settings.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"settings.json holds no settings of an evaluation") as error:
        open_results(folder, SETTINGS)
    assert fault in str(error.value)
