import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tests.datasets.checking.test_checks import EPISODES, each, freeze, write
from tests.training.test_readable import spoil

from videopolicy.cli.main import main
from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.media import write_mp4
from videopolicy.similarity import psnr


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    return write(tmp_path_factory.mktemp("check") / "clean", EPISODES[:3])


@pytest.fixture(scope="module")
def frozen(tmp_path_factory):
    hung = [replace(one, views=each(one.views, freeze)) for one in EPISODES[:2]]
    return write(tmp_path_factory.mktemp("check") / "frozen", [*hung, EPISODES[2]])


def check(capsys, *arguments):
    code = 0
    try:
        main(["check", *map(str, arguments)])
    except SystemExit as stop:
        code = stop.code
    return code, capsys.readouterr()


def test_a_clean_set_is_a_table_and_a_closing_line(clean, capsys):
    code, said = check(capsys, clean)
    assert code == 0
    lines = said.out.splitlines()
    assert lines[0] == str(clean) and lines[-1] == "no problems in 3 episodes"
    table = dict(line.strip().split("  ", 1) for line in lines[1:] if line.startswith("  "))
    assert table["episodes"].strip() == "3, of 40 to 52 steps each"
    assert table["view right"].strip() == "64x48"
    assert table["action 3"].strip() == "-1 to 1"


def test_warnings_are_told_by_kind_and_leave_the_exit_code(frozen, capsys):
    code, said = check(capsys, frozen)
    assert code == 0
    assert "warning: 2 episodes: frozen frames (episodes 0-1)" in said.out
    assert said.out.splitlines()[-1] == "1 kind of warning in 3 episodes"


def test_errors_are_told_and_the_exit_code_is_1(clean, tmp_path, capsys):
    for number, fps in enumerate((10, 10, 25)):
        write_mp4(tmp_path / f"{number}.mp4", EPISODES[number].views["left"], fps)
        (tmp_path / f"{number}.txt").write_text("push\x1b[2J the cube", encoding="utf-8")
    code, said = check(capsys, tmp_path)
    assert code == 1
    assert "error: different frame rates" in said.out and f"videopolicy convert {tmp_path} DST --fps 10" in said.out
    assert "\x1b" not in said.out


def test_bad_input_is_one_line_and_exit_code_2(clean, tmp_path, capsys):
    for arguments in (
        [tmp_path / "missing"],
        [tmp_path],
        [clean, "--format", "lerobots"],
        [clean, "--html", tmp_path],
        [clean, "--html", tmp_path / "new" / "sheet.html"],
    ):
        code, said = check(capsys, *arguments)
        assert code == 2
        assert said.err.count("\n") == 1 and said.out == ""


def test_the_contact_sheet_is_written_where_asked_and_looked_at_before(clean, tmp_path, capsys):
    page = tmp_path / "sheet.html"
    code, said = check(capsys, clean, "--html", page)
    assert code == 0 and str(page) in said.out
    assert "no problems in 3 episodes" in page.read_text(encoding="utf-8")


def test_what_can_be_mended_is_written_anew_and_reads_back_clean(clean, tmp_path, capsys):
    """A list of episodes that is gone, a count that is wrong, and an episode that is lost."""
    broken = tmp_path / "broken"
    shutil.copytree(clean, broken)
    shutil.rmtree(broken / "meta/episodes")
    info = json.loads((broken / spec.INFO).read_text(encoding="utf-8"))
    (broken / spec.INFO).write_text(json.dumps(info | {"total_episodes": 9}), encoding="utf-8")
    spoil(broken, 1)
    code, said = check(capsys, broken, "--repair", tmp_path / "whole")
    assert code == 0
    assert "error: 1 episode: cannot be read (episode 1)" in said.out
    assert "2 of 3 episodes are used, 1 left out:" in said.out
    assert said.out.splitlines()[-1] == f"{tmp_path / 'whole'}: no problems in 2 episodes"
    read, written = open_dataset(clean), open_dataset(tmp_path / "whole")
    for index, own in enumerate((0, 2)):
        one, other = written.episode(index), read.episode(own)
        np.testing.assert_array_equal(one.actions, other.actions)
        assert all(psnr(one.views[view], frames) > 32 for view, frames in other.views.items())
    assert check(capsys, tmp_path / "whole")[0] == 0


def test_a_place_that_is_taken_is_refused_before_anything_is_read(clean, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("mine", encoding="utf-8")
    code, said = check(capsys, clean, "--repair", tmp_path / "there")
    assert code == 2
    assert "exists and is not empty" in said.err and not said.out
    code, said = check(capsys, clean, "--repair", clean / "inside")
    assert code == 2 and not (clean / "inside").exists()
