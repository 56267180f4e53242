"""Videos as others make them: every codec, container, order of storage, rate and rotation that a data set may bring."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame

from videopolicy.errors import UserError
from videopolicy.media import Decoder, read_mp4, write_mp4

pytestmark = pytest.mark.slow

BITS = 8
RATE = 30


def numbered(count, height=48, width=64):
    """Frames that say their number in black and white columns, whatever a codec does to them."""
    bits = (np.arange(count)[:, None] >> np.arange(BITS)) & 1
    columns = np.repeat(bits, width // BITS, axis=1) * 200 + 28
    return np.broadcast_to(columns[:, None, :, None], (count, height, width, 3)).astype(np.uint8)


def numbers(frames):
    """What `numbered` frames say."""
    columns = frames.mean((1, 3)).reshape(len(frames), BITS, -1).mean(-1)
    return ((columns > 128) << np.arange(BITS)).sum(-1).tolist()


def encode(path, frames, codec="libx264", rate=RATE, times=None, base=None, options=(), container=()):
    """Writes a video; times are in units of base, and count up in units of 1 / rate unless given."""
    with av.open(str(path), "w", options=dict(container)) as file:
        stream = file.add_stream(codec, rate=rate)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "yuvj420p" if codec == "mjpeg" else "yuv420p"
        stream.options = {"threads": "1", **dict(options)}
        base = base or 1 / Fraction(rate)
        stream.codec_context.time_base = base
        for time, pixels in zip(times if times is not None else range(len(frames)), frames, strict=True):
            frame = VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = int(time), base
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


B_FRAMES = {"bf": "3", "g": "12"}
FILES = {
    "b-frames.mp4": {"options": B_FRAMES},
    "open-groups.mp4": {"options": {"bf": "3", "x264-params": "open-gop=1:keyint=15"}},
    "intra-refresh.mp4": {"options": {"x264-params": "intra-refresh=1:keyint=15"}},
    "one-key-frame.mp4": {"options": {"bf": "2", "g": "1000"}},
    "fragments.mp4": {"options": B_FRAMES, "container": {"movflags": "frag_keyframe+empty_moov"}},
    "late.mp4": {"options": B_FRAMES, "times": range(90, 180)},
    "late.mkv": {"options": B_FRAMES, "times": range(90, 180)},
    "ntsc.mp4": {"options": B_FRAMES, "rate": Fraction(30000, 1001)},
    "slow.mp4": {"rate": Fraction(5, 2)},
    "odd-ticks.mp4": {
        "options": B_FRAMES,
        "times": [round(i * 1000 / 30) for i in range(90)],
        "base": Fraction(1, 1000),
    },
    "b-frames.mkv": {"options": B_FRAMES},
    "stream.ts": {"options": B_FRAMES},
    "hevc.mp4": {"codec": "libx265", "options": {"x265-params": "log-level=none:keyint=20:bframes=3:pools=1"}},
    "av1.mp4": {"codec": "libsvtav1", "options": {"preset": "12", "g": "20", "svtav1-params": "lp=1"}},
    "vp9.webm": {"codec": "libvpx-vp9", "options": {"deadline": "realtime", "cpu-used": "8", "g": "20"}},
    "mjpeg.avi": {"codec": "mjpeg"},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(params=FILES, scope="module")
def path(request, folder):
    return encode(folder / request.param, numbered(90), **FILES[request.param])


def test_frame_i_is_the_ith_picture_in_any_order_of_reading(path):
    decoder = Decoder(path)
    rate = FILES[path.name].get("rate", RATE)
    assert decoder.fps == pytest.approx(float(rate), rel=1e-3)
    assert len(decoder) == 90
    assert numbers(decoder.read(0, 90)) == list(range(90))
    for start, stop in ((33, 40), (40, 41), (45, 60), (0, 3), (88, 90), (11, 13), (59, 62), (61, 62)):
        assert numbers(decoder.read(start, stop)) == list(range(start, stop))
    decoder.close()


def test_reading_on_gives_the_same_pixels_as_reading_once(path):
    whole = Decoder(path).read(0, 90)
    decoder = Decoder(path)
    for start in range(0, 90, 7):
        np.testing.assert_array_equal(decoder.read(start, min(start + 7, 90)), whole[start : start + 7])


def test_a_file_cut_short_is_an_error_and_never_shorter(path, tmp_path):
    content = path.read_bytes()
    for share in (0.4, 0.9):
        cut = tmp_path / path.name
        cut.write_bytes(content[: int(len(content) * share)])
        with pytest.raises(UserError, match=path.name):
            decoder = Decoder(cut)
            decoder.read(0, 90)


def test_reading_on_does_not_jump(folder, monkeypatch):
    """A jump to a key frame in the middle of a long group would decode most of it again."""
    path = encode(folder / "long.mp4", numbered(60), options={"g": "1000", "bf": "0"})
    decoder = Decoder(path)
    decoder.read(0, 20)
    with av.open(str(path)) as other:
        monkeypatch.setattr(decoder, "_container", other)  # whose jumps would not move the one that is decoded
        assert numbers(decoder.read(20, 40)) == list(range(20, 40))
        assert numbers(decoder.read(43, 60)) == list(range(43, 60))


@pytest.mark.parametrize("name", ["phone.mp4", "phone.mkv"])
def test_a_variable_rate_is_laid_on_an_even_grid(tmp_path, name):
    """Two seconds of which the first is dense and the second has a long rest."""
    times = np.array([*range(0, 1000, 25), 1000, 1400, 1450, 1500, 1950])
    decoder = Decoder(encode(tmp_path / name, numbered(len(times)), times=times, base=Fraction(1, 1000)))
    grid = np.arange(len(decoder)) / decoder.fps * 1000
    assert grid[-1] == pytest.approx(1950, abs=1000 / decoder.fps)
    shown = numbers(decoder.read(0, len(decoder)))
    for number, time in zip(shown, grid, strict=True):
        following = times[number + 1] if number + 1 < len(times) else np.inf
        assert times[number] <= time + 1.5
        assert time < following + 1.5
    assert len(set(shown)) < len(shown)
    for start in range(0, len(decoder), 5):
        assert numbers(decoder.read(start, min(start + 5, len(decoder)))) == shown[start : start + 5]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_pictures_come_upright(tmp_path, turns):
    """As phones held upright record them: sideways, with a note in the track's header."""
    path = encode(tmp_path / "a.mp4", frames := numbered(3))
    matrix = {0: (1, 0, 0, 1), 1: (0, 1, -1, 0), 2: (-1, 0, 0, -1), 3: (0, -1, 1, 0)}[turns]
    content = bytearray(path.read_bytes())
    at = content.index(b"tkhd") + 4 + 40  # after version, times, id, duration, layer, group and volume
    for place, value in zip((0, 4, 12, 16), matrix, strict=True):
        content[at + place : at + place + 4] = (value * 65536).to_bytes(4, signed=True)
    path.write_bytes(content)
    upright = np.rot90(frames, -turns, axes=(1, 2))
    read = Decoder(path).read(0, 3)
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).mean() < 8


