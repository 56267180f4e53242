import hashlib
import json
import runpy
from importlib.util import find_spec
from pathlib import Path

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
        opened = planner.opened()
        opened.sampling.sampler = kwargs["sampler"] or opened.sampling.sampler
        opened.sampling.steps = kwargs["steps"] or opened.sampling.steps
        return opened

    monkeypatch.setattr(registry, "build", opened)
    folder = tmp_path / "run" / "checkpoint"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    return folder


def arguments(checkpoint, *more):
    tasks = ["--task", "reach-red", "reach-blue"]
    settings = ["--env", "pointmass", "--episodes", "2", "--steps", "3", "--record", "1"]
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


PROTOCOL = """
title = "Two discs"
env = "pointmass"
episodes = 2
execute = 4
source = "a paper"
mean = 0.9

[[task]]
name = "reach-blue"
horizon = 40
reference = 0.8

[[task]]
name = "reach-red"
"""


@pytest.fixture
def protocol(tmp_path):
    path = tmp_path / "discs.toml"
    path.write_text(PROTOCOL)
    return str(path)


def test_a_protocol_says_what_is_played_and_what_others_report(checkpoint, protocol, capsys):
    main(["evaluate", "--checkpoint", str(checkpoint), "--protocol", protocol, "--episodes", "1", "--record", "0"])
    header, blue, red, *closing = capsys.readouterr().out.splitlines()
    assert header.split()[-1] == "reference"
    assert blue.split()[:2] == ["reach-blue", "1/1"] and blue.endswith("80 %")
    assert red.split()[:2] == ["reach-red", "1/1"] and red.endswith("-")
    assert closing[0] == "1 of the protocol's 2 episodes of each task"
    assert closing[1] == "reference: a paper"
    assert closing[-1] == "mean over 2 tasks 100 % (16-100 %), reference 90 %"
    settings = json.loads((checkpoint.parent / "evaluation" / "settings.json").read_text())
    assert (settings["env"], settings["tasks"], settings["execute"]) == ("pointmass", ["reach-blue", "reach-red"], 4)
    assert settings["protocol"] == "discs"
    assert settings["protocol_sha256"] == hashlib.sha256(PROTOCOL.encode()).hexdigest()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--task", "reach-red"], "leave out --env and --task"),
        (["--env", "pointmass"], "leave out --env and --task"),
        (["--episodes", "3"], "--episodes is 3, but protocol discs says 2"),
        (["--execute", "5"], "--execute is 5, but protocol discs says 4"),
    ],
)
def test_what_contradicts_the_protocol_exits_with_2(checkpoint, protocol, more, message, capsys):
    with pytest.raises(SystemExit) as ending:
        main(["evaluate", "--checkpoint", str(checkpoint), "--protocol", protocol, *more])
    assert ending.value.code == 2
    assert message in capsys.readouterr().err


def test_nothing_to_evaluate_exits_with_2(checkpoint, capsys):
    with pytest.raises(SystemExit) as ending:
        main(["evaluate", "--checkpoint", str(checkpoint)])
    assert ending.value.code == 2
    assert "give --task, or a --protocol" in capsys.readouterr().err


@pytest.mark.skipif(bool(find_spec("ray")), reason="Ray is installed")
def test_without_ray_the_extra_is_named(checkpoint, capsys):
    with pytest.raises(SystemExit) as ending:
        main(arguments(checkpoint, "--ray", "local"))
    assert ending.value.code == 2
    assert "pip install 'videopolicy[ray]'" in capsys.readouterr().err


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
