"""Two processes of one run, against one process."""

import json
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils.launch import prepare_multi_gpu_env
from safetensors.torch import load_file
from tests.disk import full_disk
from tests.small import MODEL, Partly, write_data
from tests.training import children

from videopolicy import checkpoint
from videopolicy.backbones.wan import EXAMPLE_EXPERTS
from videopolicy.errors import UserError
from videopolicy.training.noise import draw_noise, generator_of

pytestmark = pytest.mark.slow

# The rate of the preset svd: at a large one, Adam makes rounding errors of gradients near zero as large as any step.
SLOW = {"steps": 20, "batch_size": 8, "lr": 1e-5, "head_lr": 1e-5, "save_every": 10}
NUMBERS = ("video", "action", "grad_norm")


def losses(run):
    lines = [json.loads(line) for line in (run / "losses.jsonl").read_text(encoding="utf-8").splitlines()]
    return np.array([[line[name] for name in NUMBERS] for line in lines])


def assert_agree(run, other):
    first, second = losses(run), losses(other)
    assert first.shape == second.shape
    np.testing.assert_allclose(first[:, :2], second[:, :2], rtol=0, atol=1e-5)
    # From the same weights, only the order of sums differs. Later Adam has moved weights whose gradients are rounding
    # errors apart, by up to its rate a step, which some clips' gradients feel more than others'.
    np.testing.assert_allclose(first[0, 2], second[0, 2], rtol=1e-5)
    np.testing.assert_allclose(first[:, 2], second[:, 2], rtol=5e-3)
    weights, others = (checkpoint.load(folder / "checkpoint")[0].state_dict() for folder in (run, other))
    for name in weights:
        # Twenty steps of at most the rate each, the last ones less: no weight may have gone another way for long.
        torch.testing.assert_close(weights[name], others[name], rtol=0, atol=5e-5)


@pytest.fixture(scope="module")
def runs(data, tmp_path_factory):
    """The same run in one process, in two with all weights each, and in two with half of them each."""
    folder = tmp_path_factory.mktemp("runs")
    begun = {
        "one": [children.start(children.train, data, folder / "one", False, SLOW)],
        "ddp": children.start_pair(children.train, data, folder / "ddp", False, SLOW),
    }
    for processes in begun.values():
        assert children.wait(*processes) == [0] * len(processes)
    sharded = children.start_pair(children.train, data, folder / "fsdp2", False, SLOW, **children.SHARDED)
    assert children.wait(*sharded) == [0, 0]
    return folder


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_two_processes_are_one_run(runs, kind):
    assert_agree(runs / "one", runs / kind)
    # It is a run of its own: another order of the clips would not go unnoticed.
    assert np.abs(np.diff(losses(runs / "one")[:, 0])).max() > 1e-3


