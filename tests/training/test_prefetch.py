import threading

import numpy as np
import pytest
import torch

from videopolicy.errors import UserError
from videopolicy.training.noise import draw
from videopolicy.training.prefetch import Prefetcher


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("ahead")]


def test_what_is_made_ahead_is_what_each_step_would_have_drawn_itself(trainer):
    run, generator = trainer(copies=2), torch.Generator().manual_seed(0)
    state = generator.get_state()
    with Prefetcher(run._prepared, 6) as ahead:
        for step in range(3, 6):
            found = ahead.take(step, state)
            batch = run.clips.batch(run.batch_indices(step), np.random.default_rng([run.training.seed, step, 0]))
            draws = draw(run.objective.policy, run.training, run.training.batch, batch.actions.shape[2], generator)
            assert np.array_equal(found.batch.future, batch.future) and found.batch.instructions == batch.instructions
            assert torch.equal(found.draws.noise.video, draws.noise.video)
            assert torch.equal(found.draws.seeds, draws.seeds)
            assert torch.equal(found.before, state) and torch.equal(found.after, generator.get_state())
            state = found.after


def test_one_step_is_made_while_the_one_before_is_taken(trainer):
    run, made, second = trainer(), [], threading.Event()

    def make(step, state):
        made.append(step)
        if len(made) == 2:
            second.set()
        return run._prepared(step, state)

    with Prefetcher(make, 9) as ahead:
        ahead.take(7, torch.Generator().get_state())
        assert second.wait(5) and made == [7, 8]
        ahead.take(8, torch.Generator().get_state())
    # There is no step 9.
    assert made == [7, 8]


def test_an_error_in_the_thread_ends_the_run_at_its_step_and_no_thread_is_left(trainer, monkeypatch):
    run = trainer(steps=10)
    read = run.clips.batch

    def batch(indices, rng):
        if np.array_equal(indices, run.batch_indices(2)):
            raise UserError("codes.npy: cut short")
        return read(indices, rng)

    monkeypatch.setattr(run.clips, "batch", batch)
    with pytest.raises(UserError, match="cut short"):
        run.train()
    assert run.step == 2 and not threads()


def test_no_thread_outlives_a_run(trainer):
    trainer(steps=2).train()
    assert not threads()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="only a GPU reads pinned memory")
def test_pinned_values_are_the_same(trainer):
    run = trainer()
    plain = run._prepared(0, torch.Generator().get_state())
    pinned = plain.pinned(torch.device("cuda"))
    assert torch.from_numpy(pinned.batch.future).is_pinned() and pinned.draws.noise.video.is_pinned()
    assert np.array_equal(pinned.batch.future, plain.batch.future)
    assert torch.equal(pinned.draws.noise.video, plain.draws.noise.video)
