"""Data for a model whose latents encode several frames together."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.small import MODEL, TRAINING

from videopolicy.clips.augment import ColorJitter
from videopolicy.datasets.mixture import Source
from videopolicy.errors import UserError
from videopolicy.latents import pca_video
from videopolicy.training import prepare as module
from videopolicy.training.prepare import prepare

OVER_TIME = replace(MODEL, window=replace(MODEL.window, frames=4), latents=pca_video.Config(channels=6, temporal=2))


@pytest.fixture
def prepared(dataset, tmp_path):
    return prepare(dataset, OVER_TIME, replace(TRAINING, copies=2), tmp_path / "run")


def test_clips_are_windows_in_the_models_latents(prepared, dataset):
    model, clips = prepared
    frames = dataset.episode(0, ["top"]).views["top"]
    starts = np.array([0, 3, len(frames) - 1])
    batch = clips.batch(starts, None)
    windows = torch.from_numpy(frames[OVER_TIME.window.frame_indices(starts, len(frames))])
    codes = model.latents.encode_window(windows)
    assert batch.future.shape[:3] == (3, 1, 2)
    current, future = torch.from_numpy(batch.current[:, 0]), torch.from_numpy(batch.future[:, 0])
    torch.testing.assert_close(current, codes[:, 0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(current, model.latents.encode(windows[:, 0]), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(future, codes[:, 1:], rtol=1e-3, atol=1e-3)


def test_a_jittered_copy_is_of_all_frames_of_a_window(prepared, dataset):
    model, clips = prepared
    drawn = ColorJitter().draw(np.random.default_rng([TRAINING.seed, 1, 2, 0]))
    frames = drawn.apply(dataset.episode(2, ["top"]).views["top"])
    windows = torch.from_numpy(frames[OVER_TIME.window.frame_indices(np.array([5]), len(frames))])
    index = dataset.length(0) + dataset.length(1) + 5
    recorded = clips.batch(np.array([index]), None).current[0]
    batch = clips.batch(np.full(16, index), np.random.default_rng(0))
    row = next(row for row, current in enumerate(batch.current) if not np.array_equal(current, recorded))
    shown = torch.from_numpy(np.concatenate((batch.current[row][:, None], batch.future[row]), 1))
    torch.testing.assert_close(shown, model.latents.encode_window(windows), rtol=1e-3, atol=1e-3)


def test_a_second_run_opens_the_windows_of_the_first_unless_they_are_others(dataset, tmp_path):
    codes = tmp_path / "cache" / "codes.npy"
    prepare(dataset, OVER_TIME, TRAINING, tmp_path)
    built = codes.stat().st_mtime_ns
    prepare(dataset, OVER_TIME, replace(TRAINING, steps=9), tmp_path)
    assert codes.stat().st_mtime_ns == built
    prepare(dataset, replace(OVER_TIME, window=replace(OVER_TIME.window, stride=1)), TRAINING, tmp_path)
    assert codes.stat().st_mtime_ns != built


def test_windows_of_several_data_sets_are_prepared(dataset, tmp_path):
    sources = [Source(dataset, "first", weight=1.0), Source(dataset, "second", weight=3.0)]
    _, clips = prepare(sources, OVER_TIME, TRAINING, tmp_path / "run")
    half = len(clips) // 2
    first, second = clips.batch(np.array([1]), None), clips.batch(np.array([half + 1]), None)
    np.testing.assert_array_equal(first.future, second.future)


def test_frames_that_do_not_divide_are_refused_before_anything_is_encoded(dataset, tmp_path):
    odd = replace(OVER_TIME, window=replace(MODEL.window, frames=3))
    with pytest.raises(UserError, match="3 future frames do not divide into latents of 2 frames; 2 or 4 would do"):
        prepare(dataset, odd, TRAINING, tmp_path / "run")
    assert not (tmp_path / "run" / "cache").exists()


def test_windows_to_fit_are_whole_and_no_more_frames_than_otherwise(dataset, monkeypatch):
    sources = (Source(dataset, "dots"),)
    monkeypatch.setattr(module, "FITTED_PIXELS", 32 * 32 * 40)
    windows = list(module._windows_to_fit(sources, OVER_TIME))
    assert {window.shape for window in windows} == {(5, 32, 32, 3)}
    # Four episodes of at least 20 steps: of each, ten steps' worth of frames.
    assert len(windows) == 4 * 2
    frames = dataset.episode(0, ["top"]).views["top"]
    np.testing.assert_array_equal(windows[0], frames[:9:2])
    np.testing.assert_array_equal(windows[1], frames[-9::2])
