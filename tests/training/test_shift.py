from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from tests.small import CLONING, TRAINING, batch, observation, small_model

from videopolicy.errors import UserError
from videopolicy.training.noise import draw_noise
from videopolicy.training.objective import Objective, total
from videopolicy.training.shift import shift_codes, shifted
from videopolicy.training.stages import END_TO_END

FARTHEST = 2


@pytest.fixture(scope="module")
def model():
    return small_model(**CLONING, views=("top", "close"))


def drawn(model, clips, seed=0, **changes):
    training = replace(TRAINING, stage=END_TO_END, **changes)
    return draw_noise(model, training, clips, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("down", [-3, 0, 1])
@pytest.mark.parametrize("right", [-1, 0, 4])
def test_codes_are_shifted_as_the_images_are(model, down, right):
    images = np.stack([observation(seed).images["top"] for seed in range(2)])
    patch, side = model.latents.downsampling, images.shape[1]
    edge = 16 * patch
    padded = np.pad(images, ((0, 0), (edge, edge), (edge, edge), (0, 0)), mode="edge")
    start = edge - patch * down, edge - patch * right
    moved = padded[:, start[0] : start[0] + side, start[1] : start[1] + side]
    codes, expected = (model.latents.encode(torch.from_numpy(x.copy())).numpy()[:, None] for x in (images, moved))
    found = shift_codes(codes, np.tile([down, right], (2, 1, 1)))
    # A patch that is repeated at the edge keeps its texture, where the image repeats its last pixel.
    inner = np.s_[..., max(down, 0) : found.shape[-2] + min(down, 0), max(right, 0) : found.shape[-1] + min(right, 0)]
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-5)
    if down > 0:
        assert (found[..., :down, :] == found[..., down : down + 1, :]).all(), "the edge is repeated"


def test_each_view_is_shifted_by_itself_and_now_and_later_alike(model):
    clips = batch(model)
    clips = replace(clips, future=np.repeat(clips.current[:, :, None], 3, 2))
    by = torch.tensor([[[0, 1], [0, 0]], [[2, -1], [-2, 0]], [[0, 0], [1, 1]]])
    after = shifted(clips, by)
    assert (after.future == after.current[:, :, None]).all()
    same = (after.current == clips.current).all((2, 3, 4))
    assert same.tolist() == [[False, True], [False, False], [True, False]]
    np.testing.assert_array_equal(after.current[0, 0, :, :, 1:], clips.current[0, 0, :, :, :-1])
    np.testing.assert_array_equal(after.current[1, 1, :, :-2], clips.current[1, 1, :, 2:])


def test_shifts_go_everywhere_and_no_further_and_change_nothing_else_that_is_drawn(model):
    clips = batch(model)
    shifts = [drawn(model, clips, seed, random_shift=FARTHEST).shift for seed in range(60)]
    assert set(torch.stack(shifts).flatten().tolist()) == set(range(-FARTHEST, FARTHEST + 1))
    assert not drawn(model, clips).shift.any()
    plain, moved = drawn(model, clips), drawn(model, clips, random_shift=FARTHEST)
    for name in {field.name for field in fields(plain)} - {"shift", "levels", "noise", "counts"}:
        assert torch.equal(getattr(plain, name), getattr(moved, name)), name
    assert torch.equal(plain.noise.actions, moved.noise.actions)
    assert torch.equal(plain.levels.actions, moved.levels.actions)


def test_a_clip_is_shifted_the_same_whoever_takes_it(model):
    """Processes and parts take rows of one draw: the losses of the parts are those of the whole."""
    clips = batch(model)
    loss = Objective(model, replace(TRAINING, stage=END_TO_END, random_shift=FARTHEST))
    noise = draw_noise(model, loss.training_config, clips, torch.Generator().manual_seed(3))
    whole = loss(clips, noise).actions
    for start, stop in ((0, 1), (1, 3)):
        values = {field.name: getattr(clips, field.name) for field in fields(clips)}
        part = {name: None if value is None else value[start:stop] for name, value in values.items()}
        own = loss(replace(clips, **part), noise.rows(start, stop)).actions
        torch.testing.assert_close(own, whole[start:stop], rtol=1e-4, atol=1e-5)
    unshifted = loss(clips, replace(noise, shift=torch.zeros_like(noise.shift)))
    assert not torch.allclose(whole, unshifted.actions), "it is seen shifted"
    assert total(unshifted).isfinite()


def test_a_shift_that_leaves_nothing_is_refused(model):
    with pytest.raises(UserError, match="--random-shift 16 leaves nothing of 16 latent pixels; give less"):
        Objective(model, replace(TRAINING, stage=END_TO_END, random_shift=16))
