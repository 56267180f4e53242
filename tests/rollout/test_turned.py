"""Demonstrations that were turned are noticed where the policy that learnt from them meets the env, and only they."""

from dataclasses import replace

import numpy as np
import pytest
from tests.small import MODEL, TRAINING, observation

from videopolicy.cli.main import main
from videopolicy.clips.statistics import FrameStatistics
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.datasets.transforms.turn import TURNS, Turn
from videopolicy.envs.base import EVALUATION_SEED_OFFSET, make_env
from videopolicy.policies.orientation import FEWEST
from videopolicy.rollout.runner import evaluate
from videopolicy.training.run import train
from videopolicy.types import Episode

TASK, VIEW = "button-press-topdown-v3", "corner2"


def said(capsys):
    """The notes among what was written beside the results."""
    return [line for line in capsys.readouterr().err.splitlines() if line.startswith("note: ")]


@pytest.mark.parametrize("turn", TURNS, ids=str)
def test_the_first_image_of_all_is_compared_and_no_other(turn, seeing, settings, tmp_path, threads, capsys):
    policy = seeing()
    # As if every demonstration had begun as the evaluation's first episode does.
    image = observation(EVALUATION_SEED_OFFSET, policy.size).images["top"]
    policy.spec = replace(policy.spec, frames={"top": FrameStatistics.of(turn.apply(np.stack([image] * FEWEST)))})
    evaluate(policy, settings, tmp_path, workers=1, place=threads)
    notes = said(capsys)
    if turn == Turn():
        assert notes == []
    else:
        (line,) = notes
        assert line.startswith(f"note: view top fits the training frames better {turn} (1.00) than as it comes (")
        assert f"convert them with {turn.inverse.options('top')} and train again" in line


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """As many episodes as are needed, of a hand that stands still."""
    path = tmp_path_factory.mktemp("recorded") / "upright"
    env = make_env("metaworld", TASK, views=(VIEW,), size=MODEL.size)
    still = np.zeros(4, np.float32)
    with Writer(path, env.fps, (VIEW,)) as writer:
        for seed in range(FEWEST):
            env.reset(seed=seed)
            frames = []
            for _ in range(MODEL.window.span):
                frames.append(env.observe().images[VIEW])
                env.step(still)
            actions = np.random.default_rng(seed).uniform(-1, 1, (len(frames), 4)).astype(np.float32)
            writer.add(Episode({VIEW: np.stack(frames)}, env.instruction, env.fps, actions, task=TASK))
    env.close()
    return path


@pytest.mark.slow
@pytest.mark.metaworld
@pytest.mark.parametrize("turned", [False, True], ids=["upright", "upside down"])
def test_a_policy_of_turned_demonstrations_is_told_by_its_first_look_at_the_env(turned, recorded, tmp_path, capsys):
    data = recorded
    if turned:
        data = tmp_path / "turned"
        main(["convert", str(recorded), str(data), "--flip", f"{VIEW}=vertical", "--workers", "1"])
    # The task is said in five words.
    model = replace(MODEL, views=(VIEW,), text=replace(MODEL.text, length=5))
    checkpoint = train(data, model, replace(TRAINING, steps=1), tmp_path / "run")
    capsys.readouterr()
    options = ["--task", TASK, "--episodes", "1", "--steps", "1", "--record", "0", "--workers", "1"]
    main(["evaluate", "--checkpoint", str(checkpoint), *options])
    notes = said(capsys)
    assert len(notes) == turned
    if turned:
        assert notes[0].startswith(f"note: view {VIEW} fits the training frames better flipped vertically (")
        assert f"convert them with --flip {VIEW}=vertical and train again" in notes[0]
