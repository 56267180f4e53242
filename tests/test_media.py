from pathlib import Path

import av
import numpy as np
import pytest

from videopolicy.errors import UserError
from videopolicy.media import Decoder, Encoder, Probe, probe, read_mp4, write_mp4


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


def test_a_probe_says_what_a_decoder_does_and_lets_the_file_go(tmp_path):
    path = tmp_path / "a.mp4"
    with Encoder(path, 30000 / 1001) as encoder:
        encoder.write(moving(51, 48, 80))
    found, decoder = probe(path), Decoder(path)
    assert found == Probe(frames=51, fps=decoder.fps, height=48, width=80, depth=False)
    assert found.fps == pytest.approx(30000 / 1001, rel=1e-9)
    decoder.close()
    assert str(path) not in [str(link.resolve()) for link in Path("/proc/self/fd").iterdir()]


@pytest.mark.parametrize(("codec", "pixels", "depth"), [("ffv1", "gray16le", True), ("ffv1", "gray", False)])
def test_a_probe_tells_depth_from_colour(codec, pixels, depth, tmp_path):
    with av.open(str(tmp_path / "a.mkv"), "w") as file:
        stream = file.add_stream(codec, rate=20)
        stream.height, stream.width, stream.pix_fmt = 32, 48, pixels
        frame = av.VideoFrame(48, 32, pixels)
        for plane in frame.planes:
            plane.update(bytes(plane.buffer_size))
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    assert probe(tmp_path / "a.mkv").depth is depth


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5000\n"


@pytest.mark.parametrize("look", [probe, Decoder])
@pytest.mark.parametrize(
    ("content", "told"),
    [
        (None, "no such video file"),
        (b"", "is empty; its writing was cut short, or its download; copy or download it again"),
        (
            b"no video",
            "not a readable video; it begins like none of MP4, MOV, MKV, WebM, AVI and MPEG-TS; "
            "give it in one of these",
        ),
        (slice(-200), "not a readable video; the file is cut short or damaged; copy or download it again"),
        (slice(30), "not a readable video; the file is cut short or damaged; copy or download it again"),
        (POINTER, "is a pointer of Git LFS, not the file itself; get it with `git lfs pull`"),
    ],
)
def test_what_is_no_video_is_refused_in_a_sentence(content, told, look, tmp_path):
    path = tmp_path / "a.mp4"
    if isinstance(content, slice):
        write_mp4(path, moving(30), 20)
        content = path.read_bytes()[content]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError) as raised:
        look(path)
    assert str(raised.value) == f"{path}: {told}"


def test_a_folder_under_the_name_of_a_video_is_refused_in_a_sentence(tmp_path):
    (tmp_path / "a.mp4").mkdir()
    with pytest.raises(UserError, match=r"a\.mp4: Is a directory; a file is needed there"):
        probe(tmp_path / "a.mp4")
