import json

import pytest
from tests.report.samples import evaluation
from tests.small import CLONING, small_model, write_data

from videopolicy.checkpoint import Provenance, save
from videopolicy.cli.main import main
from videopolicy.diffusion.noise import joint
from videopolicy.models.sampling import Sampling


def refused(capsys, *arguments):
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        main(["diagnose", *map(str, arguments)])
    assert ending.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "data", episodes=1)


def test_recordings_that_cannot_be_diagnosed_are_refused(tmp_path, data, capsys):
    run = evaluation(tmp_path / "run", {"push": [True, False]}, recorded=2)
    assert "older version recorded it, without actions" in refused(capsys, run, "--data", data)
    for video in run.rglob("imagined_*.mp4"):
        video.unlink()
    assert "no video of the future" in refused(capsys, run, "--data", data)


def test_demonstrations_that_do_not_fit_are_refused(tmp_path, data, capsys):
    run = evaluation(tmp_path / "run", {"push": [True, False]}, recorded=2)
    for path in run.rglob("plans.json"):
        path.write_text(
            json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"actions": [[0.0]] * 20}), encoding="utf-8"
        )
    assert "no view 'front'" in refused(capsys, run, "--data", data)
    assert "holds no evaluation" in refused(capsys, tmp_path, "--data", data)


def evaluated(folder, **changes):
    """A run of random weights, evaluated on two starts of either task."""
    model = small_model(sampling=Sampling(steps=1, sigma_max=10.0), **changes)
    save(model, Provenance("joint", 1, noise=joint.Config()), folder / "checkpoint")
    tasks = ["--env", "pointmass", "--task", "reach-red", "reach-blue"]
    numbers = ["--episodes", "2", "--workers", "1", "--record", "0"]
    main(["evaluate", "--checkpoint", str(folder / "checkpoint"), *tasks, *numbers])
    return folder


@pytest.mark.slow
def test_the_true_future_is_played_from_the_same_starts(tmp_path, data, capsys):
    run = evaluated(tmp_path / "run")
    capsys.readouterr()
    main(["diagnose", str(run), "--data", str(data), "--oracle", "--episodes", "1"])
    said = capsys.readouterr().out
    assert "the head is shown the future as noisy as its actions" in said
    found = json.loads((run / "evaluation" / "diagnosis" / "oracle.json").read_text(encoding="utf-8"))
    assert found["verdict"] in said
    lines = (run / "evaluation" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    before = [json.loads(line) for line in lines]
    after = found["episodes_with_the_true_future"]
    starts = {(row["task"], row["episode"], row["seed"]) for row in before if row["episode"] < 1}
    assert {(row["task"], row["episode"], row["seed"]) for row in after} == starts
    assert found["success_of_all_tasks"]["episodes"] == 2
    main(["diagnose", str(run), "--data", str(data), "--oracle", "--episodes", "0"])
    assert "In the env" not in capsys.readouterr().out


@pytest.mark.slow
def test_a_policy_that_no_future_can_be_shown_is_refused(tmp_path, data, capsys):
    cloned = evaluated(tmp_path / "cloned", **CLONING)
    assert "imagines no video" in refused(capsys, cloned, "--data", data, "--oracle")
    run = evaluated(tmp_path / "run")
    save(small_model(seed=1), Provenance("joint", 2), run / "checkpoint")
    assert "has changed since the evaluation" in refused(capsys, run, "--data", data, "--oracle")
    chance = ["--policy", "random:2", "--env", "pointmass", "--task", "reach-red", "--out", str(tmp_path / "chance")]
    main(["evaluate", *chance, "--episodes", "1", "--workers", "1", "--record", "0"])
    assert "policy 'random' is no checkpoint" in refused(capsys, tmp_path / "chance", "--data", data, "--oracle")
