"""What the first edition wrote still opens, or says how to go on. Its files are written here as it wrote them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tests.small import MODEL, small_model, write_data

from videopolicy import checkpoint
from videopolicy.cli.main import main
from videopolicy.configs import from_json
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.diffusion.noise import joint
from videopolicy.errors import UserError
from videopolicy.models.base import ModelConfig
from videopolicy.report.run import read
from videopolicy.rollout.results import Result, read_evaluation
from videopolicy.upgrades import upgrade_checkpoint

RESULT = {"task": "reach-red", "episode": 0, "seed": 1000000, "success": False, "steps": 3, "seconds": 1.0, "plans": 1}


def first_edition(folder):
    """The same checkpoint with the description that the first edition gave it."""
    path = folder / "config.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    model = {name: value for name, value in told["model"].items() if name != "plugin"}
    model = {{"action_layout": "action_space", "state_layout": "state_space"}.get(k, k): v for k, v in model.items()}
    model["text"] = {**model["text"], "plugin": "text/words"}
    old = {"noise", "video_by_actions"}
    provenance = {name: value for name, value in told["provenance"].items() if name not in old}
    path.write_text(json.dumps({**told, "format": 1, "model": model, "provenance": provenance}), encoding="utf-8")
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def saved(tmp_path):
    built = small_model(action_layout="other:2")
    checkpoint.save(built, checkpoint.Provenance("end_to_end", 7), tmp_path / "run" / "checkpoint")
    return built, tmp_path / "run" / "checkpoint"


def test_a_checkpoint_opens_and_is_the_same(saved):
    built, folder = saved
    told = first_edition(folder)
    assert upgrade_checkpoint(told)["format"] == 2
    found, provenance = checkpoint.load(folder)
    assert found.config == built.config and found.config.action_layout == "other:2"
    assert all((value == built.state_dict()[name]).all() for name, value in found.state_dict().items())
    assert provenance.noise == joint.Config() and provenance.video_by_actions and provenance.steps == 7


def test_what_is_no_first_edition_stays_as_it_is(saved):
    told = json.loads((saved[1] / "config.json").read_text(encoding="utf-8"))
    assert upgrade_checkpoint(told) == told and from_json(ModelConfig, told["model"]) == replace(
        MODEL, action_layout="other:2"
    )


@pytest.mark.parametrize("damage", [{"model": {}}, {"model": 3}, {"provenance": {}}])
def test_a_damaged_one_is_refused_in_one_line(saved, damage):
    path = saved[1] / "config.json"
    path.write_text(json.dumps({**first_edition(saved[1]), **damage}), encoding="utf-8")
    with pytest.raises(UserError) as refusal:
        checkpoint.load(saved[1])
    assert "\n" not in str(refusal.value)


def test_a_data_set_keeps_what_it_says_of_its_actions(tmp_path):
    path = write_data(tmp_path / "dots", episodes=1)
    info = json.loads((path / "meta" / "info.json").read_text(encoding="utf-8"))
    info = {name: value for name, value in info.items() if not name.startswith("videopolicy/")}
    info |= {"videopolicy/action_space": "other:2", "videopolicy/state_space": "other:2"}
    (path / "meta" / "info.json").write_text(json.dumps(info), encoding="utf-8")
    dataset = open_dataset(path)
    assert (dataset.action_layout, dataset.state_layout) == ("other:2", "other:2")


def test_an_evaluation_and_the_logs_of_its_run_are_read(tmp_path):
    folder = tmp_path / "run" / "evaluation"
    folder.mkdir(parents=True)
    told = {"world": "pointmass", "tasks": ["reach-red"], "episodes": 1, "checkpoint": "run/checkpoint", "steps": 1}
    (folder / "settings.json").write_text(json.dumps(told), encoding="utf-8")
    line = {**RESULT, "recorded": False, "retries": 0, "ended": "nan from the world"}
    (folder / "results.jsonl").write_text(json.dumps(line) + "\n", encoding="utf-8")
    (tmp_path / "run" / "held_out.jsonl").write_text('{"step": 2, "psnr": 20.5}\n', encoding="utf-8")
    (tmp_path / "run" / "speed.jsonl").write_text('{"step": 2, "clips_a_second": 3.0}\n', encoding="utf-8")
    settings, rows = read_evaluation(tmp_path / "run")
    assert (settings.env, settings.executor, settings.sampling) == ("pointmass", "chunked", {"steps": 1})
    assert settings.checkpoint == Path("run/checkpoint") and rows == [Result.of({**line, "ended": "nan from the env"})]
    found = read(tmp_path / "run")
    assert found.validation == {"psnr": ([2], [20.5])} and found.throughput == {"clips_a_second": ([2], [3.0])}


def test_a_run_cannot_be_gone_on_with_and_says_what_to_do_instead(tmp_path, capsys):
    data = write_data(tmp_path / "dots", episodes=1, size=64, steps=36)
    (tmp_path / "run" / "state" / "step-000002").mkdir(parents=True)
    (tmp_path / "run" / "config.json").write_text(
        json.dumps({"preset": "tiny", "training": {"rate": 5e-4}}), encoding="utf-8"
    )
    with pytest.raises(SystemExit):
        main(["train", "--data", str(data), "--out", str(tmp_path / "run"), "--views", "top", "--resume"])
    told = capsys.readouterr().err
    assert "an earlier version began this run" in told and "--out NEW --init" in told
