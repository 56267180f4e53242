import threading

import numpy as np
import pytest
import torch

from videopolicy.errors import UserError
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.prefetch import Prefetcher


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("prefetch")]


def test_what_is_made_ahead_is_what_each_step_would_have_drawn_itself(trainer):
    run = trainer(copies=2)
    with Prefetcher(run._prepared, 6) as prefetcher:
        for step in range(3, 6):
            found = prefetcher.take(step)
            batch = run.clips.batch(run.batch_indices(step), np.random.default_rng([run.training.seed, step, 0]))
            noise = draw_noise(run.objective.model, run.training, batch, generator_of(run.training.seed, step))
            assert np.array_equal(found.batch.future, batch.future) and found.batch.instructions == batch.instructions
            assert torch.equal(found.noise.noise.video, noise.noise.video)
            assert torch.equal(found.noise.seeds, noise.seeds)


def test_one_step_is_made_while_the_one_before_is_taken(trainer):
    run, made, second = trainer(), [], threading.Event()

    def make(step):
        made.append(step)
        if len(made) == 2:
            second.set()
        return run._prepared(step)

    with Prefetcher(make, 9) as prefetcher:
        prefetcher.take(7)
        assert second.wait(60) and made == [7, 8]
        prefetcher.take(8)
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
    plain = run._prepared(0)
    pinned = plain.pinned(torch.device("cuda"))
    assert torch.from_numpy(pinned.batch.future).is_pinned() and pinned.noise.noise.video.is_pinned()
    assert np.array_equal(pinned.batch.future, plain.batch.future)
    assert torch.equal(pinned.noise.noise.video, plain.noise.noise.video)
