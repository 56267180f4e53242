import json
import shutil
import signal
from dataclasses import replace
from itertools import count, pairwise

import numpy as np
import pytest
import torch
from tests.small import Partly, same

from videopolicy import checkpoint
from videopolicy.errors import UserError
from videopolicy.training.loop import lr_factor
from videopolicy.training.noise import draw_noise, generator_of


def after_step(trainer, step, action):
    """Calls an action in the middle of a step: between the pass of the network and the update of its weights."""
    passes = []

    def hook(*_):
        passes.append(1)
        if len(passes) == step:
            action()

    trainer.objective.register_forward_hook(hook)


def interrupt(number=signal.SIGINT):
    return lambda: signal.raise_signal(number)


def losses(run):
    return [json.loads(line) for line in (run / "losses.jsonl").read_text(encoding="utf-8").splitlines()]


@torch.no_grad()
def loss_of(trainer):
    """Over the same clips and noise at every call."""
    clips = trainer.clips.batch(np.arange(0, len(trainer.clips), 2), np.random.default_rng(0))
    noise = draw_noise(trainer.objective.model, trainer.training, clips, generator_of(0, 0))
    found = trainer.objective(clips, noise)
    return found.mean_video.item(), found.mean_actions.item()


@pytest.mark.slow
def test_both_losses_fall(trainer):
    run = trainer(steps=30, batch_size=8, lr=4e-3, head_lr=4e-3, warmup=3, log_every=10)
    before = loss_of(run)
    run.train()
    after = loss_of(run)
    assert after[0] < 0.8 * before[0]
    assert after[1] < 0.85 * before[1]
    assert [line["step"] for line in losses(run.run)] == [10, 20, 30]


@pytest.mark.slow
def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(trainer):
    whole = trainer("whole")
    whole.train()
    stopped = trainer("parts")
    after_step(stopped, 2, interrupt())
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert stopped.step == 2

    resumed = trainer("parts")
    resumed.resume()
    assert resumed.step == 2 and resumed.seconds == pytest.approx(stopped.seconds)
    assert not same(resumed.objective.model, whole.objective.model)
    resumed.train()
    assert resumed.step == whole.step == 4
    assert same(resumed.objective.model, whole.objective.model)
    assert all(torch.equal(resumed.ema.weights[name], whole.ema.weights[name]) for name in whole.ema.weights)
    first, second = ([line | {"seconds": 0} for line in losses(run.run)] for run in (whole, resumed))
    assert first == second and [line["step"] for line in first] == [1, 2, 3, 4]
    policies = [checkpoint.load(run.run / "checkpoint")[0] for run in (whole, resumed)]
    assert same(*policies)


@pytest.mark.slow
def test_a_run_that_is_stopped_between_two_lines_of_the_log_writes_the_same_lines(trainer):
    whole, stopped = trainer("whole", log_every=4), trainer("parts", log_every=4)
    whole.train()
    after_step(stopped, 3, interrupt())
    with pytest.raises(KeyboardInterrupt):
        stopped.train()
    assert not (stopped.run / "losses.jsonl").exists()
    resumed = trainer("parts", log_every=4)
    resumed.resume()
    resumed.train()
    first, second = ([line | {"seconds": 0} for line in losses(run.run)] for run in (whole, resumed))
    assert first == second and [line["step"] for line in first] == [4]


STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


@pytest.fixture
def handlers():
    """What the signals do before a test, and after it again."""
    before = {number: signal.getsignal(number) for number in STOPS}
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)
    yield [signal.getsignal(number) for number in STOPS]
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", STOPS)
def test_a_stop_signal_ends_the_step_and_leaves_a_checkpoint(trainer, handlers, number):
    run = trainer(steps=1000)
    after_step(run, 3, interrupt(number))
    with pytest.raises(KeyboardInterrupt):
        run.train()
    policy, provenance = checkpoint.load(run.run / "checkpoint")
    assert provenance.steps == run.step == 3
    with run.ema.applied():
        assert same(policy, run.objective.model)
    assert [signal.getsignal(each) for each in STOPS] == handlers


def test_a_second_signal_does_not_wait(trainer):
    run = trainer(steps=1000)
    after_step(run, 2, lambda: (interrupt()(), interrupt()()))
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert run.step == 1


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_warning_that_comes_twice_ends_the_step_all_the_same(trainer, handlers, number):
    run = trainer(steps=1000)
    after_step(run, 2, lambda: (interrupt(number)(), interrupt(number)()))
    with pytest.raises(KeyboardInterrupt):
        run.train()
    assert run.step == checkpoint.load(run.run / "checkpoint")[1].steps == 2


def test_a_closed_terminal_that_is_ignored_stays_so(trainer, handlers):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    run = trainer(steps=3)
    after_step(run, 2, interrupt(signal.SIGHUP))
    run.train()
    assert run.step == 3
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_the_budget_ends_the_run_in_time_with_the_rate_near_zero(trainer):
    """By a clock of which every reading is a tenth of a second later than the one before."""
    ticks = count()
    run = trainer(steps=10**6, minutes=1 / 60, warmup=1, log_every=10**6, clock=lambda: next(ticks) / 10)
    run.train()
    assert run.seconds == pytest.approx(1.0) and run.step == 10
    assert run.train_step.optimizer.param_groups[0]["lr"] < 0.05 * run.training.lr


def test_the_rate_rises_then_falls_to_zero():
    rates = [lr_factor(step / 100, step, 10) for step in range(101)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) > 0.95 and rates.index(max(rates)) == 9
    assert all(later < sooner for sooner, later in pairwise(rates[9:]))
    assert rates[50] == pytest.approx(0.5)
    assert rates[-1] == lr_factor(1.7, 500, 10) == pytest.approx(0, abs=1e-12)
    assert lr_factor(0.0, 0, 0) == lr_factor(0.9, 10, 10, decay=False) == 1


