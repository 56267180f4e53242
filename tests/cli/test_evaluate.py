import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest

from videopolicy import registry
from videopolicy.cli.main import main

SEEING = Path(__file__).parents[1] / "rollout" / "seeing.py"


@pytest.fixture
def checkpoint(tmp_path, monkeypatch):
    """A checkpoint folder that opens as a planner which needs no training."""
    planner = runpy.run_path(str(SEEING))["SeeingPlanner"]
    build = registry.build

    def opened(package, name, *args, **kwargs):
        if package != "policies":
            return build(package, name, *args, **kwargs)
        assert (name, args) == ("video", (folder,))
        opened = planner()
        opened.execute = 5
        opened.sampling = SimpleNamespace(sampler=kwargs["sampler"] or "euler", steps=kwargs["steps"] or 7)
        return opened

    monkeypatch.setattr(registry, "build", opened)
    folder = tmp_path / "run" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def arguments(checkpoint, *more):
    tasks = ["--task", "reach-red", "reach-blue"]
    settings = ["--world", "pointmass", "--episodes", "2", "--steps", "3", "--record", "1"]
    return ["evaluate", "--checkpoint", str(checkpoint), *tasks, *settings, *more]


def test_prints_a_table_and_one_line_and_writes_beside_the_checkpoint(checkpoint, capsys):
    main(arguments(checkpoint))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["task", "reach-red", "reach-blue", "success"]
    assert lines[-1] == "success 4/4 (40-100 %)"
    out = checkpoint.parent / "evaluation"
    assert {path.name for path in out.iterdir()} == {"settings.json", "results.jsonl", "recordings"}


def test_what_the_checkpoint_decided_is_written_down_too(checkpoint):
    main(arguments(checkpoint))
    settings = json.loads((checkpoint.parent / "evaluation" / "settings.json").read_text())
    assert (settings["sampler"], settings["steps"], settings["execute"]) == ("euler", 3, 5)
    main(arguments(checkpoint, "--execute", "5", "--sampler", "euler"))


def test_other_settings_in_the_same_folder_exit_with_2_and_name_them(checkpoint, capsys):
    main(arguments(checkpoint, "--seed", "1"))
    with pytest.raises(SystemExit) as ending:
        main(arguments(checkpoint, "--seed", "2"))
    assert ending.value.code == 2
    assert "seed was 1, now 2" in capsys.readouterr().err


def test_a_folder_that_is_no_checkpoint_exits_with_2(tmp_path, capsys):
    with pytest.raises(SystemExit) as ending:
        main(arguments(tmp_path / "nowhere"))
    assert ending.value.code == 2
    assert "nowhere: no such checkpoint folder" in capsys.readouterr().err


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as ending:
        main(["evaluate", "--help"])
    assert ending.value.code == 0
    assert "Example: videopolicy evaluate --checkpoint" in capsys.readouterr().out
