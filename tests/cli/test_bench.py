import json
from typing import get_args

import pytest
from tests.small import small_model

from videopolicy.checkpoint import Provenance, add_mode, save
from videopolicy.cli.bench import PASSES
from videopolicy.cli.main import main
from videopolicy.models.sampling import Sampling
from videopolicy.policies import checkpoint as policies
from videopolicy.training.config import Precision as Passes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    save(small_model(), Provenance("joint", steps=1), folder)
    return folder


def refused(capsys, checkpoint, *arguments):
    with pytest.raises(SystemExit) as ending:
        main(["bench", "--checkpoint", str(checkpoint), *arguments])
    assert ending.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_a_row_for_each_sampler_and_number_of_steps(checkpoint, capsys, tmp_path):
    wanted = ["--sampler", "euler", "one_pass", "--steps", "1", "2", "--repeats", "2"]
    main(["bench", "--checkpoint", str(checkpoint), *wanted, "--json", str(tmp_path / "figures.json")])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["device", "weights", "limit"]
    asked = ["euler 1", "euler 2", "one_pass 1", "one_pass 2"]
    for head, *rows in (lines[4:9], lines[10:15]):
        assert [" ".join(row.split()[:2]) for row in rows] == asked
        assert {len(line) for line in (head, *rows)} == {len(head)}
    assert max(map(len, lines)) <= 120

    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in figures["settings"]] == asked
    assert figures["device"]["threads"] == 1
    first = figures["settings"][0]
    assert 0 < first["gflops"] < figures["peak_gflops"]
    assert first["actions_per_second"] == pytest.approx(4e3 / first["acting"]["median"])
    assert (first["times_faster"], first["off"], first["success"]) == (1, 0, None)
    assert figures["settings"][3]["passes"] == {"video": 1, "head": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]


def test_by_default_every_mode_after_the_reference_if_one_is_asked_for(tmp_path, capsys):
    folder = tmp_path / "checkpoint"
    save(small_model(), Provenance("joint", steps=1), folder)
    add_mode(folder, "fast", Sampling("one_pass", 2))
    main(["bench", "--checkpoint", str(folder), "--repeats", "1", "--reference", "3"])
    rows = capsys.readouterr().out.splitlines()[5:8]
    names = ["reference: euler 3, guidance 1-2.5", "exact: euler 1", "fast: one_pass 2"]
    assert [row[: max(map(len, names))].strip() for row in rows] == names


def test_success_in_an_env_is_kept_where_it_can_be_compared(checkpoint, tmp_path, capsys):
    acting = ["--env", "pointmass", "--task", "reach-red", "--episodes", "1", "--out", str(tmp_path / "played")]
    wanted = ["--repeats", "1", "--json", str(tmp_path / "figures.json"), "--mode", "exact", "--steps", "2"]
    main(["bench", "--checkpoint", str(checkpoint), *wanted, *acting])
    lines = [line for line in capsys.readouterr().out.splitlines() if "  success " in line]
    assert [line.split("  success ")[0].strip() for line in lines] == ["exact: euler 1", "euler 2"]
    rows = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))["settings"]
    assert [row["success"]["episodes"] for row in rows] == [1, 1]
    main(["compare", str(tmp_path / "played" / "exact"), str(tmp_path / "played" / "euler-2")])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--sampler", "euler", "eulr"], "no sampler 'eulr'; did you mean 'euler'?"),
        (["--steps", "1", "0"], "sampling.steps is 0; it must be from 1"),
        (["--repeats", "0"], "--repeats is 0; it must be from 1"),
        (["--mode", "fast"], "no mode 'fast'; known: exact; videopolicy tune finds a fast one"),
        (["--reference", "0"], "sampling.steps is 0; it must be from 1"),
        (["--sampler", "heun", "--video-steps", "1"], "are for sampler 'euler', not 'heun'"),
        (["--env", "pointmass"], "--env and --task go together"),
        (["--episodes", "3"], "--episodes and --out are of episodes"),
        (["--env", "pointmass", "--task", "reach-rde"], "no task 'reach-rde'"),
        (["--json", "nowhere/figures.json"], "there is no folder nowhere"),
    ],
)
def test_a_slip_is_one_line_before_anything_is_measured(arguments, said, checkpoint, capsys):
    assert said in refused(capsys, checkpoint, *arguments)


def test_a_checkpoint_without_a_head_has_no_chunks(tmp_path, capsys):
    save(small_model(None), Provenance("video", steps=1), tmp_path / "checkpoint")
    assert "trained on video alone" in refused(capsys, tmp_path / "checkpoint")


def test_training_is_measured_on_random_clips_and_one_step_profiled(capsys, tmp_path):
    files = ["--json", str(tmp_path / "figures.json"), "--profile", str(tmp_path / "step.json")]
    main(["bench", "--train", "tiny", "--stage", "video", "--batch-size", "3", "--repeats", "2", *files])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["device", "limit", "video,"]
    figures = json.loads((tmp_path / "figures.json").read_text(encoding="utf-8"))
    assert (figures["stage"], figures["batch"]) == ("video", 3)
    assert 0 < figures["utilisation"] < 1
    assert figures["clips_per_second"] == pytest.approx(3e3 / figures["step"]["median"])
    events = json.loads((tmp_path / "step.json").read_text(encoding="utf-8"))["traceEvents"]
    assert any("convolution" in event.get("name", "") for event in events)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "--checkpoint FOLDER"),
        (["--train", "tiny", "--checkpoint", "somewhere"], "--checkpoint FOLDER"),
        (["--train", "smal"], "no preset 'smal'; did you mean 'small'?"),
        (["--train", "tiny", "--sampler", "heun"], "--sampler is about planning"),
        (["--checkpoint", "somewhere", "--batch-size", "2"], "--batch-size is about training"),
        (["--train", "tiny", "--batch-size", "0"], "--batch-size is 0; it must be from 1"),
        (["--train", "tiny", "--profile", "nowhere/step.json"], "there is no folder nowhere"),
    ],
)
def test_options_of_the_other_kind_and_slips_are_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as ending:
        main(["bench", *arguments])
    assert ending.value.code == 2
    assert said in capsys.readouterr().err


def test_every_precision_of_the_command_line_is_one_of_training():
    assert set(PASSES) == set(get_args(policies.Precision))
    assert sorted(PASSES.values()) == sorted(get_args(Passes))