def test_the_part_before_an_edit_begins_is_not_shown(tmp_path):
    """A cut without encoding again keeps pictures that the file's edit list hides."""
    path = encode(tmp_path / "whole.mp4", numbered(60), options={"g": "20", "bf": "0"})
    content = bytearray(path.read_bytes())
    at = content.index(b"elst") + 4 + 8  # after version and the number of entries: duration, first time, rate
    with av.open(str(path)) as file:
        first = int(27 / RATE / file.streams.video[0].time_base)
    content[at + 4 : at + 8] = first.to_bytes(4)
    (tmp_path / "cut.mp4").write_bytes(content)
    decoder = Decoder(tmp_path / "cut.mp4")
    assert numbers(decoder.read(0, len(decoder))) == list(range(27, 60))
    assert numbers(decoder.read(5, 8)) == [32, 33, 34]


def test_pictures_that_are_all_at_one_time_are_damage_and_no_short_film(tmp_path):
    path = encode(tmp_path / "a.mp4", numbered(40), options={"bf": "0"})
    content = bytearray(path.read_bytes())
    at = content.index(b"stts") + 4 + 12  # after version, the number of rows, and how many pictures are so long
    content[at : at + 4] = bytes(4)
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"a\.mp4: many of its pictures have one time; the file is damaged"):
        Decoder(path)


def test_one_picture_is_a_video(tmp_path):
    decoder = Decoder(encode(tmp_path / "a.mp4", numbered(1)))
    assert (len(decoder), numbers(decoder.read(0, 1))) == (1, [0])
    assert len(decoder.read(0, 0)) == 0


def test_sound_alone_and_pictures_without_times_are_refused(tmp_path):
    encode(tmp_path / "a.h264", numbered(20))
    with av.open(str(tmp_path / "b.mp4"), "w") as file:
        stream = file.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    for name in ("a.h264", "b.mp4"):
        with pytest.raises(UserError, match=name):
            Decoder(tmp_path / name)


def test_a_play_list_under_the_name_of_a_video_is_not_followed(tmp_path):
    write_mp4(tmp_path / "elsewhere.mp4", np.zeros((5, 32, 32, 3), np.uint8), 20)
    for text in (
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nelsewhere.mp4\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile elsewhere.mp4\n",
    ):
        (tmp_path / "list.mp4").write_text(text, encoding="utf-8")
        with pytest.raises(UserError, match=r"list\.mp4: not a readable video"):
            Decoder(tmp_path / "list.mp4")


def test_a_colon_in_a_name_is_part_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_mp4(Path("10:30.mp4"), np.zeros((5, 32, 32, 3), np.uint8), 20)
    assert len(read_mp4(Path("10:30.mp4"))) == 5


def test_what_is_damaged_in_a_picture_of_motion_jpeg_is_not_made_up(folder, tmp_path):
    content = encode(folder / "own.avi", numbered(30), codec="mjpeg").read_bytes()
    refused = wrong = 0
    for seed in range(30):
        rng, damaged = np.random.default_rng(seed), bytearray(content)
        for place in rng.integers(len(content) // 10, len(content) * 9 // 10, 4):
            damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / "damaged.avi").write_bytes(damaged)
        try:
            wrong += numbers(read_mp4(tmp_path / "damaged.avi")) != list(range(30))
        except UserError:
            refused += 1
    # A decoder that does not stop at errors reads 13 of them, and 8 of these wrongly.
    assert refused > 20
    assert wrong <= 1


def test_a_webm_whose_blocks_are_lost_on_the_way_is_not_shorter(folder, tmp_path):
    content = encode(folder / "lost.webm", numbered(90), **FILES["vp9.webm"]).read_bytes()
    head = content.index(b"\x1f\x43\xb6\x75")  # the first cluster of blocks
    refused = 0
    for place in range(head + 200, len(content) - 400, (len(content) - head) // 12):
        (tmp_path / "damaged.webm").write_bytes(content[:place] + b"\xff" * 64 + content[place + 64 :])
        try:
            assert len(Decoder(tmp_path / "damaged.webm")) == 90
        except UserError:
            refused += 1
    assert refused > 3
