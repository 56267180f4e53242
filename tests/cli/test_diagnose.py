import json

import pytest
from tests.report.samples import evaluation
from tests.small import write_data

from videopolicy.cli.main import main


def refused(capsys, *arguments):
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