@pytest.mark.parametrize("environment", [{}, children.SHARDED], ids=["ddp", "fsdp2"])
def test_two_networks_may_have_clips_in_one_process_only(data, tmp_path, environment):
    """With a clip each, a process leaves one of the networks without."""
    shape = replace(MODEL, backbone=replace(EXAMPLE_EXPERTS, boundary=0.5))
    changes = SLOW | {"batch_size": 2, "steps": 8, "save_every": 8}
    assert children.wait(children.start(children.train, data, tmp_path / "one", False, changes, None, shape)) == [0]
    given = (children.train, data, tmp_path / "two", False, changes, None, shape)
    assert children.wait(*children.start_pair(*given, **environment)) == [0, 0]
    assert_agree(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("environment", [{}, children.SHARDED], ids=["ddp", "fsdp2"])
def test_the_video_may_be_learnt_in_one_process_only(data, tmp_path, environment):
    """With a clip each, and the video of clips without actions alone, a process may have nothing to learn by it."""
    some = tmp_path / "some.toml"
    some.write_text(f'[[data]]\npath = "{data}"\nactions_of = [0]\n', encoding="utf-8")
    changes = SLOW | {"batch_size": 2, "steps": 8, "save_every": 8, "video_share": 0.0}
    assert children.wait(children.start(children.train, some, tmp_path / "one", False, changes)) == [0]
    pair = children.start_pair(children.train, some, tmp_path / "two", False, changes, **environment)
    assert children.wait(*pair) == [0, 0]
    assert_agree(tmp_path / "one", tmp_path / "two")


def half(run, tmp_path):
    """The run as it was in the middle."""
    copy = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(copy / "state" / "step-000020")
    return copy


@pytest.mark.parametrize(("kind", "processes"), [("one", 2), ("ddp", 1), ("fsdp2", 1)])
def test_the_number_of_processes_may_change(runs, data, tmp_path, kind, processes):
    run = half(runs / kind, tmp_path)
    start = children.start_pair if processes == 2 else lambda *args: [children.start(*args)]
    assert children.wait(*start(children.train, data, run, True, SLOW)) == [0] * processes
    assert_agree(runs / "one", run)


def test_sharded_it_resumes_what_one_process_began(runs, data, tmp_path):
    run = half(runs / "one", tmp_path)
    assert children.wait(*children.start_pair(children.train, data, run, True, SLOW, **children.SHARDED)) == [0, 0]
    assert_agree(runs / "one", run)


def test_a_sharded_transformer_is_one_run(data, tmp_path):
    few = SLOW | {"steps": 6, "save_every": 6}
    assert children.wait(children.start(children.train_transformer, data, tmp_path / "one", few)) == [0]
    sharded = children.start_pair(children.train_transformer, data, tmp_path / "fsdp2", few, **children.SHARDED)
    assert children.wait(*sharded) == [0, 0]
    assert_agree(tmp_path / "one", tmp_path / "fsdp2")


def test_a_signal_to_one_process_ends_all_at_the_same_step(data, tmp_path):
    run = tmp_path / "run"
    pair = children.start_pair(children.train_to_the_signal, data, run, False, SLOW | {"steps": 10**6})
    while not (run / "losses.jsonl").exists():
        time.sleep(0.01)
    pair[1].terminate()
    assert children.wait(*pair) == [0, 0]
    assert len({(run / f"stopped-{rank}").read_text(encoding="utf-8") for rank in range(2)}) == 1
    assert checkpoint.load(run / "checkpoint")[1].steps == int((run / "stopped-0").read_text(encoding="utf-8"))


def test_a_process_that_dies_takes_the_others_with_it(data, tmp_path):
    run = tmp_path / "run"
    pair = children.start_pair(children.train_to_the_signal, data, run, False, SLOW | {"steps": 10**6})
    while not (run / "losses.jsonl").exists():
        time.sleep(0.01)
    pair[1].kill()
    # Or it waits for the other until the test's own time is over.
    assert children.wait(*pair) == [children.ALONE, -signal.SIGKILL]


def test_a_process_that_hangs_is_given_up(tmp_path):
    assert children.wait(*children.start_pair(children.hang)) == [children.ALONE, 0]


def test_what_accelerate_makes_of_the_settings_is_what_is_tested_here():
    settings = Path(__file__).parents[2] / "configs" / "accelerate"
    for name, sharded in (("ddp", False), ("fsdp2", True)):
        arguments = ["--config_file", str(settings / f"{name}.yaml"), "-m", "videopolicy", "train"]
        arguments, *_ = _validate_launch_command(launch_command_parser().parse_args(arguments))
        found = prepare_multi_gpu_env(arguments)
        assert found["ACCELERATE_MIXED_PRECISION"] == "no"
        assert (found.items() >= children.SHARDED.items()) == sharded
        # Which modules are wrapped is the backbone's to say.
        assert "FSDP_TRANSFORMER_CLS_TO_WRAP" not in found


def test_with_torchrun_a_full_disk_ends_all_processes_and_leaves_the_last_state(tmp_path):
    data, run = write_data(tmp_path / "data", episodes=1, size=64, steps=36), tmp_path / "run"
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", f"--master-port={children.port()}"]
    line += [
        "-m",
        "videopolicy",
        "train",
        "--data",
        str(data),
        "--out",
        str(run),
        "--views",
        "top",
        "--batch-size",
        "2",
    ]
    done = subprocess.run([*line, "--steps", "1"], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained 1 steps") == 1
    with full_disk(2**24):
        full = subprocess.run([*line, "--steps", "2", "--resume"], capture_output=True, text=True, encoding="utf-8")
    assert full.returncode == 1 and f"{run / 'state'}: cannot be written" in full.stderr
    assert [path.name for path in (run / "state").iterdir()] == ["step-000001"]
    assert checkpoint.load(run / "checkpoint")[1].steps == 1


def test_in_bfloat16_it_learns_nearly_the_same_and_keeps_whole_weights(runs, data, tmp_path):
    run, changes = tmp_path / "run", SLOW | {"precision": "bf16"}
    assert children.wait(children.start(children.train, data, run, False, changes)) == [0]
    first, half_precise = losses(runs / "one"), losses(run)
    np.testing.assert_allclose(half_precise[:, :2], first[:, :2], rtol=0.05)
    assert not np.array_equal(half_precise, first)
    state = run / "state" / "step-000020"
    assert {
        value.dtype for part in ("weights", "average") for value in load_file(state / f"{part}.safetensors").values()
    } == {torch.float32}


def test_sharded_in_bfloat16_it_learns_nearly_the_same_and_looks_at_what_it_imagines(runs, data, tmp_path):
    run = tmp_path / "run"
    changes = SLOW | {"steps": 4, "precision": "bf16", "gradient_checkpointing": True, "validate_every": 4}
    assert children.wait(*children.start_pair(children.train, data, run, False, changes, **children.SHARDED)) == [0, 0]
    found = losses(run)[:, :2]
    np.testing.assert_allclose(found, losses(runs / "one")[:4, :2], rtol=0.05)
    # Means of 8 clips' 4 frames, had each been rounded to the 8 bits of bfloat16, would be multiples of this.
    assert (found[:, 0] % 2.0**-14).any()
    assert (run / "samples" / "step-000004.mp4").exists()
    weights = checkpoint.load(run / "checkpoint")[0].state_dict()
    assert all(value.dtype == torch.float32 for value in weights.values() if value.is_floating_point())


def test_parts_of_the_batch_have_the_gradient_of_the_whole(trainer, dataset):
    gradients = []
    for accumulate in (1, 3):
        run = trainer(
            f"in-{accumulate}", data=Partly(dataset, {0, 2}), batch_size=7, accumulate=accumulate, max_grad_norm=1e9
        )
        batch = run.clips.batch(run.batch_indices(0), None)
        assert 0 < batch.has_actions.sum() < 7
        noise = draw_noise(run.objective.model, run.training, batch, generator_of(0, 0))
        found, norm = run.train_step.gradient(batch, noise)
        weights = [p for p in run.objective.parameters() if p.requires_grad]
        gradients.append((norm, found, [p.grad for p in weights]))
    (norm, found, grads), (other_norm, other_found, other_grads) = gradients
    torch.testing.assert_close(norm, other_norm)
    torch.testing.assert_close(found.video, other_found.video)
    torch.testing.assert_close(found.actions, other_found.actions)
    for first, second in zip(grads, other_grads, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-5)


def test_a_batch_too_small_for_its_parts_is_refused(trainer):
    with pytest.raises(UserError, match="a batch of 4 clips cannot be divided in 5 parts; it needs at least 5 clips"):
        trainer(accumulate=5)
