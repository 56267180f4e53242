"""What every latent space must keep, as its `EXAMPLE` has it, or with its default configuration."""

import pytest
import torch
from tests.contracts.plugins import example, skip_unless_it_can_run

from videopolicy import registry
from videopolicy.errors import UserError
from videopolicy.latents.base import Latents
from videopolicy.similarity import psnr

SIZE = 64


def frames(n=12, size=SIZE, seed=0):
    """Smooth random colour fields, as unlike noise as pictures are."""
    coarse = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    fine = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    return (fine.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def built(name):
    latents = example("latents", name).build()
    latents.fit(frames().numpy())
    return latents


@pytest.fixture(params=registry.names("latents"), scope="module")
def name(request):
    skip_unless_it_can_run("latents", request.param)
    return request.param


@pytest.fixture(scope="module")
def latents(name):
    return built(name)


@pytest.fixture
def fitted(latents):
    """Latents that learn in seconds; the weights of the others come from elsewhere."""
    if type(latents).fit is Latents.fit:
        pytest.skip("means nothing without pretrained weights")
    return latents


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_shapes(latents, generator):
    codes = latents.encode(frames())
    side = SIZE // latents.downsampling
    assert codes.shape == (12, latents.code_channels, side, side)
    assert latents.sample(codes, generator).shape == (12, latents.channels, side, side)
    assert latents.condition(codes).shape == (12, latents.channels, side, side)


def test_frames_come_back_in_their_shape(latents, generator):
    back = latents.decode(latents.sample(latents.encode(frames(3)), generator))
    assert back.dtype == torch.uint8
    assert back.shape == (3, SIZE, SIZE, 3)


def test_a_frame_comes_back_nearly_as_it_was(fitted, generator):
    unseen = frames(seed=1)
    assert psnr(fitted.decode(fitted.sample(fitted.encode(unseen), generator)).numpy(), unseen.numpy()) > 25


def test_latents_have_about_unit_scale(fitted, generator):
    assert 0.5 < fitted.sample(fitted.encode(frames()), generator).std() < 2


def test_without_a_generator_nothing_is_drawn(latents):
    codes = latents.encode(frames(2))
    assert torch.equal(latents.sample(codes, None), latents.sample(codes, None))


def test_a_cache_of_half_precision_holds_the_codes(latents, generator):
    codes = latents.encode(frames(2))
    kept = codes.half().float()
    torch.testing.assert_close(kept, codes, rtol=1e-3, atol=1e-4)
    assert latents.sample(kept, generator).isfinite().all() and latents.condition(kept).isfinite().all()


def test_codes_are_always_the_same_and_each_frame_stands_alone(latents):
    codes = latents.encode(frames())
    assert torch.equal(codes, latents.encode(frames()))
    torch.testing.assert_close(latents.encode(frames()[3:4]), codes[3:4], rtol=1e-4, atol=1e-5)


def test_the_generator_alone_decides_what_is_drawn(latents):
    codes = latents.encode(frames())
    draws = [latents.sample(codes, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*draws)


def test_a_saved_state_restores_the_space(name, latents):
    other = example("latents", name).build()
    other.load_state_dict(latents.state_dict())
    assert torch.equal(other.encode(frames()), latents.encode(frames()))


def test_a_size_that_does_not_divide_is_refused(latents):
    with pytest.raises(UserError, match=str(latents.downsampling)):
        latents.encode(frames(size=SIZE + 1))
