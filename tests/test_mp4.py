from fractions import Fraction

import av
import numpy as np
import pytest
from tests.test_media_foreign import encode, numbered

from videopolicy.mp4 import Pictures, pictures

B_FRAMES = {"bf": "3", "g": "12"}
FAST = {"movflags": "faststart"}


def times(path):
    """When the pictures are shown, in ticks, as reading the file through says."""
    with av.open(str(path)) as file:
        return sorted(packet.pts for packet in file.demux(video=0) if packet.size)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov"])
@pytest.mark.parametrize(
    "how",
    [
        {"options": {"bf": "0"}},
        {"options": B_FRAMES},
        {"options": B_FRAMES, "container": FAST},
        {"options": B_FRAMES, "rate": Fraction(30000, 1001)},
        {"options": B_FRAMES, "container": {"use_editlist": "0"}},
        {"codec": "mpeg4"},
    ],
)
def test_the_tables_of_an_even_file_say_what_reading_it_through_does(name, how, tmp_path):
    path = encode(tmp_path / name, numbered(50), **how)
    found, read = pictures(path), times(path)
    assert (found.count, found.whole) == (50, True)
    assert read == [read[0] + found.step * number for number in range(50)]


def test_no_picture_is_read(tmp_path):
    path = encode(tmp_path / "a.mp4", numbered(50))
    content = path.read_bytes()
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    path.write_bytes(content[:start] + bytes(end - start) + content[end:])
    assert pictures(path) == Pictures(50, 512, whole=True)


def test_uneven_steps_are_left_to_reading(tmp_path):
    uneven = np.cumsum([0, *[40, 25, 40] * 10])
    path = encode(tmp_path / "a.mp4", numbered(31), times=uneven, base=Fraction(1, 1000))
    assert pictures(path) == Pictures(31, 0, whole=True)


@pytest.mark.parametrize("entry", [(4, 3 * 512), (0, 500)])
def test_pictures_that_an_edit_list_hides_are_left_to_reading(entry, tmp_path):
    """At the beginning, by the first time shown; at the end, by how long it is shown."""
    path = encode(tmp_path / "a.mp4", numbered(50), options={"bf": "0"})
    content, (at, value) = bytearray(path.read_bytes()), entry
    at += content.index(b"elst") + 4 + 8  # after version and the number of entries: duration, first time, rate
    content[at : at + 4] = value.to_bytes(4)
    path.write_bytes(content)
    assert pictures(path) == Pictures(50, 0, whole=True)


def test_a_file_that_is_too_short_for_its_pictures_is_not_whole(tmp_path):
    path = encode(tmp_path / "a.mp4", numbered(50), container=FAST)
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    assert pictures(path) == Pictures(50, 512, whole=False)


def test_of_other_kinds_and_damaged_tables_nothing_is_said(tmp_path):
    assert pictures(encode(tmp_path / "a.mkv", numbered(5))) is None
    assert pictures(encode(tmp_path / "b.mp4", numbered(5), container={"movflags": "frag_keyframe+empty_moov"})) is None
    path = encode(tmp_path / "c.mp4", numbered(50), options=B_FRAMES)
    content = path.read_bytes()
    for name in (b"moov", b"trak", b"mdia", b"hdlr", b"minf", b"stbl", b"stts", b"stsz", b"stsc", b"stco", b"mvhd"):
        path.write_bytes(content.replace(name, b"free"))
        assert pictures(path) is None, name
    begin = content.index(b"moov")
    for end in range(begin, len(content) - 100, 37):
        path.write_bytes(content[:end])
        assert pictures(path) is None
