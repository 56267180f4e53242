import hashlib
import json
import re
import shutil

import pytest
from tests.small import small_model

from videopolicy import checkpoint as checkpoints
from videopolicy.cli.main import main
from videopolicy.rollout.transport import ray as cluster

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small checkpoint with random weights, trained on one of the tasks."""
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    checkpoints.save(small_model(views=("top", "close")), checkpoints.Provenance("joint", 1, ("reach-red",)), folder)
    return folder


@pytest.fixture
def checkpoint(saved, tmp_path):
    """The same in a run of its own."""
    run = tmp_path / "run"
    run.mkdir()
    return shutil.copytree(saved, run / "checkpoint")


def arguments(checkpoint, *more):
    tasks = ["--task", "reach-red", "reach-blue"]
    settings = ["--env", "pointmass", "--episodes", "2", "--steps", "1", "--record", "1"]
    return ["evaluate", "--checkpoint", str(checkpoint), *tasks, *settings, *more]


def chance(out, *more):
    """What random actions reach."""
    tasks = ["--task", "reach-red", "reach-blue", "--env", "pointmass", "--episodes", "2"]
    return ["evaluate", "--policy", "random:2", *tasks, *(["--out", str(out)] if out else []), *more]


def read_settings(folder):
    return json.loads((folder / "settings.json").read_text(encoding="utf-8"))


def refused(capsys, arguments):
    """What is said in the one line, after it has exited with 2."""
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == 2
    error = capsys.readouterr().err
    assert len(error.strip().splitlines()) == 1
    return error


def test_prints_a_table_and_one_line_and_writes_beside_the_checkpoint(checkpoint, capsys):
    main(arguments(checkpoint))
    note, *lines = capsys.readouterr().out.splitlines()
    assert note == "note: the policy was trained on reach-red, not on reach-blue"
    assert [line.split()[0] for line in lines] == ["task", "reach-red", "reach-blue", "success"]
    assert re.fullmatch(r"success \d/4 \(\d+-\d+ %\)", lines[-1])
    out = checkpoint.parent / "evaluation"
    assert {path.name for path in out.iterdir()} == {"settings.json", "results.jsonl", "recordings"}


def test_what_the_checkpoint_decided_is_written_down_too(checkpoint):
    main(arguments(checkpoint))
    settings = read_settings(checkpoint.parent / "evaluation")
    assert settings["sampling"] == {"sampler": "euler", "steps": 1, "precision": "float32"}
    assert (settings["executor"], settings["execute"], settings["latency"]) == ("chunked", 4, 0)
    assert (settings["policy"], settings["target"]) == ("checkpoint", str(checkpoint))
    # Nothing is left to play: what was said by default may be said in words.
    named = ["--execute", "4", "--sampler", "euler", "--precision", "float32", "--executor", "chunked"]
    before = (checkpoint.parent / "evaluation" / "results.jsonl").read_bytes()
    main(arguments(checkpoint, *named))
    assert (checkpoint.parent / "evaluation" / "results.jsonl").read_bytes() == before


def test_a_checkpoint_is_a_policy_like_any_other(checkpoint):
    main(arguments(checkpoint))
    before = (checkpoint.parent / "evaluation" / "results.jsonl").read_bytes()
    start, (_, folder, *rest) = ["evaluate"], arguments(checkpoint)[1:]
    main([*start, "--policy", f"checkpoint:{folder}", *rest])
    assert (checkpoint.parent / "evaluation" / "results.jsonl").read_bytes() == before


def test_chance_is_measured_without_a_checkpoint(tmp_path, capsys):
    main(chance(tmp_path / "out", "--record", "1"))
    note, *lines = capsys.readouterr().out.splitlines()
    assert note == "note: actions are drawn at random in [-1, 1]: this measures chance"
    assert re.fullmatch(r"success \d/4 \(\d+-\d+ %\)", lines[-1])
    settings = read_settings(tmp_path / "out")
    assert (settings["policy"], settings["target"], settings["checkpoint_sha256"]) == ("random", "2", None)
    assert (settings["execute"], settings["sampling"]) == (16, {})
    assert (tmp_path / "out" / "recordings" / "reach-red-0" / "executed_top.mp4").is_file()


def test_the_executor_and_the_latency_are_chosen_and_written_down(tmp_path, capsys):
    options = ["--executor", "temporal_ensemble", "--execute", "3", "--latency", "2", "--record", "0"]
    main(chance(tmp_path / "out", *options))
    settings = read_settings(tmp_path / "out")
    assert (settings["executor"], settings["execute"], settings["latency"]) == ("temporal_ensemble", 3, 2)
    other = [*options[:-3], "1", *options[-2:]]
    capsys.readouterr()
    assert "latency was 2, now 1" in refused(capsys, chance(tmp_path / "out", *other))


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--sampler", "euler"], "--sampler is no option of policy 'random'"),
        (["--steps", "0"], "--steps is no option of policy 'random'"),
        (["--precision", "float32"], "--precision is no option of policy 'random'"),
        (["--offload"], "--offload is no option of policy 'random'"),
        (["--executor", "chunkd"], "no executor 'chunkd'; did you mean 'chunked'"),
        (["--latency", "17"], "execute is 16, but a plan takes 17 control steps"),
        (["--execute", "60", "--latency", "5"], "execute is 60 and latency 5, but a plan has only 64 actions"),
        (["--checkpoint", "somewhere"], "give one of --checkpoint FOLDER and --policy NAME[:TARGET]"),
    ],
)
def test_what_a_policy_or_an_executor_cannot_do_is_refused_before_anything_is_written(more, message, tmp_path, capsys):
    assert message in refused(capsys, chance(tmp_path / "out", *more))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("policy", "message"),
    [
        ([], "give one of --checkpoint FOLDER and --policy NAME[:TARGET]"),
        (["--policy", "randon:2"], "no policy 'randon'; did you mean 'random'"),
        (["--policy", "random"], "'' is no width of an action"),
        (["--policy", "random:3"], "actions have width 3, those of env 'pointmass' width 2"),
        (["--policy", "checkpoint"], "give --policy checkpoint:FOLDER"),
    ],
)
def test_a_policy_that_is_none_is_one_line(policy, message, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out")]
    said = refused(capsys, ["evaluate", *policy, "--env", "pointmass", "--task", "reach-red", *out])
    assert message.lower() in said.lower()


def test_a_policy_that_lies_in_no_folder_needs_one_for_its_results(capsys):
    assert "say with --out where the results go" in refused(capsys, chance(None))


def test_other_settings_in_the_same_folder_exit_with_2_and_name_them(checkpoint, capsys):
    main(arguments(checkpoint, "--seed", "1"))
    capsys.readouterr()
    assert "seed was 1, now 2" in refused(capsys, arguments(checkpoint, "--seed", "2"))


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
    path.write_text(PROTOCOL, encoding="utf-8")
    return str(path)


def test_a_protocol_says_what_is_played_and_what_others_report(checkpoint, protocol, capsys):
    main(["evaluate", "--checkpoint", str(checkpoint), "--protocol", protocol, "--episodes", "1", "--record", "0"])
    _, header, blue, red, *closing = capsys.readouterr().out.splitlines()
    assert header.split()[-1] == "reference"
    assert re.match(r"reach-blue +[01]/1 .*80 %$", blue)
    assert re.match(r"reach-red +[01]/1 .* -$", red)
    assert closing[0] == "1 of the protocol's 2 episodes of each task"
    assert closing[1] == "reference: a paper"
    assert re.fullmatch(r"mean over 2 tasks \d+ % \(\d+-\d+ %\), reference 90 %", closing[-1])
    settings = read_settings(checkpoint.parent / "evaluation")
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
    assert message in refused(capsys, ["evaluate", "--checkpoint", str(checkpoint), "--protocol", protocol, *more])


def test_nothing_to_evaluate_exits_with_2(checkpoint, capsys):
    assert "give --task, or a --protocol" in refused(capsys, ["evaluate", "--checkpoint", str(checkpoint)])


def test_without_ray_the_extra_is_named(checkpoint, capsys, monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    assert "pip install 'videopolicy[ray]'" in refused(capsys, arguments(checkpoint, "--ray", "local"))


def test_a_folder_that_is_no_checkpoint_exits_with_2(tmp_path, capsys):
    assert "nowhere: no such checkpoint folder" in refused(capsys, arguments(tmp_path / "nowhere"))


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as ending:
        main(["evaluate", "--help"])
    assert ending.value.code == 0
    assert "Example: videopolicy evaluate --checkpoint" in capsys.readouterr().out
