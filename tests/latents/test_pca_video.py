import numpy as np
import pytest
import torch

from videopolicy.errors import UserError
from videopolicy.latents.components import Components
from videopolicy.latents.pca_video import Config
from videopolicy.similarity import psnr


def videos(n=40, after=8, size=16, seed=0):
    """A bright square that moves evenly before a slope of colour, to the end of a window."""
    rng = np.random.default_rng(seed)
    slope = np.linspace(0, 120, size)[:, None, None] * np.array([1, 0.5, 0.2])
    windows = np.broadcast_to(slope, (n, 1 + after, size, size, 3)).astype(np.uint8)
    for window in windows:
        (first, last), colour = rng.integers(0, size - 4, (2, 2)), rng.integers(150, 256, 3)
        for k, frame in enumerate(window):
            row, column = np.rint(first + (last - first) * k / after).astype(int)
            frame[row : row + 4, column : column + 4] = colour
    return torch.as_tensor(windows)


def fitted(windows, **config):
    latents = Config(**config).build()
    latents.fit_window(windows)
    return latents


def distance(latents, windows):
    return (latents.decode_window(latents.encode_window(windows)).int() - windows.int()).abs().max()


def test_of_a_still_scene_nothing_is_lost_with_every_component_of_an_image():
    """Patches through time vary no more than those of an image, if nothing moves."""
    still = videos()[:, :1].expand(-1, 9, -1, -1, -1)
    assert distance(fitted(still, patch=4, channels=48), still) <= 1


def test_what_moves_within_a_group_of_frames_is_kept():
    windows = videos()
    latents = fitted(windows, patch=2, channels=12, temporal=2)
    back = latents.decode_window(latents.encode_window(windows))
    frozen = windows[:, 1::2].repeat_interleave(2, 1)
    moving = windows[:, 1:].flatten(0, 1).numpy()
    assert psnr(back[:, 1:].flatten(0, 1).numpy(), moving) > psnr(frozen.flatten(0, 1).numpy(), moving) + 3


def test_more_components_restore_more():
    windows = videos()
    quality = []
    for channels in (1, 4, 16):
        latents = fitted(windows, patch=4, channels=channels)
        back = latents.decode_window(latents.encode_window(windows))
        quality.append(psnr(back.flatten(0, 1).numpy(), windows.flatten(0, 1).numpy()))
    assert quality == sorted(quality) and quality[-1] > quality[0] + 3


def test_a_group_is_coded_by_the_components_of_its_frames_on_top_of_each_other():
    windows = videos()
    latents = fitted(windows, patch=4, channels=6, temporal=4)
    stacks = [windows[:, first : first + 4].permute(0, 1, 4, 2, 3).reshape(-1, 12, 16, 16) for first in (1, 5)]
    components = Components(12, 4, 6)
    # The fit sees the groups of a window one after the other.
    components.fit_pictures(torch.stack(stacks, 1).flatten(0, 1))
    codes = latents.encode_window(windows)
    for group, stack in enumerate(stacks):
        torch.testing.assert_close(codes[:, 1 + group], components.project(stack))


def test_the_order_of_the_frames_of_a_group_is_seen():
    windows = videos()
    latents = fitted(windows, patch=4, channels=16)
    backwards = torch.cat((windows[:, :1], windows[:, 1:].flip(1)), 1)
    forward, backward = (latents.encode_window(shown)[:, 1:] for shown in (windows, backwards))
    # Groups of the reversed film, in the order of the film: the same frames, the other way round.
    assert (forward - backward.flip(1)).abs().max() > 0.1


def test_the_same_windows_give_the_same_space_as_array_or_tensor():
    first, second = fitted(videos()), fitted(videos().numpy())
    assert all(torch.equal(a, b) for a, b in zip(first.buffers(), second.buffers(), strict=True))


def test_use_before_fit_and_frames_without_their_order_are_refused():
    with pytest.raises(RuntimeError, match="before they were fitted"):
        Config().build().encode_window(videos())
    with pytest.raises(RuntimeError, match="call fit_window"):
        Config().build().fit(videos()[:, 0])


def test_sizes_channels_and_groups_that_cannot_be_are_refused():
    with pytest.raises(UserError, match="18x18 pixels do not divide into patches of 8"):
        Config().build().fit_window(videos(size=18))
    with pytest.raises(UserError, match="6 future frames do not divide into latents of 4 frames; 4 or 8 would do"):
        Config().build().fit_window(videos(after=6))
    with pytest.raises(UserError, match="at least one"):
        Config().build().fit_window(videos()[:0])
    with pytest.raises(UserError, match="1 to 48 channels, not 49"):
        Config(patch=4, channels=49).build()
    with pytest.raises(UserError, match="at least 2 frames, not 1; for single frames take pca"):
        Config(temporal=1)
