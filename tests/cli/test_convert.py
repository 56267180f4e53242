import json
import os
import signal
import sys

import numpy as np
import pytest
from tests.disk import full_disk
from tests.processes import running, wait_until
from tests.small import write_data

from videopolicy.cli import main as cli
from videopolicy.datasets.conversion.staging import staging_folder
from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.media import write_mp4
from videopolicy.types import Episode

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("convert") / "source")


def convert(*arguments):
    cli.main(["convert", *map(str, arguments), "--format", "lerobot", "--workers", "1"])


def refused(capsys, *arguments):
    """The one line that bad input leads to."""
    with pytest.raises(SystemExit) as exit:
        convert(*arguments)
    assert exit.value.code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("videopolicy: "))
    return line


def test_what_was_written_is_told(source, tmp_path, capsys):
    convert(source, tmp_path / "d", "--views", "front=top", "--size", "16")
    said = capsys.readouterr().out
    dataset = open_dataset(tmp_path / "d")
    assert dataset.views == ("front",)
    assert f"wrote {tmp_path / 'd'}: 4 episodes, {sum(map(dataset.length, range(4)))} frames, 4.0 seconds," in said
    assert "actions and states are equal to the bit, and so are frame counts" in said
    assert "front: " in said
    for index in range(4):
        np.testing.assert_array_equal(dataset.episode(index).actions, open_dataset(source).episode(index).actions)


def test_what_is_told_begins_a_line_where_bars_and_text_go_to_one_log(source, tmp_path, capfd):
    convert(source, tmp_path / "d")
    assert not capfd.readouterr().err.rpartition("\n")[2]


def test_videos_of_several_rates_are_told_by_file_with_what_brings_them_to_one(tmp_path, capsys):
    (tmp_path / "people").mkdir()
    for number, fps in enumerate((20, 20, 25)):
        write_mp4(tmp_path / "people" / f"{number}.mp4", np.zeros((6, 16, 16, 3), np.uint8), fps)
        (tmp_path / "people" / f"{number}.txt").write_text("pour", encoding="utf-8")
    arguments = ["convert", str(tmp_path / "people"), str(tmp_path / "d"), "--workers", "1"]
    for more in ([], ["--strict"], ["--views", "top=video", "--size", "8"]):
        with pytest.raises(SystemExit):
            cli.main([*arguments, *more])
        said = capsys.readouterr().err
        assert "2.mp4: 25 frames a second" in said and "--fps 20 brings" in said
    cli.main([*arguments, "--fps", "20"])
    said = capsys.readouterr().out
    assert "3 episodes, 17 frames, 0.8 seconds" in said and "instructions are equal, and so are frame counts" in said


def test_what_the_source_does_not_say_is_told_by_options(source, tmp_path):
    old, new = open_dataset(source).tasks[0], "go to the red one = now"
    convert(
        source,
        tmp_path / "d",
        "--action-layout",
        "delta_joints:2",
        "--fps",
        "10",
        "--instruction",
        f"{old}={new}",
    )
    info = json.loads((tmp_path / "d" / spec.INFO).read_text(encoding="utf-8"))
    assert (info["fps"], info[spec.ACTION_LAYOUT]) == (10, "delta_joints:2")
    assert open_dataset(tmp_path / "d").tasks[0] == new


