import json

import pytest
from tests.small import small_model, write_data

from videopolicy.checkpoint import Provenance, load, read_config, save
from videopolicy.cli.main import main
from videopolicy.durable import sha256
from videopolicy.models.sampling import Sampling
from videopolicy.rollout.results import Result
from videopolicy.tuning.success import Starts

pytestmark = pytest.mark.slow


@pytest.fixture
def checkpoint(tmp_path):
    folder = tmp_path / "run" / "checkpoint"
    save(small_model(sampling=Sampling(steps=2, sigma_max=10.0)), Provenance("joint", 1), folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "discs", episodes=2)


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as ending:
        main(["tune", *map(str, arguments)])
    assert ending.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    return line


def test_the_mode_is_written_beside_the_same_weights_and_acts(checkpoint, data, tmp_path, capsys):
    weights = sha256(checkpoint / "model.safetensors")
    main(["tune", str(checkpoint), "--data", str(data), "--bound", "2", "--json", str(tmp_path / "found.json")])
    *lines, last = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 120
    config = read_config(checkpoint)
    assert last.startswith(f"mode 'fast' is {config.modes['fast']}, the fastest that passes")
    assert config.modes["fast"].passes().video < config.sampling.passes().video
    assert sha256(checkpoint / "model.safetensors") == weights
    load(checkpoint)
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["chosen"]["sampling"]["steps"] == config.modes["fast"].steps
    assert {path.name for path in checkpoint.parent.iterdir()} == {"checkpoint"}


def test_nothing_is_written_where_nothing_is_close_enough(checkpoint, data, capsys):
    before = (checkpoint / "config.json").read_bytes()
    main(["tune", str(checkpoint), "--data", str(data), "--bound", "0"])
    assert "nothing is written" in capsys.readouterr().out.splitlines()[-1]
    assert (checkpoint / "config.json").read_bytes() == before


def test_with_an_env_it_acts_from_the_same_starts(checkpoint, capsys, monkeypatch):
    played = []

    def play(self, policy, name, episodes, bar):
        played.append(name)
        return [Result("reach-red", n, n, True, 9, 1.0, 2, False) for n in range(episodes)]

    monkeypatch.setattr(Starts, "play", play)
    acting = ["--env", "pointmass", "--task", "reach-red", "--episodes", "40"]
    main(["tune", str(checkpoint), *acting, "--bound", "2", "--name", "quick"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("mode 'quick' is ") and last.endswith("not worse by 10 points on 40 starts")
    assert played == ["exact", str(read_config(checkpoint).modes["quick"])] * 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Give --data FOLDER, or --env NAME --task TASK"),
        (["--env", "pointmass"], "--env and --task go together"),
        (["--data", "somewhere", "--task", "reach-red"], "--env and --task go together"),
        (["--data", "somewhere"], "somewhere: no such data set"),
        (["--data", "somewhere", "--out", "there"], "--out is where evaluations go"),
        (["--env", "pointmass", "--task", "reach-red", "--episodes", "20"], "it takes at least 40"),
        (["--env", "pointmass", "--task", "reach-rde"], "no task 'reach-rde'"),
        (["--data", "somewhere", "--name", "exact"], "give the new one another name"),
        (["--data", "somewhere", "--name", "so fast"], "a word of letters and digits"),
        (["--data", "somewhere", "--bound", "-1"], "--bound is -1.0; it must be from 0"),
    ],
)
def test_a_slip_is_one_line(arguments, said, checkpoint, capsys):
    assert said in refused(capsys, checkpoint, *arguments)
