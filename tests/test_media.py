import numpy as np
import pytest

from videopolicy.errors import UserError
from videopolicy.media import Decoder, Encoder, read_mp4, write_mp4


def moving(count, height=64, width=64, seed=0):
    """A red square that wanders over a smooth ground."""
    rows, columns = np.mgrid[0:height, 0:width]
    ground = np.stack([rows * 2, columns * 2, (rows + columns)], axis=-1).astype(np.uint8)
    frames = np.repeat(ground[None], count, axis=0)
    for index, frame in enumerate(frames):
        left = (seed + 2 * index) % (width - 8)
        frame[8:16, left : left + 8] = (220, 30, 30)
    return frames


def noise(one, other):
    """Peak signal-to-noise ratio, in dB."""
    return 10 * np.log10(255**2 / ((one.astype(float) - other) ** 2).mean())


@pytest.mark.parametrize("size", [(64, 64), (48, 80), (33, 47)])
def test_frames_come_back(tmp_path, size):
    frames = moving(20, *size)
    write_mp4(tmp_path / "a.mp4", frames, fps=20)
    read = read_mp4(tmp_path / "a.mp4")
    assert read.shape == frames.shape
    assert noise(read, frames) > 28


def test_full_colour_keeps_the_colour_of_single_pixels(tmp_path):
    frames = np.random.default_rng(0).integers(0, 2, (5, 32, 32, 3), np.uint8) * 255
    quality = []
    for full in (False, True):
        with Encoder(tmp_path / "a.mp4", 20, crf=5, full_colour=full) as encoder:
            encoder.write(frames)
        quality.append(noise(read_mp4(tmp_path / "a.mp4"), frames))
    assert quality[1] > quality[0] + 10


@pytest.mark.parametrize("fps", [20, 80, 29.97, 3])
def test_any_block_equals_that_part_of_the_whole(tmp_path, fps):
    path = tmp_path / "a.mp4"
    with Encoder(path, fps) as encoder:
        for start in (0, 17, 40):
            encoder.write(moving(17, seed=start))
    whole, decoder = read_mp4(path), Decoder(path)
    assert len(decoder) == len(whole) == 51
    assert decoder.fps == pytest.approx(fps, rel=1e-3)
    for start, stop in ((17, 34), (50, 51), (0, 51), (3, 5), (16, 18), (34, 51)):
        np.testing.assert_array_equal(decoder.read(start, stop), whole[start:stop])
    decoder.close()


def test_reading_past_the_end_is_refused(tmp_path):
    write_mp4(tmp_path / "a.mp4", moving(10), 20)
    with pytest.raises(UserError, match="10 of the 12"):
        Decoder(tmp_path / "a.mp4").read(5, 12)


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = tmp_path / "a.mp4"
    write_mp4(path, moving(5), 20)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        write_mp4(path, np.zeros((5, 64, 64, 7), np.uint8), 20)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.mp4"]


def test_missing_cut_and_foreign_files_are_refused_by_name(tmp_path):
    path = tmp_path / "a.mp4"
    with pytest.raises(UserError, match=r"a\.mp4: no such"):
        read_mp4(path)
    path.write_text("no video", encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.mp4"):
        read_mp4(path)
    write_mp4(path, moving(30), 20)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match=r"a\.mp4"):
        read_mp4(path)
