import multiprocessing
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import av
import numpy as np
import pytest

from videopolicy.datasets.checking.checks import examine
from videopolicy.datasets.checking.frames import cells
from videopolicy.datasets.formats import open_any
from videopolicy.datasets.reading import Reading
from videopolicy.datasets.video_folder import open_dataset, recognises
from videopolicy.errors import UserError
from videopolicy.media import read_mp4, write_mp4


def colours(length, seed):
    return np.random.default_rng(seed).integers(0, 256, (length, 1, 1, 3), np.uint8)


def video(path, length=4, fps=10, seed=0, size=(32, 48)):
    """A video of one colour after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(path, np.broadcast_to(colours(length, seed), (length, *size, 3)), fps, crf=5, full_colour=True)
    return path


def shows(dataset, index, seed, length=4):
    """Whether an episode is the video of this seed."""
    frames = dataset.episode(index).views["video"]
    return len(frames) == length and np.abs(frames.astype(int) - colours(length, seed)).max() < 12


def four(folder):
    """A folder of four captioned videos, told apart by their colours."""
    for number in range(4):
        captioned(folder / f"{number}.mp4", f"say {number}", seed=number)
    return folder


def lost(dataset):
    return [(note.text, note.episodes) for note in dataset.notes if note.kind == "left out"]


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
    assert dataset.notes == ()


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_table_names_files_in_utf_8_however_the_system_spells_them(form, tmp_path):
    """Macs take accents apart, and a Latin-1 locale takes two letters for each."""
    video(tmp_path / unicodedata.normalize(form, "Gänse.mp4"))
    table(tmp_path, "file,caption\nGänse.mp4,Gänse füttern\n")
    script = (
        f"from videopolicy.datasets.video_folder import *; print(ascii(open_dataset(Path({str(tmp_path)!r})).tasks))"
    )
    env = {**os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8", env=env)
    assert done.stdout.strip() == ascii(("Gänse füttern",)), done.stderr


HOW = "write it into captions.csv (columns file,caption) or into a text file of the same name that ends in .txt"


@pytest.mark.parametrize("text", [None, "", " \n"])
def test_videos_without_a_caption_cost_only_themselves_in_one_line(text, tmp_path):
    four(tmp_path)
    for number in (1, 2):
        (tmp_path / f"{number}.txt").unlink()
        if text is not None:
            (tmp_path / f"{number}.txt").write_text(text, encoding="utf-8")
    dataset = open_dataset(tmp_path)
    assert lost(dataset) == [(f"{tmp_path / '1.mp4'} (and 1 more): has no caption; {HOW}", (1, 2))]
    assert [dataset.number(index) for index in range(len(dataset))] == [0, 3]
    assert dataset.tasks == ("say 0", "say 3")
    assert shows(dataset, 0, seed=0) and shows(dataset, 1, seed=3)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5000\n"
PULL = "is a pointer of Git LFS, not the file itself; get it with `git lfs pull`"
EMPTY = "is empty; its writing was cut short, or its download; copy or download it again"
CUT = "not a readable video; the file is cut short or damaged; copy or download it again"


@pytest.mark.parametrize(
    ("damage", "cause"),
    [
        (lambda content: b"", EMPTY),
        (lambda content: content[:20], CUT),
        (lambda content: content[: len(content) // 2], CUT),
        (lambda content: POINTER, PULL),
    ],
)
def test_a_video_that_cannot_be_read_costs_only_itself(damage, cause, tmp_path):
    damaged = four(tmp_path) / "1.mp4"
    damaged.write_bytes(damage(damaged.read_bytes()))
    dataset = open_dataset(tmp_path)
    assert lost(dataset) == [(f"{damaged}: {cause}", (1,))]
    assert [dataset.number(index) for index in range(len(dataset))] == [0, 2, 3]
    assert [shows(dataset, index, seed) for index, seed in enumerate((0, 2, 3))] == [True] * 3


def test_a_link_to_a_video_that_is_gone_is_told(tmp_path):
    (four(tmp_path) / "1.mp4").unlink()
    (tmp_path / "1.mp4").symlink_to(tmp_path / "nowhere" / "1.mp4")
    assert lost(open_dataset(tmp_path)) == [(f"{tmp_path / '1.mp4'}: is a link to a file that is not there", (1,))]


def test_causes_are_told_apart_and_nothing_left_is_an_error_that_names_the_first(tmp_path):
    for number in range(4):
        video(tmp_path / f"{number}.mp4")
    (tmp_path / "3.mp4").write_bytes(POINTER)
    with pytest.raises(UserError) as raised:
        open_dataset(tmp_path)
    first = f"{tmp_path / '0.mp4'} (and 2 more): has no caption; {HOW} (episodes 0-2)"
    assert str(raised.value) == f"none of 4 videos can be used: {first}"


def test_strictness_refuses_what_is_left_out(tmp_path):
    (four(tmp_path) / "1.txt").unlink()
    with pytest.raises(UserError, match=r"left out: .*1\.mp4: has no caption"):
        open_any(tmp_path, reading=Reading(strict=True))


def test_linked_folders_are_followed(tmp_path):
    captioned(tmp_path / "elsewhere" / "cup.mp4", "pour", seed=1)
    captioned(tmp_path / "films" / "b" / "jar.mp4", "open", seed=2)
    (tmp_path / "films" / "a").symlink_to(tmp_path / "elsewhere")
    dataset = open_dataset(tmp_path / "films")
    assert dataset.tasks == ("pour", "open")
    assert shows(dataset, 0, seed=1) and shows(dataset, 1, seed=2)


def test_captions_that_cannot_be_read_cost_their_videos(tmp_path):
    four(tmp_path)
    for number, content in enumerate(("Gänse".encode("latin-1"), "日本".encode("shift-jis"), POINTER)):
        (tmp_path / f"{number}.txt").write_bytes(content)
    dataset = open_dataset(tmp_path)
    assert lost(dataset) == [
        (f"{tmp_path / '0.txt'} (and 1 more): is not UTF-8 text; save it as UTF-8", (0, 1)),
        (f"{tmp_path / '2.txt'}: {PULL}", (2,)),
    ]
    assert dataset.tasks == ("say 3",) and shows(dataset, 0, seed=3)


COLUMNS = "has not two columns; put quotes around a caption with commas"
QUOTES = "its quotes do not pair; put one before and one after a caption with commas"
ODD = [
    ("0.mp4,zero\n1.mp4,go, then stop\n2.mp4,two\n", COLUMNS, [1]),
    ("0.mp4,zero\n1.mp4\n2.mp4,two\n", COLUMNS, [1]),
    ('0.mp4,zero\n1.mp4,"go" on\n2.mp4,two\n', QUOTES, [1]),
    ('0.mp4,zero\n1.mp4,"go\n2.mp4,two\n', QUOTES, [1, 2]),
    ('0.mp4,zero\n1.mp4,"go\n2.mp4,two"\n', QUOTES, [1, 2]),
    ("0.mp4,zero\n1.mp4,G\xe4nse\n2.mp4,two\n", "is not UTF-8 text; save it as UTF-8", [1]),
    ("0.mp4,zero\n1.mp4,go\n2.mp4,two\n1.mp4,stay\n", "is a second caption of one video; keep one of them", [1]),
]


@pytest.mark.parametrize(("rows", "cause", "numbers"), ODD)
def test_a_row_that_cannot_be_read_costs_its_videos_unless_a_text_file_has_the_caption(rows, cause, numbers, tmp_path):
    for number in range(3):
        video(tmp_path / f"{number}.mp4", seed=number)
    (tmp_path / "captions.csv").write_bytes(f"file,caption\n{rows}".encode("latin-1"))
    dataset, line = open_dataset(tmp_path), 5 if "second" in cause else 3
    assert lost(dataset) == [(f"{tmp_path / 'captions.csv'}, line {line}: {cause}", tuple(numbers))]
    kept = [number for number in range(3) if number not in numbers]
    assert dataset.tasks == tuple(("zero", "go", "two")[number] for number in kept)
    assert all(shows(dataset, index, seed) for index, seed in enumerate(kept))
    for number in numbers:
        (tmp_path / f"{number}.txt").write_text(f"say {number}", encoding="utf-8")
    (note,) = open_dataset(tmp_path).notes
    assert (note.kind, note.episodes) == ("mended", tuple(numbers))
    assert note.text.endswith(f"line {line}: {cause}; the text file of the same name is read instead")
    assert len(open_dataset(tmp_path)) == 3


HEAD = "its first line must be file,caption: the names of its columns"


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"0.mp4,pour\n", HEAD),
        (b"", HEAD),
        (b"file;caption\n0.mp4;pour\n", HEAD),
        (b"file,caption,extra\n0.mp4,pour,x\n", HEAD),
        ("file,caption\n0.mp4,pour\n".encode("utf-16"), "is not UTF-8 text; save it as UTF-8"),
        ("file,caption\n0.mp4,pour\n".encode("utf-16-le"), "is not UTF-8 text; save it as UTF-8"),
        (POINTER, PULL),
    ],
)
def test_without_a_table_that_can_be_read_text_files_count(content, cause, tmp_path):
    (four(tmp_path) / "captions.csv").write_bytes(content)
    file = tmp_path / "captions.csv"
    dataset = open_dataset(tmp_path)
    assert [str(note) for note in dataset.notes] == [f"{file}: {cause}; text files are read instead"]
    assert dataset.tasks == ("say 0", "say 1", "say 2", "say 3")
    for number in (1, 2):
        (tmp_path / f"{number}.txt").unlink()
    dataset = open_dataset(tmp_path)
    assert lost(dataset) == [(f"{file}: {cause}", (1, 2))]
    assert dataset.tasks == ("say 0", "say 3") and shows(dataset, 1, seed=3)


def test_what_the_folder_holds_beside_videos_that_are_read_is_told(tmp_path):
    (four(tmp_path) / "old.wmv").touch()
    table(tmp_path, "file,caption\n0.mp4,pour\ngone.mp4,stir\nfar/away.mp4,stir\nnobody\n")
    convert = "convert it to one of .mp4, .m4v, .mov, .mkv, .webm, .avi"
    assert [(note.kind, str(note)) for note in open_dataset(tmp_path).notes] == [
        ("unused", f"{tmp_path / 'captions.csv'}, line 5: {COLUMNS}"),
        ("unused", f"{tmp_path / 'captions.csv'}, gone.mp4 (and 1 more): has a caption, but there is no such video"),
        ("unused", f"{tmp_path / 'old.wmv'}: is a video of a kind that is not read; {convert}"),
    ]


def test_depths_are_no_video_to_learn_from(tmp_path):
    four(tmp_path)
    with av.open(str(tmp_path / "depth.mkv"), "w") as file:
        stream = file.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "gray16le"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((32, 48), 3000, np.uint16), format="gray16le")))
        file.mux(stream.encode(None))
    assert lost(open_dataset(tmp_path)) == [
        (f"{tmp_path / 'depth.mkv'}: holds depths and no colours; move it elsewhere", (4,))
    ]


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


def test_files_of_several_rates_keep_their_own(tmp_path):
    for number, fps in enumerate((10, 25, 10)):
        captioned(tmp_path / f"{number}.mp4", "pour", fps=fps)
    dataset = open_dataset(tmp_path)
    assert dataset.fps == 10
    assert [dataset.episode(n).fps for n in range(3)] == [10, 25, 10]


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