def test_every_clip_is_seen_once_an_epoch_in_another_order_each(trainer):
    run = trainer(batch_size=7)
    count = len(run.clips)
    assert count % 7, "the batch should straddle two epochs"
    seen = np.concatenate([run.batch_indices(step) for step in range(2 * count)])
    epochs = seen[: 6 * count].reshape(6, count)
    assert all(np.array_equal(np.sort(epoch), np.arange(count)) for epoch in epochs)
    assert not any(np.array_equal(epochs[0], other) for other in epochs[1:])
    np.testing.assert_array_equal(run.batch_indices(3), trainer(batch_size=7).batch_indices(3))
    assert not np.array_equal(run.batch_indices(3), trainer(batch_size=7, seed=1).batch_indices(3))


def test_a_diverging_run_says_so_and_keeps_the_last_finite_checkpoint(trainer):
    run = trainer(steps=10, save_every=1, lr=1e30, warmup=1)
    with pytest.raises(UserError, match=r"loss is (nan|inf) .*at step 1; lower the learning rate"):
        run.train()
    policy, provenance = checkpoint.load(run.run / "checkpoint")
    assert provenance.steps == 1
    assert all(value.isfinite().all() for value in policy.state_dict().values())


def test_a_gradient_that_is_not_finite_never_reaches_the_weights(trainer):
    run = trainer(steps=10)
    weight = next(run.objective.model.backbone.parameters())
    after_step(run, 2, lambda: weight.register_hook(lambda gradient: gradient * float("inf")))
    with pytest.raises(UserError, match=r"loss is \d.* gradient (nan|inf) at step 1"):
        run.train()
    assert all(value.isfinite().all() for value in run.objective.model.state_dict().values())
    assert all(value.isfinite().all() for value in run.ema.weights.values())


def test_episodes_without_actions_train_the_video_model(trainer, dataset):
    run = trainer(data=Partly(dataset, {0, 1, 2, 3}), stage="video")
    run.train()
    policy, provenance = checkpoint.load(run.run / "checkpoint")
    assert policy.head is None and provenance.stage == "video"
    assert all("video" in line and "action" not in line for line in losses(run.run))


def test_actions_of_some_episodes_train_the_head_and_video_of_all_the_rest(trainer, dataset):
    run = trainer(data=Partly(dataset, {0, 2}), batch_size=8)
    assert 0 < run.clips.episodes.has_actions.sum() < 4
    run.train()
    assert all(np.isfinite([line["video"], line["action"]]).all() for line in losses(run.run))
    policy, _ = checkpoint.load(run.run / "checkpoint")
    assert policy.action_width == 2


def test_video_first_and_the_head_afterwards(trainer, dataset):
    first = trainer("video", data=Partly(dataset, {0, 1, 2, 3}), stage="video")
    first.train()
    init, _ = checkpoint.load(first.run / "checkpoint")
    second = trainer("action", stage="action", init=init)
    second.train()
    policy, _ = checkpoint.load(second.run / "checkpoint")
    for part in ("latents", "text", "backbone"):
        assert same(getattr(policy, part), getattr(init, part))
    assert policy.head is not None and not same(policy.head, trainer("fresh", stage="action").objective.model.head)


def test_what_is_saved_is_the_average_over_all_steps(trainer):
    run = trainer(ema_decay=0.9)
    name, weight = next((n, p) for n, p in run.objective.model.named_parameters() if p.requires_grad)
    seen = []
    run.objective.register_forward_pre_hook(lambda *_: seen.append(weight.detach().clone()))
    run.train()
    average, *later = [*seen, weight.detach()]
    assert len(later) == 4
    for step, value in enumerate(later):
        average = torch.lerp(average, value, 1 - (1 + step) / (10 + step))
    saved = dict(checkpoint.load(run.run / "checkpoint")[0].named_parameters())
    torch.testing.assert_close(saved[name], average, rtol=1e-6, atol=1e-7)
    assert not torch.equal(saved[name], weight)
    assert all(torch.equal(saved[name], average) for name, average in run.ema.weights.items())


def test_the_model_card_is_told_where_the_weights_come_from(trainer):
    run = trainer()
    run.train()
    _, provenance = checkpoint.load(run.run / "checkpoint")
    assert provenance.tasks == ("reach-blue", "reach-red")
    assert provenance.instructions == ("reach the blue disc", "reach the red disc")
    assert (provenance.stage, provenance.steps, provenance.episodes, provenance.notes["data"]) == (
        "joint",
        4,
        4,
        "dots",
    )


def test_a_finished_run_that_is_resumed_changes_nothing(trainer):
    run = trainer()
    run.train()
    again = trainer()
    again.resume()
    again.train()
    assert again.step == 4 and len(losses(again.run)) == 4
    assert same(again.objective.model, run.objective.model)


@pytest.mark.slow
def test_the_seed_decides_the_run(trainer):
    first, second, other = (trainer(name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    for run in (first, second, other):
        run.train()
    assert same(first.objective.model, second.objective.model)
    assert not same(first.objective.model, other.objective.model)


def test_resuming_what_is_not_there_or_of_another_model_is_refused(trainer, tmp_path):
    run = trainer()
    with pytest.raises(UserError, match="nothing to resume"):
        run.resume()
    run.train()
    shutil.copytree(run.run, tmp_path / "wider")
    wider = trainer("wider")
    with pytest.raises(UserError, match="trained another model"):
        trainer("wider", stage="joint", model=_wider(run)).resume()
    wider.resume()


def _wider(run):
    config = run.objective.model.config
    return replace(config, backbone=replace(config.backbone, channels=(32, 64)))
