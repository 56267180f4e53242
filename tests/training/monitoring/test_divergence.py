import json
import math

import numpy as np
import pytest
import torch

from videopolicy import checkpoint
from videopolicy.errors import UserError
from videopolicy.training.monitoring import divergence
from videopolicy.training.monitoring.divergence import REMEMBERED, WARM, DivergenceGuard
from videopolicy.training.noise import draw_noise, generator_of


def spoil(trainer, step):
    """Puts a NaN into what the policy sees at a step."""
    read = trainer.clips.batch

    def batch(indices, rng):
        found = read(indices, rng)
        if np.array_equal(indices, trainer.batch_indices(step)):
            found.future[0, 0, 0, 0, 0, 0] = np.nan
        return found

    return batch


def losses_again(trainer, found):
    """The losses of what was written aside, as `divergence.load` says, with the trainer's weights."""
    generator = generator_of(found.facts["seed"], found.facts["step"])
    noise = draw_noise(trainer.objective.model, trainer.training, found.batch, generator)
    return trainer.objective(found.batch, noise)


def test_a_batch_with_a_nan_is_written_aside_and_gives_the_nan_again(trainer, monkeypatch):
    run = trainer(steps=10, save_every=1)
    monkeypatch.setattr(run.clips, "batch", spoil(run, 3))
    with pytest.raises(UserError) as stopped:
        run.train()
    folder = run.run / "divergence" / "step-000003"
    message = str(stopped.value)
    assert "\n" not in message and str(folder) in message and str(run.run / "checkpoint") in message
    assert checkpoint.load(run.run / "checkpoint")[1].steps == 3

    assert {path.stat().st_mode for path in folder.iterdir()} == {(run.run / "losses.jsonl").stat().st_mode}
    found = divergence.load(folder)
    json.loads((folder / "facts.json").read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert found.facts["step"] == 3 and found.facts["video"] == "nan"
    assert found.facts["indices"] == run.batch_indices(3).tolist()
    assert found.facts["clips"]["video"].count("nan") == 1
    fresh = trainer("study", steps=10)
    losses = losses_again(fresh, found)
    assert torch.isnan(losses.video.mean(1)).tolist() == [True, False, False, False]
    assert losses.levels.video.tolist() == pytest.approx(found.facts["clips"]["sigma_video"])


def test_what_was_written_aside_gives_the_same_losses_to_the_bit(trainer, monkeypatch):
    run = trainer(steps=10)
    monkeypatch.setattr(run._guard, "problem", lambda loss, norm: "is under study" if run.step == 2 else None)
    with pytest.raises(UserError, match="nothing was saved before"):
        run.train()
    found = divergence.load(run.run / "divergence" / "step-000002")
    losses = losses_again(run, found)
    assert losses.video.mean(1).tolist() == found.facts["clips"]["video"]
    assert losses.actions.mean(1).tolist() == found.facts["clips"]["action"]


def test_a_disk_that_is_full_does_not_hide_the_divergence(trainer, monkeypatch):
    run = trainer(steps=10)
    monkeypatch.setattr(run.clips, "batch", spoil(run, 1))
    (run.run).mkdir(exist_ok=True)
    (run.run / "divergence").write_text("no folder", encoding="utf-8")
    with pytest.raises(UserError, match=r"the loss is nan .* could not be written aside"):
        run.train()


@pytest.mark.parametrize("content", [None, "{}", "torn"])
def test_what_is_no_diverged_step_is_refused(tmp_path, content):
    if content:
        (tmp_path / "facts.json").write_text(content, encoding="utf-8")
        (tmp_path / "batch.safetensors").write_bytes(b"torn")
    with pytest.raises(UserError, match="no batch that was written aside"):
        divergence.load(tmp_path)


def test_only_numbers_that_are_not_finite_stop_a_run_that_begins():
    guard = DivergenceGuard()
    assert all(guard.problem(loss, 1.0) is None for loss in (1.0, 1e9, 1e-9))
    assert guard.problem(math.nan, 1.0) and guard.problem(1.0, math.inf) and guard.problem(math.inf, 0.0)


def test_an_explosion_stops_a_run_and_is_forgotten_by_no_one():
    guard = DivergenceGuard()
    rng = np.random.default_rng(0)
    for loss in rng.lognormal(0, 1, WARM):
        assert guard.problem(loss, 1.0) is None
    assert "explodes" in (guard.problem(5000.0, 1.0) or "")
    assert "explodes" in (guard.problem(5000.0, 1.0) or "")
    assert guard.problem(50.0, 1.0) is None


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_heavy_tails_are_no_explosion_whatever_the_scale(scale):
    guard = DivergenceGuard()
    rng = np.random.default_rng(0)
    for loss in scale * rng.lognormal(0, 1.5, 20000):
        assert guard.problem(float(loss), 1.0) is None


def test_learning_by_heart_and_batches_in_which_nothing_counts_are_no_explosion():
    guard = DivergenceGuard()
    for step in range(5 * REMEMBERED):
        loss = 0.0 if step % 2 else 1e-8
        assert guard.problem(loss, 1.0) is None
    assert guard.problem(1.5, 1.0) is None
