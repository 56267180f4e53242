"""The real preset on few clips: what is tested is what the verb adds to `videopolicy.training`."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
from tests.small import same, write_data

from videopolicy import checkpoint, registry
from videopolicy.cli.main import main
from videopolicy.cli.train import Command
from videopolicy.configs import to_json
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.diffusion.noise import joint
from videopolicy.types import Episode

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "dots", episodes=2, size=64, steps=36)


@pytest.fixture(scope="session")
def trained(data, tmp_path_factory):
    """One run of two steps."""
    out = tmp_path_factory.mktemp("trained") / "run"
    train(data, out, "--steps", "2", "--views", "top")
    return out


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def train(data, out, *more):
    main(["train", "--data", str(data), "--out", str(out), "--batch-size", "2", *more])


def refused(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as ending:
        train(*arguments)
    assert ending.value.code == 2
    message = capsys.readouterr().err.splitlines()[-1]
    assert message.startswith("videopolicy: ")
    return message


def test_a_run_leaves_a_checkpoint_and_what_was_trained(trained, data):
    model, provenance = checkpoint.load(trained / "checkpoint")
    assert (provenance.stage, provenance.steps, provenance.episodes) == ("attached", 2, 1)
    assert provenance.notes["data"] == "dots"
    assert model.config.views == ("top",)
    assert model.config.backbone == registry.entry("presets", "cotrained").model.backbone
    told = json.loads((trained / "config.json").read_text(encoding="utf-8"))
    assert told["model"] == to_json(model.config)
    fingerprint = registry.build("datasets", "lerobot", data).fingerprint
    assert (told["preset"], told["data"]) == ("cotrained", [[fingerprint, None]])
    assert (told["training"]["steps"], told["training"]["batch_size"]) == (2, 2)


def test_a_finished_run_says_where_it_is_and_goes_on_with_more_steps(run, data, capsys):
    train(data, run, "--steps", "3", "--views", "top", "--resume")
    told = rf"trained 3 steps in \d+\.\d minutes: {re.escape(str(run / 'checkpoint'))}"
    assert re.search(told, capsys.readouterr().out)
    assert checkpoint.load(run / "checkpoint")[1].steps == 3


def test_the_licence_of_the_weights_it_began_from_stays(trained, data, tmp_path):
    model, provenance = checkpoint.load(trained / "checkpoint")
    checkpoint.save(model, replace(provenance, license="other"), tmp_path / "bound")
    train(data, tmp_path / "run", "--steps", "1", "--init", str(tmp_path / "bound"))
    assert checkpoint.load(tmp_path / "run" / "checkpoint")[1].license == "other"


def test_a_head_is_trained_beside_a_frozen_video_model(trained, data, tmp_path):
    train(data, tmp_path / "run", "--steps", "1", "--stage", "action", "--init", str(trained / "checkpoint"))
    (before, _), (after, provenance) = (checkpoint.load(run / "checkpoint") for run in (trained, tmp_path / "run"))
    assert same(before.backbone, after.backbone) and not same(before.head, after.head)
    assert provenance.stage == "action" and after.config == before.config


def test_a_run_is_never_written_over_nor_begun_by_mistake(run, data, tmp_path, capsys):
    before = (run / "state" / "step-000002" / "facts.json").stat().st_mtime_ns
    assert "holds a run already; go on with --resume" in refused(capsys, data, run, "--views", "top")
    assert (run / "state" / "step-000002" / "facts.json").stat().st_mtime_ns == before
    assert "holds no run" in refused(capsys, data, tmp_path / "new", "--views", "top", "--resume")
    assert not (tmp_path / "new").exists()


def test_ctrl_c_ends_with_130_and_a_checkpoint_to_go_on_from(data, tmp_path, capsys):
    out = tmp_path / "run"

    def press():
        while not (out / "tensorboard").exists():
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    pressing = threading.Thread(target=press, daemon=True)
    pressing.start()
    with pytest.raises(SystemExit) as ending:
        train(data, out, "--steps", "100000", "--views", "top")
    pressing.join()
    assert ending.value.code == 130
    told = capsys.readouterr().err
    assert f"{out} is kept as it was last saved: the same command with --resume goes on" in told
    assert "interrupted" in told
    steps = checkpoint.load(out / "checkpoint")[1].steps
    assert 1 <= steps < 1000
    train(data, out, "--steps", str(steps + 1), "--views", "top", "--resume")
    assert checkpoint.load(out / "checkpoint")[1].steps == steps + 1


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--preset", "tny"], "no preset 'tny'; did you mean 'tiny'"),
        (["--views", "topp"], "'topp'"),
        (["--steps", "0"], "--steps is 0"),
        (["--minutes", "-1"], "--minutes is -1.0"),
        (["--batch-size", "0"], "--batch-size is 0"),
        (["--init", "nowhere"], "nowhere: no such checkpoint folder"),
        (["--views", "top", "top"], "--views is top top; name each view once"),
        (["--features", "attached", "--stage", "video"], "--features is about --stage joint"),
        (["--features", "1.5"], "--features is 1.5"),
        (["--video-horizon", "-8"], "--video-horizon is -8"),
    ],
)
def test_bad_input_is_refused_in_one_line_and_leaves_nothing(data, tmp_path, capsys, more, message):
    assert message in refused(capsys, data, tmp_path / "run", *more)
    assert not (tmp_path / "run").exists()


def test_a_data_set_that_is_none_is_refused(tmp_path, capsys):
    assert "nowhere" in refused(capsys, tmp_path / "nowhere", tmp_path / "run")


def test_a_head_reads_the_views_that_it_has_learnt(trained, data, tmp_path, capsys):
    message = refused(capsys, data, tmp_path / "run", "--init", str(trained / "checkpoint"), "--views", "close")
    assert "its head reads top, in this order; leave --views out" in message


def test_pictures_of_another_size_than_the_checkpoints_are_refused(trained, tmp_path, capsys):
    small = write_data(tmp_path / "small", episodes=1, size=48, steps=36)
    init = str(trained / "checkpoint")
    message = refused(capsys, small, tmp_path / "run", "--init", init)
    assert "view 'top' is 48x48 pixels, but the policy sees 64x64" in message


def test_help_shows_an_example(capsys):
    with pytest.raises(SystemExit) as ending:
        main(["train", "--help"])
    assert ending.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Example: videopolicy train --data data/button --out runs/button" in shown


@pytest.mark.parametrize("other", [("--seed", "1"), ("--stage", "video")])
def test_resuming_under_other_settings_is_refused_by_name(run, data, capsys, other):
    message = refused(capsys, data, run, "--steps", "3", "--views", "top", "--resume", *other)
    assert f"another {other[0].removeprefix('--')};" in message
    train(data, run, "--steps", "3", "--views", "top", "--resume")


def test_actions_of_some_tasks_and_video_of_all_from_the_command_line(data, tmp_path, capsys):
    train(
        data,
        tmp_path / "run",
        "--steps",
        "1",
        "--views",
        "top",
        "--actions-for",
        "reach-red",
        "--validation-episodes",
        "0",
    )
    told = json.loads((tmp_path / "run" / "cache" / "index.json").read_text(encoding="utf-8"))
    kept = {episode["task"]: episode["has_actions"] for episode in told["episodes"]}
    assert kept == {"reach-red": True, "reach-blue": False}
    steps = {episode["task"]: episode["length"] for episode in told["episodes"]}
    share = f"{steps['reach-red'] / sum(steps.values()):.0%}"
    assert checkpoint.load(tmp_path / "run" / "checkpoint")[1].notes["clips with actions"] == share
    message = refused(capsys, data, tmp_path / "other", "--views", "top", "--actions-for", "reach-rd")
    assert "no task 'reach-rd'; did you mean 'reach-red'" in message


def test_several_data_sets_and_lists_of_them_are_trained_on_together(data, tmp_path):
    listed = tmp_path / "mixture.toml"
    listed.write_text(f'[[data]]\npath = "{data}"\nviews = {{top = "close"}}\nactions = false\n', encoding="utf-8")
    out = tmp_path / "run"
    main(
        [
            "train",
            "--data",
            str(data),
            str(listed),
            "--out",
            str(out),
            "--batch-size",
            "2",
            "--steps",
            "1",
            "--views",
            "top",
        ]
    )
    assert checkpoint.load(out / "checkpoint")[1].notes["data"] == "dots, dots-2"
    assert len(json.loads((out / "config.json").read_text(encoding="utf-8"))["data"]) == 2
    assert sorted(folder.name for folder in (out / "cache").iterdir()) == ["dots", "dots-2"]


def test_every_slip_is_told_in_one_line_of_its_own(tmp_path):
    (tmp_path / "mixture.toml").write_text("[[dat]]\n", encoding="utf-8")
    slips = [["--steps", "0"], ["--preset", "tny"], []]
    script = f"""