def test_views_are_turned_under_their_new_names_and_it_is_told(tmp_path, capsys):
    # Wider than high; each quarter of a picture has a grey of its own, and each frame is a little lighter.
    quarters = np.kron([[20, 80], [140, 200]], np.ones((16, 32)))
    frames = np.uint8(quarters[None, :, :, None] + 5 * np.arange(3)[:, None, None, None] + np.zeros(3))
    with Writer(tmp_path / "s", 20, ("a", "b", "c")) as writer:
        for _ in range(2):
            writer.add(Episode(dict.fromkeys("abc", frames), "push it", 20))
    views = ["--views", "front=a", "side=b", "c"]
    turns = ["--flip", "front=vertical", "side=horizontal", "--rotate", "side=90"]
    convert(tmp_path / "s", tmp_path / "d", *views, *turns)
    said = capsys.readouterr().out
    how = "flipped horizontally, then rotated by 90 degrees counter-clockwise"
    told = f"mended: {tmp_path / 's'}: the frames of view side are {how}, as was asked"
    assert told in said and told in json.loads((tmp_path / "d" / spec.INFO).read_text(encoding="utf-8"))[spec.NOTES]
    shown = open_dataset(tmp_path / "d").episode(1).views
    expected = {"front": [[140, 200], [20, 80]], "side": [[20, 140], [80, 200]], "c": [[20, 80], [140, 200]]}
    for view, greys in expected.items():
        height, width = shown[view].shape[1:3]
        assert (height, width) == ((64, 32) if view == "side" else (32, 64))
        middles = shown[view][:, height // 4 :: height // 2, width // 4 :: width // 2].mean(-1)
        np.testing.assert_allclose(middles, np.array(greys) + 5 * np.arange(3)[:, None, None], atol=2)


BAD = [
    (["--size", "0"], "--size is 0; it must be from 8 to 4096"),
    (["--fps", "0"], "--fps is 0.0; it must be from"),
    (["--fps", "nan"], "--fps is nan; it must be from"),
    (["--workers", "0"], "--workers is 0"),
    (["--views", "topp"], "no view 'topp'; did you mean 'top'?"),
    (["--views", "new=topp"], "no view 'topp'; did you mean 'top'?"),
    (["--views", "=top"], "two names are needed"),
    (["--views", "new="], "two names are needed"),
    (["--views", "a=top", "a=close"], "two views of one name"),
    (["--views", "../up=top"], "cannot be a view's name"),
    (["--instruction", "push it"], "two names are needed"),
    (["--instruction", "push it=pull it"], "no instruction 'push it'"),
    (["--fps", "7"], "lower by a whole factor"),
    (["--fps", "10"], "--action-layout"),
    (["--action-layout", "position"], "has 3 dimensions, but its actions have 2"),
    (["--action-layout", "nonsense"], "no action layout has the word"),
    (["--flip", "top"], "two names are needed"),
    (["--flip", "top=upside-down"], "--flip 'top=upside-down': 'upside-down' is none of horizontal, vertical, both"),
    (["--flip", "topp=both"], "no view 'topp'; did you mean 'top'?"),
    (["--views", "front=top", "--flip", "top=both"], "no view 'top'; known: front"),
    (["--flip", "top=both", "top=vertical"], "--flip top=both top=vertical: view 'top' stands there twice"),
    (["--rotate", "top=45"], "--rotate 'top=45': '45' is none of 90, 180, 270"),
    (["--rotate", "top=-90"], "'-90' is none of 90, 180, 270"),
    (["--rotate", "close=90", "close=90"], "view 'close' stands there twice"),
    (["--rotate", "clos=90"], "no view 'clos'; did you mean 'close'?"),
    (["--format", "robomimicc"], "no data format 'robomimicc'; did you mean 'robomimic'?"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(arguments) for arguments, _ in BAD])
def test_bad_input_is_one_line_and_writes_nothing(source, tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as exit:
        cli.main(["convert", str(source), str(tmp_path / "d"), "--format", "lerobot", *arguments])
    assert exit.value.code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("videopolicy: "))
    assert message in line
    assert not list(tmp_path.iterdir())


def test_bad_places_are_one_line(source, tmp_path, capsys):
    assert "missing" in refused(capsys, tmp_path / "missing", tmp_path / "d")
    assert "is what is read; name a place outside" in refused(capsys, source, source)
    assert f"is inside {source}, which is read; name a place outside" in refused(capsys, source, source / "d")
    assert "holds a data set; name a folder of its own" in refused(capsys, tmp_path / "d", source)
    assert not list(tmp_path.iterdir())
    for nowhere in ("/proc/foo", "/proc/foo/bar"):
        assert f"cannot write to {nowhere}: " in refused(capsys, source, nowhere)
    with pytest.raises(SystemExit):
        cli.main(["convert", str(source), str(tmp_path / "d"), "--format", "robomimic"])
    assert "holds no HDF5 file" in capsys.readouterr().err


def test_a_full_disk_is_one_line_and_the_same_command_goes_on(source, tmp_path, capsys):
    with full_disk(4096):
        assert "make room, then give the same command again" in refused(capsys, source, tmp_path / "d")
    convert(source, tmp_path / "d")
    assert len(open_dataset(tmp_path / "d")) == 4


def test_an_interrupt_says_what_was_kept(tmp_path):
    rng = np.random.default_rng(0)
    with Writer(tmp_path / "source", 20, ("top",)) as writer:
        for _ in range(6):
            writer.add(Episode({"top": rng.integers(0, 256, (500, 32, 32, 3), np.uint8)}, "push it", 20))
    command = [sys.executable, "-m", "videopolicy", "convert", tmp_path / "source", tmp_path / "d", "--workers", "2"]
    shards = staging_folder(tmp_path / "d") / "shards"
    with running(*command, "--format", "lerobot") as process:
        wait_until(lambda: [shard for shard in shards.glob("*") if shard.suffix != ".partial"], process)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: the workers get it too
        _, said = process.communicate()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "the same command goes on from there" in said
    convert(tmp_path / "source", tmp_path / "d")
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["d", "source"]
