"""An env is driven by a served policy, whatever happens to the server, and what happened can be trained on."""

import os
import signal
import subprocess
import sys
from threading import Event, Thread
from time import sleep

import numpy as np
import pytest
from tests.processes import running as started
from tests.serving.serving import STYLE, running, service

from videopolicy.cli import drive as verb
from videopolicy.cli import main as cli
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.envs.pointmass import COLOURS, HALF_WIDTHS, STRIDE, make
from videopolicy.policies.base import PolicySpec
from videopolicy.types import Plan

SIZE, CHUNK = 32, 8
DRIVE = ["drive", "--env", "pointmass", "--task", "reach-red"]


class Heading:
    """Heads for the red disc that it sees with the first `moving` actions of a chunk, and may take its time."""

    def __init__(self, pauses=(), moving=CHUNK, size=SIZE):
        self.spec = PolicySpec(("top",), size, action_width=2, chunk=CHUNK, execute=4, fps=20, tasks=("reach-red",))
        self._pauses, self._moving = iter(pauses), moving

    def plan(self, observations, seeds, imagine):
        sleep(next(self._pauses, 0))
        return [Plan(self._way(observation)) for observation in observations]

    def _way(self, observation):
        size = self.spec.size
        red = np.abs(observation.images["top"].astype(int) - COLOURS["red"]).sum(2) < 120
        row, column = np.argwhere(red).mean(0) if red.any() else (size / 2, size / 2)
        goal = (np.array([column, size - 1 - row]) + 0.5) / size * 2 - 1
        left, actions = goal * HALF_WIDTHS["top"] - observation.state, []
        for _ in range(CHUNK):
            actions.append(np.clip(left / STRIDE, -1, 1))
            left = left - STRIDE * actions[-1]
        return np.array(actions, np.float32) * (np.arange(CHUNK) < self._moving)[:, None].astype(np.float32)


def serving(policy, **options):
    return running(service(policy, state_width=2, style=STYLE), **options)


def drive(port, *arguments):
    cli.main([*DRIVE, "--server", f"ws://127.0.0.1:{port}", *map(str, arguments)])


def test_what_it_did_is_recorded_as_it_was_done_and_gone_on_with(tmp_path, capsys):
    with serving(Heading()) as port:
        drive(port, "--rate", 200, "--episodes", 2, "--record", tmp_path / "d")
        said = capsys.readouterr().out
        drive(port, "--rate", 200, "--episodes", 1, "--record", tmp_path / "d")
    assert "driving pointmass reach-red at 200 control steps a second" in said
    assert "1/2 success, " in said and said.splitlines()[-1].startswith("success 2/2 ")
    assert f"{tmp_path / 'd'} holds 3 episodes; successes are 0-2" in capsys.readouterr().out
    dataset = open_dataset(tmp_path / "d")
    assert (len(dataset), dataset.fps, dataset.views, dataset.notes) == (3, 20, ("top",), ())
    assert dataset.action_layout == "other:2"
    assert "not demonstrations" in (tmp_path / "d/README.md").read_text(encoding="utf-8")
    env = make("reach-red", views=("top",), size=SIZE)
    for index in range(3):
        episode = dataset.episode(index)
        assert (episode.seed, episode.success, episode.task) == (verb.FIRST_SEED + index, True, "reach-red")
        state, _ = env.reset(seed=episode.seed)
        for frame, then, action in zip(episode.views["top"], episode.states, episode.actions, strict=True):
            assert (then == state).all() and np.abs(frame.astype(int) - env.observe().images["top"]).mean() < 5
            state = env.step(action)[0]


