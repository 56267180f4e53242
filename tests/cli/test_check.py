from dataclasses import replace

import pytest
from tests.datasets.checking.test_checks import EPISODES, each, freeze, write

from videopolicy.cli.main import main
from videopolicy.media import write_mp4


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
