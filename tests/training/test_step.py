"""One step of the optimiser: the gradient is the batch's, however it is computed."""

import pytest
import torch
from tests.small import MODEL

from videopolicy.clips.normalize import Normalizer
from videopolicy.errors import UserError
from videopolicy.training.config import Training
from videopolicy.training.distributed import ProcessGroup, engine
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.objective import Objective
from videopolicy.training.performance.benchmark import random_clips
from videopolicy.training.performance.main_memory import keep_freed_memory
from videopolicy.training.prepare import build
from videopolicy.training.step import TrainStep


def gradient_of(batch_size, **changes):
    """The losses of a batch, the gradient norm, and every weight's gradient, of weights that are always the same."""
    training = Training(batch_size=batch_size, max_grad_norm=1e9, **changes).resolve(10.0)
    model = build(MODEL, Normalizer((-1.0,) * 2, (1.0,) * 2), 0)
    step = TrainStep(Objective(model, training), training, engine("no"), ProcessGroup())
    batch = random_clips(model, batch_size)
    losses, norm = step.gradient(batch, draw_noise(model, training, batch, generator_of(0, 0)))
    return losses, norm, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_on_two_threads_the_gradient_is_that_of_one(monkeypatch, batch_size):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    losses, norm, expected = gradient_of(batch_size)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    again, also, found = gradient_of(batch_size)
    torch.testing.assert_close(also, norm, rtol=1e-4, atol=0)
    for part in ("video", "actions"):
        torch.testing.assert_close(getattr(again, part), getattr(losses, part), rtol=1e-4, atol=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-3, atol=1e-4 * float(norm), msg=name)


def test_on_two_threads_it_is_the_same_to_the_bit_every_time(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    _, _, expected = gradient_of(8)
    for _ in range(3):
        _, _, found = gradient_of(8)
        assert all(torch.equal(gradient, expected[name]) for name, gradient in found.items())


def test_what_fails_on_a_thread_is_raised(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    training = Training(batch_size=4).resolve(10.0)
    model = build(MODEL, Normalizer((-1.0,) * 2, (1.0,) * 2), 0)
    step = TrainStep(Objective(model, training), training, engine("no"), ProcessGroup())
    batch = random_clips(model, 4)
    noise = draw_noise(model, training, batch, generator_of(0, 0))
    batch.instructions[3] = "more words than there are tokens " * 20
    with pytest.raises(UserError, match="words"):
        step.gradient(batch, noise)


def test_memory_that_is_kept_is_taken_again_without_page_faults():
    resource = pytest.importorskip("resource")
    keep_freed_memory()

    def faults():
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for _ in range(5):
            torch.zeros(4_000_000)
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    faults()
    # 16 MB are 4,096 pages, each of which would be a fault.
    assert faults() < 4096
