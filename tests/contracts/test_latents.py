"""What every file in `videopolicy/latents` must keep, with its default configuration."""

import pytest
import torch

from videopolicy import registry
from videopolicy.errors import UserError
from videopolicy.latents.base import psnr

SIZE = 64


def frames(n=12, size=SIZE, seed=0):
    """Smooth random colour fields, as unlike noise as pictures are."""
    coarse = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    return (fine.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def built(name):
    latents = registry.build("latents", name).build()
    if hasattr(latents, "fit"):
        latents.fit(frames().numpy())
    return latents


@pytest.fixture(params=registry.names("latents"), scope="module")
def name(request):
    return request.param


@pytest.fixture(scope="module")
def latents(name):
    return built(name)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_shapes(latents, generator):
    codes = latents.encode(frames())
    side = SIZE // latents.downsampling
    assert codes.shape == (12, latents.code_channels, side, side)
    assert latents.sample(codes, generator).shape == (12, latents.channels, side, side)
    assert latents.condition(codes).shape == (12, latents.channels, side, side)


def test_a_frame_comes_back_nearly_as_it_was(latents, generator):
    unseen = frames(seed=1)
    back = latents.decode(latents.sample(latents.encode(unseen), generator))
    assert back.dtype == torch.uint8
    assert back.shape == unseen.shape
    assert psnr(back, unseen) > 25


def test_latents_have_about_unit_scale(latents, generator):
    assert 0.5 < latents.sample(latents.encode(frames()), generator).std() < 2


def test_codes_are_always_the_same_and_each_frame_stands_alone(latents):
    codes = latents.encode(frames())
    assert torch.equal(codes, latents.encode(frames()))
    torch.testing.assert_close(latents.encode(frames()[3:4]), codes[3:4])


def test_the_generator_alone_decides_what_is_drawn(latents):
    codes = latents.encode(frames())
    draws = [latents.sample(codes, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*draws)


def test_a_saved_state_restores_the_space(name, latents):
    other = registry.build("latents", name).build()
    other.load_state_dict(latents.state_dict())
    assert torch.equal(other.encode(frames()), latents.encode(frames()))


def test_a_size_that_does_not_divide_is_refused(latents):
    with pytest.raises(UserError, match=str(latents.downsampling)):
        latents.encode(frames(size=SIZE + 1))
