"""The whole chain in one command, on the real simulator, with as little of everything as will run."""

import json

import pytest

from videopolicy.cli.main import main

pytestmark = pytest.mark.slow


@pytest.mark.metaworld
def test_a_small_demo_ends_with_the_page_and_the_success_rate(tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--minutes", "0.2", "--demonstrations", "2", "--episodes", "1", "--out", str(out)]
    main(["demo", *arguments])

    *_, page, summary = capsys.readouterr().out.splitlines()
    assert summary.startswith("success ") and "/1 (" in summary
    assert page == str(out / "report.html")
    assert "data:video/mp4;base64," in (out / "report.html").read_text(encoding="utf-8")
    assert set(json.loads((out / "demo.json").read_text(encoding="utf-8"))["minutes"]) == {
        "record",
        "train",
        "evaluate",
        "report",
    }
    assert len((out / "evaluation" / "results.jsonl").read_text(encoding="utf-8").splitlines()) == 1


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "--out", str(tmp_path)])
    assert exit_.value.code == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
