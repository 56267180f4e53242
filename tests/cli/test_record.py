import os
import shlex
import shutil
import signal
import sys

import numpy as np
import pytest
from tests.disk import full_disk
from tests.processes import running, wait_until

from videopolicy.cli import main as cli
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.envs.pointmass import PointMass

pytestmark = pytest.mark.slow

POINTMASS = ["record", "--env", "pointmass", "--workers", "1", "--size", "32", "--steps", "20"]


def record(*arguments):
    cli.main([*POINTMASS, *map(str, arguments)])


def refused(capsys, *arguments):
    """The one line that bad input leads to."""
    with pytest.raises(SystemExit) as exit:
        record(*arguments)
    assert exit.value.code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("videopolicy: "))
    return line


def test_tasks_are_recorded_one_after_the_other(tmp_path, capsys):
    record("--task", "reach-red", "reach-blue", "--episodes", 2, "--views", "close", "--out", tmp_path / "d")
    dataset = open_dataset(tmp_path / "d")
    assert dataset.views == ("close",)
    episodes = [dataset.episode(index) for index in range(len(dataset))]
    assert [(e.task, e.seed) for e in episodes] == [(t, s) for t in ("reach-red", "reach-blue") for s in (0, 1)]
    assert all(episode.success for episode in episodes)
    said = capsys.readouterr().out
    assert f"wrote 4 episodes of reach-red, reach-blue to {tmp_path / 'd'}; " in said
    assert "4 of 4 (100%)" in said
    assert (dataset.action_layout, dataset.state_layout) == (PointMass.action_layout, PointMass.state_layout)


def test_failures_are_replaced_by_later_seeds_and_counted(tmp_path, capsys):
    record("--task", "reach-red", "--episodes", 6, "--noise", 6, "--out", tmp_path / "d")
    dataset = open_dataset(tmp_path / "d")
    episodes = [dataset.episode(index) for index in range(len(dataset))]
    seeds = [episode.seed for episode in episodes]
    assert len(seeds) == 6
    assert all(episode.success for episode in episodes)
    assert seeds == sorted(set(seeds))
    assert seeds[-1] > 5, "no failure happened: this test needs more noise"
    assert f"6 of {seeds[-1] + 1} " in capsys.readouterr().out


def test_the_data_says_that_it_is_scripted_and_how_to_make_it_again(tmp_path):
    arguments = ["--episodes", 3, "--noise", 6, "--seed", 4, "--views", "close"]
    record("--task", "reach-red", *arguments, "--out", tmp_path / "d")
    text = (tmp_path / "d" / "README.md").read_text(encoding="utf-8")
    assert "scripted expert" in text and "not human demonstrations" in text
    seeds = [episode.seed for episode in map(open_dataset(tmp_path / "d").episode, range(3))]
    assert f"3 successes of {seeds[-1] - 3} tried" in text
    for seed in (seeds[0], seeds[-1]):
        assert str(seed) in text.split("| reach-red | 3 |")[1].splitlines()[0]
    command = shlex.split(text.split("```sh\n")[1].split("\n```")[0])
    cli.main([*command[1:-1], str(tmp_path / "again"), "--workers", "1"])
    one, other = (open_dataset(tmp_path / name) for name in ("d", "again"))
    for index in range(3):
        np.testing.assert_array_equal(one.episode(index).actions, other.episode(index).actions)


def test_the_same_command_records_the_same(tmp_path):
    for name in ("a", "b"):
        record("--task", "reach-red", "--episodes", 2, "--out", tmp_path / name)
    one, other = (open_dataset(tmp_path / name) for name in ("a", "b"))
    for index in range(2):
        np.testing.assert_array_equal(one.episode(index).actions, other.episode(index).actions)
        np.testing.assert_array_equal(one.episode(index).views["top"], other.episode(index).views["top"])


def test_the_data_set_has_the_same_bytes_with_any_number_of_processes(tmp_path):
    def written(workers):
        # One folder for all, as the README.md names it; and noise of which some episodes fail.
        # Pictures of 32 pixels are not coded alike every time, of 64 they are.
        options = ("--size", 64, "--noise", 6, "--workers", workers, "--out", tmp_path / "d")
        record("--task", "reach-red", "--episodes", 5, *options)
        files = [path for path in (tmp_path / "d").rglob("*") if path.is_file()]
        found = {path.relative_to(tmp_path): path.read_bytes() for path in files}
        shutil.rmtree(tmp_path / "d")
        return found

    one, three = written(1), written(3)
    assert {path.suffix for path in one} == {".md", ".json", ".parquet", ".mp4"}
    assert one == three


BAD = [
    (["--task", "reach-rod"], "no task 'reach-rod'; did you mean 'reach-red'?"),
    (["--task", "reach-red", "--views", "topp"], "no view 'topp'; did you mean 'top'?"),
    (["--task", "reach-red", "--env", "pointmas"], "no env 'pointmas'; did you mean 'pointmass'?"),
    (["--task", "reach-red", "--episodes", "0"], "--episodes is 0; it must be from 1 to 1000000"),
    (["--task", "reach-red", "--noise", "nan"], "--noise is nan; it must be from 0 to 1000000"),
    (["--task", "reach-red", "--seed", "1000000"], "kept for evaluation"),
    (["--task", "reach-red", "--size", "4"], "8 to 1024 pixels"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments[2:]) for arguments, _ in BAD])
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, capsys, arguments, message):
    assert message in refused(capsys, *arguments, "--out", tmp_path / "d")
    assert not list(tmp_path.iterdir())


def test_an_existing_data_set_is_refused_before_anything_is_recorded(tmp_path, capsys):
    (tmp_path / "mine").touch()
    assert "exists and is not empty" in refused(capsys, "--task", "reach-red", "--out", tmp_path)
    assert "no folder" in refused(capsys, "--task", "reach-red", "--out", tmp_path / "mine" / "d")
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_an_expert_that_never_succeeds_ends_the_recording(tmp_path, capsys):
    message = refused(capsys, "--task", "reach-red", "--noise", 1e6, "--episodes", 200, "--out", tmp_path / "d")
    assert "30 times in a row" in message
    assert not list(tmp_path.iterdir())


def start(*arguments):
    """The command in processes of its own."""
    return running(sys.executable, "-m", "videopolicy", *POINTMASS, *arguments)


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    command = start("--task", "reach-red", "--episodes", "20", "--out", tmp_path / "d")
    with full_disk(16 * 1024), command as process:
        _, said = process.communicate()
    assert process.returncode == 2
    assert said.splitlines()[-1].startswith("videopolicy: no space left to write")
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


def test_an_interrupt_leaves_nothing(tmp_path):
    with start("--task", "reach-red", "--episodes", "100000", "--out", tmp_path / "d") as process:
        # Of what it writes: the lock beside it may stay if it is interrupted in the moment in which it takes it.
        wait_until(lambda: {path.name for path in tmp_path.iterdir()} - {".d.lock"}, process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
        _, said = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.metaworld
def test_metaworld_is_recorded_with_its_own_views(tmp_path, capsys):
    command = [
        "record",
        "--task",
        "coffee-button-v3",
        "--episodes",
        "2",
        "--workers",
        "1",
        "--out",
        str(tmp_path / "d"),
    ]
    cli.main(command)
    dataset = open_dataset(tmp_path / "d")
    assert dataset.views == ("corner2", "corner3", "gripperPOV")
    assert dataset.tasks == ("press the button of the coffee machine",)
    assert [dataset.length(index) for index in range(2)] == [75, 75]
    assert (dataset.fps, dataset.action_width, dataset.state_width) == (80, 4, 4)
