"""What every latent space must keep, as its `EXAMPLE` has it, or with its default configuration."""

import pytest
import torch
from tests.contracts.plugins import example, skip_unless_it_can_run, variants

from videopolicy.errors import UserError
from videopolicy.latents.base import Latents
from videopolicy.similarity import psnr

SIZE = 64
# Future frames of a window: a multiple of every variant's frames per latent.
AFTER = 8


def frames(n=12, size=SIZE, seed=0):
    """Smooth random colour fields, as unlike noise as pictures are."""
    coarse = torch.rand(n, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    return pictures(coarse, size)


def windows(n=3, after=AFTER, size=SIZE, seed=0):
    """The same, each window passing evenly from one field to another."""
    ends = torch.rand(2, n, 1, 3, 4, 4, generator=torch.Generator().manual_seed(seed))
    coarse = torch.lerp(*ends, torch.linspace(0, 1, 1 + after).view(-1, 1, 1, 1))
    return pictures(coarse.flatten(0, 1), size).unflatten(0, (n, -1))


def pictures(coarse, size):
    fine = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bicubic")
    return (fine.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def built(name):
    latents = example("latents", name).build()
    latents.fit_window(windows(n=24).numpy())
    return latents


@pytest.fixture(params=variants("latents"), scope="module")
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
    assert latents.condition(codes).shape == (12, latents.condition_channels, side, side)


def test_frames_come_back_in_their_shape(latents, generator):
    back = latents.decode(latents.sample(latents.encode(frames(3)), generator))
    assert back.dtype == torch.uint8
    assert back.shape == (3, SIZE, SIZE, 3)


def test_shapes_of_windows(latents):
    codes = latents.encode_window(windows())
    side, along = SIZE // latents.downsampling, 1 + AFTER // latents.temporal
    assert codes.shape == (3, along, latents.code_channels, side, side)
    back = latents.decode_window(latents.sample(codes.flatten(0, 1), None).unflatten(0, codes.shape[:2]))
    assert back.dtype == torch.uint8
    assert back.shape == windows().shape


def test_a_frame_comes_back_nearly_as_it_was(fitted, generator):
    unseen = frames(seed=1)
    assert psnr(fitted.decode(fitted.sample(fitted.encode(unseen), generator)).numpy(), unseen.numpy()) > 25


def test_a_window_comes_back_nearly_as_it_was(fitted, generator):
    unseen = windows(seed=1)
    codes = fitted.encode_window(unseen)
    back = fitted.decode_window(fitted.sample(codes.flatten(0, 1), generator).unflatten(0, codes.shape[:2]))
    assert psnr(back.flatten(0, 1).numpy(), unseen.flatten(0, 1).numpy()) > 25


def test_latents_have_about_unit_scale(fitted, generator):
    assert 0.5 < fitted.sample(fitted.encode(frames()), generator).std() < 2
    for along in fitted.encode_window(windows(n=24)).unbind(1):
        assert 0.5 < fitted.sample(along, generator).std() < 2


def test_without_a_generator_nothing_is_drawn(latents):
    codes = latents.encode(frames(2))
    assert torch.equal(latents.sample(codes, None), latents.sample(codes, None))


def test_a_cache_of_half_precision_holds_the_codes(latents, generator):
    codes = torch.cat((latents.encode(frames(2)), latents.encode_window(windows(n=1))[0]))
    kept = codes.half().float()
    torch.testing.assert_close(kept, codes, rtol=1e-3, atol=1e-4)
    assert latents.sample(kept, generator).isfinite().all() and latents.condition(kept).isfinite().all()


def test_codes_are_always_the_same_and_each_frame_stands_alone(latents):
    codes = latents.encode(frames())
    assert torch.equal(codes, latents.encode(frames()))
    torch.testing.assert_close(latents.encode(frames()[3:4]), codes[3:4], rtol=1e-4, atol=1e-5)


def test_codes_of_windows_are_always_the_same_and_each_window_stands_alone(latents):
    codes = latents.encode_window(windows())
    assert torch.equal(codes, latents.encode_window(windows()))
    torch.testing.assert_close(latents.encode_window(windows()[1:2]), codes[1:2], rtol=1e-4, atol=1e-5)
    alone = latents.decode_window(latents.sample(codes[1], None)[None])[0].int()
    together = latents.decode_window(torch.stack([latents.sample(window, None) for window in codes]))[1].int()
    assert (alone - together).abs().max() <= 1


def test_the_first_code_of_a_window_is_that_of_its_current_image_alone(latents):
    torch.testing.assert_close(
        latents.encode_window(windows())[:, 0], latents.encode(windows()[:, 0]), rtol=1e-4, atol=1e-5
    )


def test_codes_of_a_window_know_nothing_of_later_frames(latents):
    shown = windows()
    codes = latents.encode_window(shown)
    for known in range(1, codes.shape[1]):
        changed = shown.clone()
        changed[:, 1 + (known - 1) * latents.temporal :] = windows(seed=1)[:, 1 + (known - 1) * latents.temporal :]
        found = latents.encode_window(changed)
        torch.testing.assert_close(found[:, :known], codes[:, :known], rtol=1e-4, atol=1e-5)
        assert all((found[:, later] - codes[:, later]).abs().max() > 0.01 for later in range(known, codes.shape[1]))


def test_the_generator_alone_decides_what_is_drawn(latents):
    codes = latents.encode(frames())
    draws = [latents.sample(codes, torch.Generator().manual_seed(7)) for _ in range(2)]
    assert torch.equal(*draws)


def test_a_saved_state_restores_the_space(name, latents):
    other = example("latents", name).build()
    other.load_state_dict(latents.state_dict())
    assert torch.equal(other.encode(frames()), latents.encode(frames()))
    assert torch.equal(other.encode_window(windows()), latents.encode_window(windows()))


def test_a_size_that_does_not_divide_is_refused(latents):
    with pytest.raises(UserError, match=str(latents.downsampling)):
        latents.encode(frames(size=SIZE + 1))
    with pytest.raises(UserError, match=str(latents.downsampling)):
        latents.encode_window(windows(size=SIZE + 1))


def test_a_window_that_does_not_divide_is_refused(latents):
    if latents.temporal == 1:
        assert latents.encode_window(windows(after=AFTER + 1)).shape[1] == 1 + AFTER + 1
    else:
        with pytest.raises(UserError, match=f"{AFTER + 1} future frames do not divide"):
            latents.encode_window(windows(after=AFTER + 1))
