import base64
import io

import numpy as np
import pytest
from PIL import Image
from tests.report.samples import OFFSETS, moving, record

from videopolicy.media import read_mp4
from videopolicy.report.compose import GAP, PANEL, current, filmstrip, liveliest, mp4_uri, png_uri, stacked
from videopolicy.rollout.recordings import Imagined, Recording, load


def plan(step: int, *offsets: int) -> Imagined:
    return Imagined(step, tuple(step + offset for offset in offsets), {})


def decoded(uri: str, kind: str) -> bytes:
    head, _, body = uri.partition(",")
    assert head == f"data:{kind};base64"
    return base64.b64decode(body)


def test_the_imagined_panel_shows_the_next_frame_of_the_plan_being_executed():
    plans = (plan(0, 8, 16, 24), plan(16, 8, 16, 24))
    shown = [current(plans, step) for step in range(33)]
    targets = [plan.targets[k] for plan, k in shown]
    assert targets[0] == 8
    assert targets[1:] == [8] * 8 + [16] * 8 + [24] * 8 + [32] * 8
    assert [plan.step for plan, _ in shown] == [0] * 17 + [16] * 16


def test_past_the_last_imagined_frame_it_stays():
    only = plan(0, 2, 4)
    assert current((only,), 9) == (only, 1)


def test_both_panels_are_equal_where_the_plan_came_true(tmp_path):
    """Perfect imagination: at every imagined step the two halves match, in between the upper one is ahead."""
    record(tmp_path / "a", length=20, shift=0.0)
    recording = load(tmp_path / "a")
    frames = stacked(recording).astype(int)
    above, below = frames[:, :PANEL], frames[:, PANEL + GAP :]
    apart = np.abs(above - below).mean((1, 2, 3))
    exact = [4, 8, 12, 16, 20]
    assert all(apart[step] < 2 for step in exact)
    assert all(apart[step] > 2 * max(apart[exact]) for step in (1, 5, 9, 13, 17))


def test_the_bar_is_full_exactly_when_both_show_the_same_step(tmp_path):
    record(tmp_path / "a", length=20)
    frames = stacked(load(tmp_path / "a")).astype(int)
    full = [step for step in range(21) if (frames[step, PANEL + GAP // 2, -1] == frames[4, PANEL + GAP // 2, 0]).all()]
    assert full == [4, 8, 12, 16, 20]


def test_the_bar_is_empty_where_nothing_was_imagined_any_more():
    imagined = Imagined(0, (2, 4), {"front": moving(1)})
    frames = stacked(Recording("t", 0, "", True, 10, {"front": moving(9)}, (imagined,))).astype(int)
    ends = frames[:10, PANEL + GAP // 2, 0]
    assert (ends[5:] == ends[0]).all() and (ends[1:5] != ends[0]).any(axis=1).all()


def test_the_last_frame_is_held_for_a_second(tmp_path):
    record(tmp_path / "a", length=20)
    frames = stacked(load(tmp_path / "a"))
    assert len(frames) == 21 + 20
    assert (frames[20:] == frames[20]).all()


def test_views_of_any_size_stand_side_by_side_at_even_sizes():
    executed = {"a": moving(5, 31), "b": moving(5, 64)[:, :, :47]}
    frames = stacked(Recording("t", 0, "", True, 10, executed, ()))
    assert frames.shape[1] == PANEL
    assert frames.shape[2] == PANEL + GAP + 2 * round(47 * PANEL / 64 / 2 + 0.25)
    assert frames.shape[2] % 2 == 0


def test_the_video_survives_its_uri(tmp_path):
    record(tmp_path / "a", length=20)
    frames = stacked(load(tmp_path / "a"))
    path = tmp_path / "out.mp4"
    path.write_bytes(decoded(mp4_uri(frames, 20), "video/mp4"))
    assert np.abs(read_mp4(path).astype(int) - frames).mean() < 2


def test_a_picture_survives_its_uri_to_the_bit():
    image = moving(3)[1]
    assert (np.asarray(Image.open(io.BytesIO(decoded(png_uri(image), "image/png")))) == image).all()


def test_the_filmstrip_holds_each_reached_step_once(tmp_path):
    record(tmp_path / "a", length=20)
    recording = load(tmp_path / "a")
    strip = filmstrip(recording, recording.plans[1], "front")
    assert [m.step for m in strip] == [8, 12, 16, 20]
    assert [m.offset for m in strip] == [0, *OFFSETS[:3]]
    assert strip[0].imagined is None and strip[0].psnr is None
    assert all(m.psnr is not None and m.still_psnr is not None for m in strip[1:])
    assert strip[1].still_psnr > strip[3].still_psnr


def test_the_liveliest_plan_is_the_one_during_which_something_moved():
    still = np.repeat(moving(20)[:1], 10, 0)
    executed = {"front": np.concatenate([still, moving(20)])}
    nothing = {"front": np.zeros((2, 32, 32, 3), np.uint8)}
    plans = tuple(Imagined(step, (step + 3, step + 6), nothing) for step in (0, 2, 12, 26))
    recording = Recording("t", 0, "", True, 10, executed, plans)
    assert liveliest(recording).step == 12
    assert liveliest(Recording("t", 0, "", True, 10, executed, ())) is None


def test_an_episode_without_imagination_is_one_panel():
    frames = stacked(Recording("t", 0, "", True, 10, {"front": moving(5)}, ()))
    assert frames.shape == (6 + 10, PANEL, PANEL, 3)
    assert pytest.approx(frames[0, :, :10].mean(), abs=3) == moving(5)[0, :, :2].mean()
