from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from videopolicy.colours import Colours
from videopolicy.errors import UserError
from videopolicy.media import Decoder, read_mp4, write_mp4

WEIGHTS = {"709": (0.2126, 0.0722), "601": (0.299, 0.114), "fcc": (0.30, 0.11), "240": (0.212, 0.087)}
WEIGHTS["2020"] = (0.2627, 0.0593)
LIMITED, FULL = 1, 2


def bars(size=64):
    """Columns of the eight colours that are each high or low in red, green and blue, (size, size, 3)."""
    colours = (np.arange(8)[:, None] >> np.arange(3)) & 1
    return np.broadcast_to(np.repeat(colours * 219 + 16, size // 8, axis=0), (size, size, 3)).astype(np.uint8)


def coded(weights, full, pixels="yuv420p"):
    """The bars as a picture, by a matrix computed here, so that no conversion of FFmpeg's has a part in it."""
    red, blue = WEIGHTS[weights]
    rgb = bars() / 255
    luma = rgb @ np.array([red, 1 - red - blue, blue])
    chroma = [(rgb[..., 2] - luma) / (2 * (1 - blue)), (rgb[..., 0] - luma) / (2 * (1 - red))]
    step = 1 if "444" in pixels else 2
    planes = [luma * 255 if full else luma * 219 + 16]
    planes += [part[::step, ::step] * (255 if full else 224) + 128 for part in chroma]
    picture = VideoFrame(64, 64, pixels)
    for plane, values in zip(picture.planes, planes, strict=True):
        buffer = np.zeros((plane.height, plane.line_size), np.uint8)
        buffer[:, : plane.width] = np.rint(np.clip(values, 0, 255))
        plane.update(buffer.tobytes())
    return picture


def farthest(pixels):
    """The mean error of the middle of that bar which is farthest off, of 255."""
    off = np.abs(pixels.astype(int) - bars())[8:-8].reshape(48, 8, 8, 3)[:, :, 3:6]
    return off.mean((0, 2, 3)).max()


@pytest.mark.parametrize(
    ("weights", "matrix"), [("709", 1), ("601", 2), ("fcc", 4), ("601", 5), ("601", 6), ("240", 7), ("2020", 9)]
)
@pytest.mark.parametrize(
    ("full", "said", "pixels"),
    [
        (False, LIMITED, "yuv420p"),
        (False, 0, "yuv420p"),
        (True, FULL, "yuv420p"),
        (True, FULL, "yuvj420p"),
        (True, 0, "yuvj420p"),
        (False, LIMITED, "yuv444p"),
        (True, FULL, "yuv444p"),
    ],
)
def test_colours_are_those_that_matrix_and_range_say(weights, matrix, full, said, pixels):
    picture = coded(weights, full, pixels)
    picture.colorspace, picture.color_range = matrix, said
    assert farthest(Colours(Path("a.mp4")).pixels(picture)) < 2.5


def test_pictures_that_change_their_matrix_on_the_way_are_read_by_each_ones_own():
    colours = Colours(Path("a.mp4"))
    for weights, matrix in (("709", 1), ("601", 5), ("709", 1), ("601", 2)):
        picture = coded(weights, False)
        picture.colorspace = matrix
        assert farthest(colours.pixels(picture)) < 2.5


def test_a_matrix_that_is_not_converted_is_refused_by_name():
    picture = coded("709", False)
    picture.colorspace = 8
    with pytest.raises(UserError, match=r"a\.mp4: its colours are coded by matrix 8 of .*; encode it anew"):
        Colours(Path("a.mp4")).pixels(picture)


def test_grey_is_from_black_to_white_and_needs_no_matrix():
    for pixels, kind in (("gray", np.uint8), ("gray16le", np.uint16)):
        picture = VideoFrame(64, 64, pixels)
        ramp = np.linspace(0, np.iinfo(kind).max, 64).astype(kind)
        picture.planes[0].update(np.broadcast_to(ramp, (64, 64)).tobytes())
        read = Colours(Path("a.mkv")).pixels(picture)
        assert np.abs(read[0, :, 0] - np.linspace(0, 255, 64)).max() <= 2


@pytest.mark.parametrize("weights", ["709", "601"])
@pytest.mark.parametrize(("full", "pixels"), [(False, "yuv420p"), (True, "yuvj420p")])
def test_a_file_that_says_its_matrix_and_range_gives_its_colours(weights, full, pixels, tmp_path):
    with av.open(str(tmp_path / "a.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(20), options={"crf": "4", "threads": "1"})
        stream.height, stream.width, stream.pix_fmt = 64, 64, pixels
        context, matrix = stream.codec_context, {"709": 1, "601": 6}[weights]
        context.colorspace, context.color_range = matrix, FULL if full else LIMITED
        for number in range(3):
            picture = coded(weights, full, pixels)
            picture.pts, picture.time_base = number, Fraction(1, 20)
            file.mux(stream.encode(picture))
        file.mux(stream.encode(None))
    assert farthest(read_mp4(tmp_path / "a.mp4")[1]) < 2.5


@pytest.mark.parametrize("full_colour", [True, False])
def test_ours_come_back_and_say_what_they_are(full_colour, tmp_path):
    write_mp4(tmp_path / "a.mp4", np.stack([bars()] * 3), 20, crf=4, full_colour=full_colour)
    decoder = Decoder(tmp_path / "a.mp4")
    assert farthest(decoder.read(1, 2)[0]) < 2.5
    decoder.close()
    with av.open(str(tmp_path / "a.mp4")) as file:
        said = file.streams.video[0].codec_context
        # ITU-T H.273: BT.601's matrix, limited, primaries of BT.709 and transfer of sRGB.
        assert (said.colorspace, said.color_range, said.color_primaries, said.color_trc) == (6, LIMITED, 1, 13)
        # Whoever heeds no word of that takes BT.601, too.
        assert farthest(next(file.decode(video=0)).to_ndarray(format="rgb24")) < 2.5
