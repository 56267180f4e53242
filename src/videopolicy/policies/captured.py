"""All passes of one plan as one CUDA graph: the GPU is told once what to do, and again by a single call."""

from dataclasses import fields

import torch
from torch import Tensor

from videopolicy.backbones.base import Condition
from videopolicy.diffusion.joint import Joint
from videopolicy.models.base import Model
from videopolicy.models.sampling import Sampling

# Passes before the capture, in which kernels are chosen and compiled, and memory is set aside.
WARM_UP = 3


class Captured:
    """Draws as `Model.sample` does, on a GPU; the first draw of each batch size is slow, and keeps memory of its own.

    Args:
        model: on a GPU; its weights stay where they are.
        sampling: how it draws.
    """

    def __init__(self, model: Model, sampling: Sampling) -> None:
        self._model, self._sampling = model, sampling
        self._graphs: dict[tuple[object, ...], _Graph] = {}

    def __call__(self, condition: Condition, noise: Joint, *, see: bool, guess: Joint | None = None) -> Joint:
        """Video latents and normalised actions; see `Model.sample`."""
        given = _tensors(condition, noise, guess)
        kind = (see, *((name, tuple(tensor.shape)) for name, tensor in given.items()))
        if kind not in self._graphs:
            self._graphs[kind] = _Graph(self._model, self._sampling, condition, noise, see, guess)
        return self._graphs[kind].draw(given)


class _Graph:
    def __init__(
        self,
        model: Model,
        sampling: Sampling,
        condition: Condition,
        noise: Joint,
        see: bool,
        guess: Joint | None,
    ) -> None:
        # A graph reads and writes the same memory every time.
        given, own = condition.map(torch.clone), noise.map(torch.clone)
        guess = None if guess is None else guess.map(torch.clone)
        self._inputs = _tensors(given, own, guess)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            for _ in range(WARM_UP):
                model.sample(given, own, sampling, see=see, guess=guess)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            self._drawn = model.sample(given, own, sampling, see=see, guess=guess)

    def draw(self, given: dict[str, Tensor]) -> Joint:
        for name, tensor in given.items():
            self._inputs[name].copy_(tensor)
        self._graph.replay()
        return self._drawn.map(torch.clone)


def _tensors(condition: Condition, noise: Joint, guess: Joint | None) -> dict[str, Tensor]:
    """All that a draw is given, by name."""
    held = {field.name: getattr(condition, field.name) for field in fields(condition)}
    given = {name: value for name, value in held.items() if value is not None}
    for what, part in (("noise", noise), ("guess", guess)):
        if part is not None:
            given |= {f"{what} of the video": part.video, f"{what} of the actions": part.actions}
    return given