def test_late_answers_are_told_and_held(tmp_path, capsys):
    # The second chunk after the warming up is later than the first one lasts, which ends with standing still.
    with serving(Heading([0, 0, 0.6], moving=2)) as port:
        drive(port, "--rate", 40, "--episodes", 1, "--record", tmp_path / "d")
    captured = capsys.readouterr()
    assert "s, held: the server has not answered yet" in captured.err and "moves again, " in captured.err
    assert " held\n" in captured.out
    # What layout `other` means is not known, so that the last action holds.
    assert (open_dataset(tmp_path / "d").episode(0).actions[8:12] == 0).all()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--task", "reach-rod"], "no task 'reach-rod'; did you mean 'reach-red'?"),
        (["--env", "metaworld"], "no task 'reach-red'"),
        (["--rate", "0"], "--rate is 0"),
        (["--episodes", "0"], "--episodes is 0"),
        (["--seed", "999999", "--episodes", "5"], "kept for evaluation"),
        (["--style", "liberto"], "no style 'liberto'; did you mean 'libero'?"),
        (["--token", "wrong"], "the server wants another token"),
        (["--record", "full"], "exists and is not empty"),
    ],
    ids=" ".join,
)
def test_bad_input_is_one_line_and_leaves_nothing(arguments, says, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    token = [] if "--token" in arguments else ["--token", "right"]
    with serving(Heading(), token="right") as port, pytest.raises(SystemExit) as ending:
        drive(port, "--record", "d", *token, *arguments)
    assert ending.value.code == 2
    (line,) = (line for line in capsys.readouterr().err.splitlines() if line.startswith("videopolicy: "))
    assert says in line
    assert [path.name for path in tmp_path.rglob("*")] == ["full", "mine"]


def test_a_server_that_is_not_there_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(verb, "FOUND", 0.2)
    with pytest.raises(SystemExit):
        drive(9)
    assert "ws://127.0.0.1:9: the server cannot be reached" in capsys.readouterr().err


def test_the_token_may_be_in_the_environment(monkeypatch, capsys):
    monkeypatch.setenv("VIDEOPOLICY_TOKEN", "right")
    with serving(Heading(), token="right") as port:
        drive(port, "--rate", 200, "--episodes", 1)
    assert "success 1/1" in capsys.readouterr().out


def test_a_server_that_goes_away_is_found_when_it_is_back(capsys):
    up, back, done, ports = Event(), Event(), Event(), []

    def life():
        # It moves too little to be done before the server goes, for longer than an observation is good for.
        with serving(Heading(moving=1)) as port:
            ports.append(port)
            up.set()
            sleep(1)
        sleep(1)
        with serving(Heading(), port=port):
            back.set()
            done.wait(60)

    server = Thread(target=life)
    server.start()
    assert up.wait(30)
    drive(*ports, "--rate", 20, "--episodes", 3)
    done.set()
    server.join(60)
    captured = capsys.readouterr()
    assert back.is_set() and " s, held: " in captured.err
    assert "connected to the server again" in captured.err and "1 reconnection\n" in captured.out
    assert "3/3 success" in captured.out


@pytest.mark.slow
def test_what_is_recorded_is_trained_on_at_once(tmp_path):
    with serving(Heading(size=64)) as port:
        drive(port, "--rate", 200, "--episodes", 2, "--record", tmp_path / "d")
    options = ("--batch-size", "2", "--steps", "1", "--views", "top")
    cli.main(["train", "--data", str(tmp_path / "d"), "--out", str(tmp_path / "run"), *options])
    assert (tmp_path / "run/checkpoint/model.safetensors").is_file()


def endless(port, out):
    """The command, in a process of its own."""
    options = ("--server", f"ws://127.0.0.1:{port}", "--rate", "200", "--episodes", "1000", "--record", out)
    return started(sys.executable, "-m", "videopolicy", *DRIVE, *options, stdout=subprocess.PIPE)


def episodes_told(process, count):
    """Reads on until so many episodes have ended."""
    for line in process.stdout:
        if line.startswith(f"{count}/"):
            return
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
def test_ctrl_c_keeps_what_has_ended_and_says_how_it_went(tmp_path):
    with serving(Heading()) as port, endless(port, tmp_path / "d") as process:
        episodes_told(process, 2)
        os.kill(process.pid, signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(60) == 130
        assert process.stderr.read().splitlines()[-1] == "videopolicy: interrupted"
    told = [line for line in rest.splitlines() if line.startswith("success ")]
    count = len(open_dataset(tmp_path / "d"))
    assert count >= 2 and told[-1].startswith(f"success {count}/{count}")
    assert not [path for path in tmp_path.rglob("*") if path.suffix in (".partial", ".lock")]


@pytest.mark.slow
def test_a_drive_that_is_killed_leaves_every_episode_that_had_ended_and_is_gone_on_with(tmp_path):
    out, ended = tmp_path / "d", 0
    with serving(Heading()) as port:
        for pause in (0, 0.05, 0.2):
            with endless(port, out) as process:
                episodes_told(process, 2)
                sleep(pause)
                os.kill(process.pid, signal.SIGKILL)
                process.wait(60)
                ended += 2 + process.stdout.read().count("success, ")
            assert len(open_dataset(out)) >= ended
            ended = len(open_dataset(out))
        drive(port, "--rate", 200, "--episodes", 1, "--record", out)
    dataset = open_dataset(out)
    assert len(dataset) >= ended + 1 and dataset.notes == ()
    seeds = [dataset.episode(index).seed for index in range(len(dataset))]
    assert seeds == sorted(set(seeds))
