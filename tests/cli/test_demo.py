"""The whole chain in one command, on the real simulator, with as little of everything as will run."""

import json

import pytest

from videopolicy.cli.main import main

pytestmark = pytest.mark.slow


@pytest.mark.metaworld
@pytest.mark.parametrize("preset", ["tiny", "tiny_wan", "cloning"])
def test_a_small_demo_ends_with_the_page_and_the_success_rate(preset, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["--minutes", "0.2", "--demonstrations", "2", "--episodes", "1", "--out", str(out)]
    arguments += ["--preset", preset]
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


def test_a_preset_that_is_unknown_is_refused_before_anything_is_recorded(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["demo", "--preset", "tiny_wam", "--out", str(tmp_path / "run")])
    assert "tiny_wan" in capsys.readouterr().err and not list(tmp_path.glob("run/*"))


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep me", encoding="utf-8")
    with pytest.raises(SystemExit) as exit_:
        main(["demo", "--out", str(tmp_path)])
    assert exit_.value.code == 2
    assert "not empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--pretrained", "--minutes", "3"], "--pretrained records and trains nothing, so --minutes is for nothing"),
        (["--pretrained", "--preset", "cotrained"], "so --preset is for nothing"),
        (
            ["--preset", "cloning", "--stage", "action"],
            "this model generates no video, so stage",
        ),
    ],
)
def test_what_cannot_go_together_is_refused_before_anything_is_recorded(options, said, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["demo", *options, "--out", str(tmp_path / "run")])
    assert said in capsys.readouterr().err and not list(tmp_path.glob("run/*"))