import sys
from videopolicy.cli.main import main
for slip in {slips!r}:
    try:
        main(["train", "--data", {str(tmp_path / "mixture.toml")!r}, "--out", {str(tmp_path / "run")!r}, *slip])
    except SystemExit as ending:
        assert ending.code == 2
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0 and len(done.stderr.splitlines()) == len(slips), done.stderr


def test_a_summary_of_the_data_is_printed_before_training(tmp_path, capsys):
    rng = np.random.default_rng(0)
    with Writer(tmp_path / "uneven", 20, ("top",)) as writer:
        for steps in (36, 15, 40, 35):
            frames = rng.integers(0, 256, (steps, 64, 64, 3), np.uint8)
            actions = rng.normal(size=(steps, 2)).astype(np.float32)
            writer.add(Episode({"top": frames}, "reach the red disc", 20, actions))
    train(tmp_path / "uneven", tmp_path / "run", "--steps", "1", "--views", "top", "--validation-episodes", "9")
    assert capsys.readouterr().out.splitlines()[:-1] == [
        "uneven: 2 episodes with actions, 1 instruction, 71 clips",
        "  left out: 1 of 4 episodes of uneven are shorter than a clip (17 control steps)",
        "held out, to measure on: 1 of 3 episodes: uneven 2",
        "  1 and not 9: half of the episodes, and some of each data set, are kept to train on",
    ]
    assert "- episodes held out: 1\n" in (tmp_path / "run" / "checkpoint" / "README.md").read_text(encoding="utf-8")


def test_of_a_preset_that_is_given_twice_the_last_one_holds():
    given = ["--data", "d", "--out", "o", "--preset", "cloning", "--preset=tiny"]
    command = Command.parse(given, "train")
    assert command.preset == "tiny" and command.training == registry.entry("presets", "tiny").training


def test_a_law_by_name_that_is_not_as_the_presets_own_is_pointed_out(data, tmp_path, capsys):
    train(data, tmp_path / "run", "--preset", "tiny", "--views", "top", "--steps", "1", "--noise", "joint")
    assert "note: --noise takes the law's own levels, not those of preset tiny" in capsys.readouterr().out
    assert checkpoint.load(tmp_path / "run" / "checkpoint")[1].noise == joint.Config()
