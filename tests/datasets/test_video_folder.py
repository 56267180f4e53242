import multiprocessing
from pathlib import Path

import av
import numpy as np
import pytest

from videopolicy.datasets.checking.checks import examine
from videopolicy.datasets.checking.frames import cells
from videopolicy.datasets.video_folder import open_dataset, recognises
from videopolicy.errors import UserError
from videopolicy.media import read_mp4, write_mp4


def video(path, length=4, fps=10, seed=0, size=(32, 48)):
    """A video of one colour after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colours = np.random.default_rng(seed).integers(0, 256, (length, 1, 1, 3), np.uint8)
    write_mp4(path, np.broadcast_to(colours, (length, *size, 3)), fps, crf=5, full_colour=True)
    return path


def captioned(path, caption, **kinds):
    video(path, **kinds)
    path.with_suffix(".txt").write_text(caption, encoding="utf-8")
    return path


def table(folder, text, encoding="utf-8"):
    (folder / "captions.csv").write_text(text, encoding=encoding)


def test_files_are_episodes_in_the_order_of_their_names_at_any_depth(tmp_path):
    captioned(tmp_path / "b" / "one.mp4", "third", length=5)
    captioned(tmp_path / "a.mp4", "first", length=3)
    captioned(tmp_path / "a" / "z.MOV.mp4", "second", length=4)
    dataset = open_dataset(tmp_path)
    assert [dataset.episode(n).instruction for n in range(3)] == ["second", "first", "third"]
    assert [dataset.length(n) for n in range(3)] == [4, 3, 5]
    assert dataset.tasks == ("second", "first", "third")
    assert dataset.views == ("video",) and dataset.action_width is None


@pytest.mark.parametrize("suffix", [".mp4", ".MP4", ".mov"])
def test_the_case_of_a_suffix_does_not_matter(suffix, tmp_path):
    captioned(tmp_path / "cup.mp4", "pour")
    (tmp_path / "cup.mp4").rename(tmp_path / f"clip{suffix}")
    (tmp_path / "cup.txt").rename(tmp_path / "clip.txt")
    assert recognises(tmp_path)
    assert len(open_dataset(tmp_path).episode(0)) == 4


def test_hidden_files_and_others_are_left_alone(tmp_path):
    captioned(tmp_path / "cup.mp4", "pour")
    (tmp_path / "._cup.mp4").write_bytes(b"a desktop's own")
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "x.mp4").write_bytes(b"")
    (tmp_path / "thumbnail.jpg").write_bytes(b"")
    assert len(open_dataset(tmp_path)) == 1


def test_captions_come_from_the_table_first_and_from_text_files_then(tmp_path):
    captioned(tmp_path / "a.mp4", "from a text file\n")
    captioned(tmp_path / "deep" / "b.mp4", "not this")
    video(tmp_path / "c.mp4")
    # A spreadsheet's table: byte-order mark, columns in another order, other slashes, quoted commas and lines.
    table(
        tmp_path,
        'caption,file\r\n"left, then\r\nright",deep\\b.mp4\r\n\r\nGänseblümchen,./c.mp4\r\n',
        encoding="utf-8-sig",
    )
    dataset = open_dataset(tmp_path)
    assert dataset.tasks == ("from a text file", "Gänseblümchen", "left, then right")
    assert dataset.skipped == ()


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_a_file_without_a_caption_is_named_with_both_ways_to_caption_it(text, tmp_path):
    captioned(tmp_path / "a.mp4", "pour")
    video(tmp_path / "b.mp4")
    if text is not None:
        (tmp_path / "b.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"b\.mp4: has no caption.*captions\.csv.*\.txt"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("cup.mp4,pour\n", "first line"),
        ("", "first line"),
        ("file,caption,extra\ncup.mp4,pour,x\n", "first line"),
        ("file,caption\ncup.mp4,pour, then stop\n", "quotes"),
        ("file,caption\ncup.mp4\n", "1 columns"),
        ('file,caption\ncup.mp4,"pour\n', "comma-separated"),
        ("file,caption\ncup.mp4,pour\ncup.mp4,stir\n", "two captions"),
    ],
)
def test_a_table_that_is_none_is_refused_by_its_name(text, wrong, tmp_path):
    captioned(tmp_path / "cup.mp4", "pour")
    table(tmp_path, text)
    with pytest.raises(UserError, match=rf"captions\.csv: .*{wrong}"):
        open_dataset(tmp_path)


def test_text_that_is_not_utf_8_is_refused_by_its_name(tmp_path):
    captioned(tmp_path / "cup.mp4", "pour")
    (tmp_path / "cup.txt").write_bytes("Gänse".encode("latin-1"))
    with pytest.raises(UserError, match=r"cup\.txt: .*UTF-8"):
        open_dataset(tmp_path)


CODECS = {"mp4": "libx264", "mov": "mpeg4", "mkv": "libx264", "webm": "libvpx-vp9", "avi": "mpeg4"}


def encoded(path, codec, count=24):
    """A video as others make it: other containers and codecs, pictures stored in another order."""
    rng = np.random.default_rng(0)
    picture = np.kron(rng.integers(0, 256, (6, 8, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=12)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for step in range(count):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.roll(picture, step, 1), format="rgb24")))
        container.mux(stream.encode(None))
    path.with_suffix(".txt").write_text("turn", encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", CODECS)
def test_every_container_gives_the_same_frames(suffix, tmp_path):
    encoded(tmp_path / f"video.{suffix}", CODECS[suffix])
    assert recognises(tmp_path)
    dataset = open_dataset(tmp_path)
    assert (dataset.fps, dataset.length(0)) == (12, 24)
    one = dataset.episode(0).views["video"]
    # Colours are shared by four pixels in all of them, so only larger areas can be held against each other.
    reference = encoded(tmp_path / "reference.mp4", "libx264")
    other = read_mp4(reference)
    assert one.shape == other.shape
    assert np.abs(cells(one) - cells(other)).mean() < 6


@pytest.mark.parametrize("suffix", CODECS)
def test_flipped_and_missing_bytes_are_told_and_never_a_crash(suffix, tmp_path):
    sound = encoded(tmp_path / f"video.{suffix}", CODECS[suffix]).read_bytes()
    rng = np.random.default_rng(1)
    told = 0
    for case in range(12):
        damaged = bytearray(sound[: rng.integers(len(sound))] if case % 3 == 0 else sound)
        for place in rng.integers(len(damaged), size=10 if case % 3 else 0):
            damaged[place] ^= 1 << int(rng.integers(8))
        (tmp_path / f"video.{suffix}").write_bytes(damaged)
        try:
            told += bool(examine(open_dataset(tmp_path)).errors)
        except UserError as error:
            assert str(tmp_path) in str(error)
            told += 1
    assert told > 3


def test_a_caption_without_its_video_is_told(tmp_path):
    video(tmp_path / "cup.mp4")
    table(tmp_path, "file,caption\ncup.mp4,pour\ngone.mp4,stir\n")
    (line,) = open_dataset(tmp_path).skipped
    assert "gone.mp4" in line


def test_files_of_several_rates_keep_their_own(tmp_path):
    for number, fps in enumerate((10, 25, 10)):
        captioned(tmp_path / f"{number}.mp4", "pour", fps=fps)
    dataset = open_dataset(tmp_path)
    assert dataset.fps == 10
    assert [dataset.episode(n).fps for n in range(3)] == [10, 25, 10]


@pytest.mark.parametrize("keep", [0, 20, 400])
def test_a_damaged_video_is_refused_by_its_name(keep, tmp_path):
    captioned(tmp_path / "a.mp4", "pour")
    damaged = captioned(tmp_path / "b.mp4", "pour")
    damaged.write_bytes(damaged.read_bytes()[:keep])
    with pytest.raises(UserError, match=r"b\.mp4"):
        open_dataset(tmp_path)


def test_the_fingerprint_changes_with_a_caption(tmp_path):
    captioned(tmp_path / "a.mp4", "pour")
    before = open_dataset(tmp_path).fingerprint
    (tmp_path / "a.txt").write_text("stir", encoding="utf-8")
    assert open_dataset(tmp_path).fingerprint != before


def _mean(dataset, index):
    return dataset.episode(index).views["video"].mean()


def test_forked_processes_read_without_disturbing_each_other(tmp_path):
    for number in range(3):
        captioned(tmp_path / f"{number}.mp4", "pour", seed=number, length=20)
    dataset = open_dataset(tmp_path)
    alone = [_mean(dataset, number) for number in range(3)]
    dataset.episode(0, stop=3)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert pool.starmap(_mean, [(dataset, number) for number in range(3)] * 2) == alone * 2
    assert _mean(dataset, 0) == alone[0]


def test_only_one_file_is_open_at_a_time(tmp_path):
    for number in range(6):
        captioned(tmp_path / f"{number}.mp4", "pour")
    dataset = open_dataset(tmp_path)
    for number in range(6):
        dataset.episode(number)
    opened = [link for link in Path("/proc/self/fd").iterdir() if str(tmp_path) in str(link.resolve())]
    assert len(opened) == 1
    dataset.close()
