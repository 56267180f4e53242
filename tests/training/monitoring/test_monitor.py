import json

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tests.small import Partly

from videopolicy.errors import UserError
from videopolicy.media import read_mp4
from videopolicy.training.monitoring import monitor
from videopolicy.training.monitoring.loss_stats import BANDS
from videopolicy.training.monitoring.throughput import ThroughputMeter
from videopolicy.training.monitoring.validation import SHOWN, Validator, evenly, imagined_above_real
from videopolicy.training.prefetch import Prefetcher

pytestmark = pytest.mark.slow


def lines(run, name="losses"):
    return [json.loads(line) for line in (run / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


def sampled_video(run):
    """The video of sampled futures."""
    return imagined_above_real(Validator(run.objective, run.clips, 4, seed=0).draw(SHOWN))


def test_a_line_is_the_mean_of_the_steps_since_the_last(trainer):
    each, pairs = trainer("each"), trainer("pairs", log_every=2)
    each.train()
    pairs.train()
    single, double = lines(each.run), lines(pairs.run)
    assert [line["step"] for line in double] == [2, 4]
    for part in ("video", "action"):
        means = [np.mean([line[part] for line in single[i : i + 2]]) for i in (0, 2)]
        assert [line[part] for line in double] == pytest.approx(means)
    assert double[1]["lr"] == single[3]["lr"] < double[0]["lr"]
    assert 0 < double[0]["seconds"] < double[1]["seconds"]


@pytest.mark.parametrize(
    ("stage", "parts"),
    [("video", {"video"}), ("action", {"action"}), ("joint", {"video", "action"}), ("end_to_end", {"action"})],
)
def test_only_what_is_trained_is_logged(trainer, stage, parts):
    run = trainer(stage=stage, steps=1)
    run.train()
    always = {"step", "lr", "seconds", "grad_norm", "with_actions"}
    bands = {f"{part}_{band}" for part in parts for band in BANDS}
    assert parts < set(lines(run.run)[0]) - always <= parts | bands
    assert always < set(lines(run.run)[0])


def test_tensorboard_holds_the_same(trainer):
    run = trainer()
    run.train()
    board = EventAccumulator(str(run.run / "tensorboard"))
    board.Reload()
    for part in ("video", "action"):
        values = {event.step: event.value for event in board.Scalars(f"losses/{part}")}
        assert values == pytest.approx({line["step"]: line[part] for line in lines(run.run)}, rel=1e-5)


def test_sampled_videos_are_of_the_models_frames(trainer):
    run = trainer(steps=4, validate_every=2)
    run.train()
    assert sorted(path.name for path in (run.run / "samples").iterdir()) == ["step-000002.mp4", "step-000004.mp4"]
    assert read_mp4(run.run / "samples" / "step-000004.mp4").shape == (2, 64, SHOWN * 32, 3)
    for stage in ("action", "end_to_end"):
        acting = trainer(stage, stage=stage, validate_every=1, split=1, steps=1)
        acting.train()
        assert not (acting.run / "samples").exists()
        (measured,) = lines(acting.run, "validation")
        assert {"action", "action_error"} < set(measured) and not {"video", "psnr", "ssim"} & set(measured)


def test_the_lower_half_is_what_followed_and_sampling_changes_nothing(trainer, dataset):
    run = trainer()
    frames = sampled_video(run)
    indices = evenly(len(run.clips), SHOWN)
    episodes = np.searchsorted(run.clips.episodes.starts, indices, side="right") - 1
    for place, (index, episode) in enumerate(zip(indices, episodes, strict=True)):
        steps = run.clips.window.frame_indices(
            int(index - run.clips.episodes.starts[episode]), dataset.length(int(episode))
        )
        shown = dataset.episode(int(episode), ["top"]).views["top"][steps[1:]]
        real = frames[:, 32:, 32 * place : 32 * (place + 1)]
        assert np.corrcoef(real.ravel(), shown.ravel())[0, 1] > 0.8
    np.testing.assert_array_equal(sampled_video(run), frames)
    quiet, sampled = trainer("quiet"), trainer("sampled", validate_every=1)
    for each in (quiet, sampled):
        each.train()
    assert [line | {"seconds": 0} for line in lines(quiet.run)] == [
        line | {"seconds": 0} for line in lines(sampled.run)
    ]


def test_what_a_killed_run_logged_after_its_last_save_is_dropped_even_if_torn(trainer):
    run = trainer(steps=6, save_every=2)
    run.objective.register_forward_pre_hook(lambda *_: 1 / 0 if run.step == 3 else None)
    with pytest.raises(ZeroDivisionError):
        run.train()
    log = run.run / "losses.jsonl"
    assert [line["step"] for line in lines(run.run)] == [1, 2, 3]
    log.write_text(log.read_text(encoding="utf-8") + '{"step": 4, "vid', encoding="utf-8")
    again = trainer(steps=4)
    again.resume()
    assert again.step == 2
    again.train()
    assert [line["step"] for line in lines(run.run)] == [1, 2, 3, 4]


def test_tensorboard_of_a_resumed_run_has_every_step_once(trainer):
    trainer(steps=2).train()
    again = trainer(steps=4)
    again.resume()
    again.train()
    board = EventAccumulator(str(again.run / "tensorboard"))
    board.Reload()
    assert [event.step for event in board.Scalars("losses/video")] == [1, 2, 3, 4]


def test_a_fresh_run_drops_the_log_of_one_that_saved_nothing(trainer):
    run = trainer()
    run.run.mkdir(exist_ok=True)
    (run.run / "losses.jsonl").write_text('{"step": 1}\n{"step": 2}\n', encoding="utf-8")
    run.train()
    assert [line["step"] for line in lines(run.run)] == [1, 2, 3, 4]
    assert all("video" in line for line in lines(run.run))


def test_speed_is_told_with_every_line(trainer):
    run = trainer(log_every=2)
    run.train()
    speed = lines(run.run, "throughput")
    assert [line["step"] for line in speed] == [2, 4]
    for line in speed:
        assert line["clips_a_second"] > 0 and 0 <= line["waiting"] < 1 and 0.05 < line["memory_gb"] < 100


def test_time_that_is_spent_waiting_is_told_apart(trainer, monkeypatch):
    """By a clock that a batch moves on by one second, and what is learnt of it by three."""
    now = 0.0

    def slowed(seconds, inner):
        def slower(*args):
            nonlocal now
            now += seconds
            return inner(*args)

        return slower

    run = trainer(log_every=4)
    monkeypatch.setattr(monitor, "ThroughputMeter", lambda: ThroughputMeter(lambda: now))
    monkeypatch.setattr(Prefetcher, "take", slowed(1, Prefetcher.take))
    monkeypatch.setattr(run, "_learn", slowed(3, run._learn))
    run.train()
    (speed,) = lines(run.run, "throughput")
    assert (speed["clips_a_second"], speed["waiting"]) == (1.0, 0.25)


def test_a_share_of_the_clips_with_actions_is_told(trainer, dataset):
    run = trainer(data=Partly(dataset, {0, 2}), batch_size=16, log_every=2)
    run.train()
    seen = np.concatenate([run.clips.batch(run.batch_indices(step), None).has_actions for step in range(4)])
    assert np.mean([line["with_actions"] for line in lines(run.run)]) == pytest.approx(seen.mean())


def test_a_video_that_cannot_be_written_is_told_once_and_the_run_goes_on(trainer, capsys):
    run = trainer(validate_every=1)
    run.run.mkdir(exist_ok=True)
    (run.run / "samples").write_text("no folder", encoding="utf-8")
    run.train()
    assert run.step == 4 and len(lines(run.run)) == 4
    assert capsys.readouterr().err.count("the run goes on") == 1


def test_held_out_clips_are_measured_and_sampled(trainer):
    run = trainer(validate_every=2, split=1)
    run.train()
    told = lines(run.run, "validation")
    assert [line["step"] for line in told] == [2, 4]
    assert {"video", "action", "action_error", "psnr", "ssim"} < set(told[0])
    assert (run.run / "samples" / "step-000004.mp4").exists()
    trainer("again", split=1, validate_every=2).train()
    assert lines(run.run.with_name("again"), "validation") == told


def test_a_validation_that_does_not_fit_says_what_takes_less_memory(trainer, monkeypatch):
    run = trainer(steps=2, validate_every=2)

    def fill(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run.objective, "imagine", fill)
    with pytest.raises(UserError, match=r"does not hold a step of 4 clips; try --accumulate 2, or"):
        run.train()


def test_moments_that_do_not_fit_are_no_matter_of_the_batch(trainer, monkeypatch):
    run = trainer(steps=2)

    def fill(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(run.train_step.optimizer, "step", fill)
    with pytest.raises(UserError, match=r"does not hold the weights, .+ moments; use more processes with FSDP2 .+lora"):
        run.train()
