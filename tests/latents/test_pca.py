import numpy as np
import pytest
import torch

from videopolicy.errors import UserError
from videopolicy.latents import components
from videopolicy.latents.pca import Config
from videopolicy.similarity import psnr


def pictures(n=24, size=16, seed=0):
    """A bright square before a slope of colour."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 120, size)[:, None, None] * np.array([1, 0.5, 0.2])
    frames = np.broadcast_to(slope, (n, size, size, 3)).astype(np.uint8)
    for frame, (row, column) in zip(frames, rng.integers(0, size - 4, (n, 2)), strict=True):
        frame[row : row + 4, column : column + 4] = rng.integers(150, 256, 3)
    return torch.as_tensor(frames)


def fitted(frames, **config):
    latents = Config(**config).build()
    latents.fit(frames)
    return latents


def test_with_every_component_nothing_is_lost():
    frames = pictures(seed=1)
    latents = fitted(pictures(), patch=4, channels=48)
    assert (latents.decode(latents.encode(frames)).int() - frames.int()).abs().max() <= 1
    assert latents.explained == pytest.approx(1)


def test_more_components_explain_and_restore_more():
    frames = pictures()
    explained, quality = [], []
    for channels in (1, 4, 16):
        latents = fitted(frames, patch=4, channels=channels)
        explained.append(float(latents.explained))
        quality.append(psnr(frames.numpy(), latents.decode(latents.encode(frames)).numpy()))
    assert explained == sorted(explained)
    assert quality == sorted(quality)
    assert quality[-1] > quality[0] + 3


def test_the_error_that_remains_is_the_variance_that_is_not_explained():
    frames = pictures()
    latents = fitted(frames, patch=4, channels=6)
    pixels = frames.double() / 127.5 - 1
    tiles = pixels.reshape(-1, 4, 4, 4, 4, 3).transpose(2, 3).flatten(0, 2)
    variance = (tiles - tiles.mean(0)).square().sum()
    weight = latents.components / latents.scale[:, None, None, None]
    patches = torch.einsum("nchw,cdij->nhwijd", latents.encode(frames), weight)
    back = patches.flatten(0, 2) + latents.mean.permute(1, 2, 0)
    assert float((tiles - back).square().sum() / variance) == pytest.approx(1 - float(latents.explained), rel=1e-3)


def test_latents_are_uncorrelated_and_a_variance_is_the_root_of_its_components():
    frames = pictures()
    latents = fitted(frames, patch=4, channels=6)
    codes = latents.encode(frames).double().permute(1, 0, 2, 3).flatten(1)
    covariance = codes @ codes.T / codes.shape[1]
    variances = covariance.diagonal()
    torch.testing.assert_close(codes.mean(1), torch.zeros(6).double(), atol=1e-4, rtol=0)
    torch.testing.assert_close(covariance, variances.diag(), atol=1e-4, rtol=0)
    assert float(variances.mean()) == pytest.approx(1, rel=1e-4)
    # The projection on component k has deviation s and is divided by its root, and so has variance s: hence the
    # projections, which the scale undoes, have variances in proportion to the squares of the latents'.
    projected = variances / latents.scale.double().square()
    torch.testing.assert_close(projected / projected[0], (variances / variances[0]).square(), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("still", [False, True])
def test_the_image_whole_is_conditioned_on_and_nothing_else_changes(still):
    frames, unseen = pictures(), pictures(seed=1)
    plain = fitted(frames, patch=4, channels=6, still=still)
    whole = fitted(frames, patch=4, channels=6, still=still, conditioning=48)
    assert (plain.channels, plain.code_channels, plain.condition_channels) == (6, 6, 6)
    assert (whole.channels, whole.code_channels, whole.condition_channels) == (6, 48, 48)
    codes, few = whole.encode(unseen), plain.encode(unseen)
    torch.testing.assert_close(whole.sample(codes, None), few)
    torch.testing.assert_close(whole.condition(codes)[:, :6], plain.condition(few))
    assert whole.explained == plain.explained < 1
    shown = [one.decode(one.sample(given, None)).int() for one, given in ((whole, codes), (plain, few))]
    assert (shown[0] - shown[1]).abs().max() <= 1
    assert (whole.decode(whole.condition(codes)).int() - unseen.int()).abs().max() <= 1, "an image is whole"


def test_fewer_components_to_condition_on_than_to_denoise_are_refused():
    with pytest.raises(UserError, match=r"latents\.conditioning is 5; .* at least the 6 components"):
        Config(patch=4, channels=6, conditioning=5)
    with pytest.raises(UserError, match="1 to 48 channels, not 49"):
        Config(patch=4, channels=6, conditioning=49).build()


@pytest.mark.parametrize("value", [0, 200])
def test_frames_without_variance_give_finite_latents(value):
    latents = fitted(torch.full((3, 16, 16, 3), value, dtype=torch.uint8), patch=8, channels=16)
    other = pictures()
    assert latents.encode(other).isfinite().all()
    assert all(buffer.isfinite().all() for buffer in latents.buffers())
    same = torch.full((1, 16, 16, 3), value, dtype=torch.uint8)
    assert torch.equal(latents.decode(latents.encode(same)), same)


def test_fewer_patches_than_components_give_finite_latents():
    latents = fitted(pictures(n=1, size=8), patch=8, channels=16)
    assert latents.encode(pictures()).isfinite().all()


def test_the_same_frames_give_the_same_space_as_array_or_tensor():
    first, second = fitted(pictures()), fitted(pictures().numpy())
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


def test_a_share_of_many_frames_is_enough(monkeypatch):
    frames = pictures(n=200)
    whole = fitted(frames, patch=4, channels=8)
    monkeypatch.setattr(components, "MAX_PATCHES", 100 * 16)
    part = fitted(frames, patch=4, channels=8)
    assert not torch.equal(part.components, whole.components)
    unseen = pictures(seed=1)
    losses = [psnr(unseen.numpy(), latents.decode(latents.encode(unseen)).numpy()) for latents in (whole, part)]
    assert losses[1] == pytest.approx(losses[0], abs=0.5)


def test_use_before_fit_is_refused():
    with pytest.raises(RuntimeError, match="before they were fitted"):
        Config().build().encode(pictures())


def test_sizes_and_channels_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="18x18 pixels do not divide into patches of 8"):
        Config().build().fit(pictures(size=18))
    with pytest.raises(UserError, match="at least one"):
        Config().build().fit(pictures()[:0])
    with pytest.raises(UserError, match="1 to 48 channels, not 49"):
        Config(patch=4, channels=49).build()


def scene(count=40, seed=0):
    """A loud background that never moves, and a faint square that does."""
    rng = np.random.default_rng(seed)
    frames = np.repeat(rng.integers(0, 256, (1, 16, 24, 3), dtype=np.uint8), count, 0)
    for frame, place in zip(frames, rng.integers(0, 20, count), strict=True):
        frame[6:10, place : place + 4] = frame[6:10, place : place + 4] // 2 + 20
    return frames


def test_of_a_camera_that_stands_still_what_never_moves_is_nothing():
    frames = scene()
    latents = Config(patch=4, channels=48, still=True).build()
    latents.fit(frames)
    codes = latents.encode(torch.from_numpy(frames))
    # The square moves in the middle rows of patches alone.
    assert codes[:, :, [0, 3]].abs().max() < 1e-4
    assert codes.square().mean() == pytest.approx(1, rel=1e-3)
    np.testing.assert_allclose(latents.decode(codes).numpy().astype(int), frames.astype(int), atol=1)
    plain = Config(patch=4, channels=48).build()
    plain.fit(frames)
    moving = [
        float((one - one.mean(0)).square().mean() / one.square().mean())
        for one in (codes, plain.encode(torch.from_numpy(frames)))
    ]
    assert moving[0] > 0.99 and moving[1] < 0.5


def test_a_mean_picture_is_loaded_whatever_its_size_and_is_of_one_size():
    frames = scene()
    latents, loaded = (Config(patch=4, channels=8, still=True).build() for _ in range(2))
    latents.fit(frames)
    loaded.load_state_dict(latents.state_dict())
    torch.testing.assert_close(loaded.encode(torch.from_numpy(frames)), latents.encode(torch.from_numpy(frames)))
    with pytest.raises(UserError, match="16x16 pixels, but the PCA's mean picture is 24x16"):
        loaded.encode(torch.from_numpy(frames[:, :, :16]))
