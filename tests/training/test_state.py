import resource

import pytest
import torch
from torch import nn

from videopolicy.errors import UserError
from videopolicy.training.ema import Ema
from videopolicy.training.state import load_state, save_state


def parts(seed, steps=3):
    """A module, its average and its optimiser, after some steps."""
    generator = torch.Generator().manual_seed(seed)
    module = nn.Linear(3, 2)
    ema, optimizer = Ema(module, 0.9), torch.optim.AdamW(module.parameters())
    for step in range(steps):
        module(torch.randn(4, 3, generator=generator)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(step)
    return module, ema, optimizer, generator


def values(module, ema, optimizer, generator):
    moments = [
        optimizer.state[weight][name] for weight in module.parameters() for name in sorted(optimizer.state[weight])
    ]
    return [*module.state_dict().values(), *ema.weights.values(), *moments, generator.get_state()]


def test_everything_comes_back_into_other_objects(tmp_path):
    saved, other = parts(0), parts(1, steps=0)
    save_state(tmp_path / "state", *saved, {"step": 3, "seconds": 1.5})
    assert load_state(tmp_path / "state", *other) == {"step": 3, "seconds": 1.5}
    pairs = list(zip(values(*saved), values(*other), strict=True))
    assert len(pairs) == 2 + 2 + 6 + 1
    assert all(torch.equal(first, second) for first, second in pairs)


def test_the_next_save_takes_its_place_and_leaves_nothing_beside(tmp_path):
    for seed in (0, 1):
        save_state(tmp_path / "state", *parts(seed), {"step": seed})
    assert load_state(tmp_path / "state", *parts(2)) == {"step": 1}
    assert [path.name for path in tmp_path.rglob("*")] == ["state", "state.safetensors"]


def test_a_full_disk_leaves_the_one_before(tmp_path):
    saved = parts(0)
    save_state(tmp_path / "state", *saved, {"step": 3})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(UserError, match=r"state: cannot be written \(.+\)"):
            save_state(tmp_path / "state", *parts(1), {"step": 4})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    other = parts(2)
    assert load_state(tmp_path / "state", *other) == {"step": 3}
    assert all(map(torch.equal, values(*saved), values(*other)))
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["state.safetensors"]
