"""Spans of episodes in a shared video that are wrong: frames are told by the numbers in their pixels."""

import numpy as np
import pyarrow as pa
import pytest
from tests.datasets.lerobot.test_foreign import set_column
from tests.datasets.lerobot.test_lerobot import EPISODES, VIDEO, edit

from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.errors import UserError
from videopolicy.media import Encoder
from videopolicy.types import Episode

FPS = 20
LENGTHS = (12, 12, 15)
BEGIN, END = (f"videos/observation.images.top/{end}_timestamp" for end in ("from", "to"))


def picture(number, step):
    """Two rows of blocks: the step and the episode, in binary."""
    image = np.full((32, 64, 3), 90, np.uint8)
    for row, value in enumerate((step, number)):
        for bit in range(8):
            image[16 * row : 16 * row + 16, 8 * bit : 8 * bit + 8] = 255 if value >> bit & 1 else 0
    return image


def frames(number, length):
    return np.stack([picture(number, step) for step in range(length)])


def seen(read):
    """(episode, step) of every frame."""
    bits = read.views["top"].mean(-1).reshape(-1, 2, 16, 8, 8).mean((2, 4)) > 128
    step, number = np.moveaxis(bits @ (1 << np.arange(8)), 1, 0)
    return list(zip(number.tolist(), step.tolist(), strict=True))


def write(path, lengths=LENGTHS, fps=FPS):
    with Writer(path, fps, ("top",)) as writer:
        for number, length in enumerate(lengths):
            actions = np.full((length, 2), number, np.float32) + np.linspace(0, 0.5, length)[:, None].astype(np.float32)
            writer.add(Episode({"top": frames(number, length)}, "push it", fps, actions))
    return path


@pytest.fixture
def path(tmp_path):
    return write(tmp_path / "d")


def spans(path, begin, end):
    """Writes these spans, in seconds."""

    def change(table):
        return set_column(set_column(table, BEGIN, list(begin), pa.float64()), END, list(end), pa.float64())

    edit(path / EPISODES, change)


def assert_right(dataset, numbers, lengths=LENGTHS):
    assert [dataset.number(index) for index in range(len(dataset))] == list(numbers)
    for index, number in enumerate(numbers):
        read = dataset.episode(index)
        assert seen(read) == [(number, step) for step in range(lengths[number])]
        assert (np.floor(read.actions) == number).all()


TRUE = np.array([0, 12, 24]) / FPS, np.array([12, 24, 39]) / FPS
DRIFT = np.arange(3) * 0.6 / FPS


@pytest.mark.parametrize(
    ("begin", "end", "message"),
    [
        (TRUE[0] + DRIFT, TRUE[1] + DRIFT, "episode 1 begins 0.05 s too late"),
        (TRUE[0] - DRIFT, TRUE[1] - DRIFT, "episodes 0 and 1 overlap by 0.05 s"),
        (np.zeros(3), TRUE[1], "overlap"),
        (np.zeros(3), np.zeros(3), "episode 0 has a wrong length"),
        ([0, 0.6, 0], [0.6, 1.2, 0.75], "overlap"),
        ([None, None, None], [None, None, None], "no time span of episode 0 is given"),
    ],
    ids=["late", "early", "begin-zero", "zero", "reset", "none"],
)
def test_where_lengths_add_up_to_the_frames_wrong_spans_are_mended(path, begin, end, message):
    spans(path, begin, end)
    dataset = open_dataset(path)
    assert_right(dataset, (0, 1, 2))
    (note,) = dataset.notes
    assert (note.kind, note.episodes) == ("mended", (0, 1, 2))
    assert str(path / VIDEO) in note.text
    assert message in note.text


def test_sound_spans_are_told_nothing_of(path):
    dataset = open_dataset(path)
    assert_right(dataset, (0, 1, 2))
    assert dataset.notes == ()


def test_episodes_whose_spans_are_exchanged_are_left_out(path):
    """They are of one length: nothing tells whether the order is the video's own."""
    spans(path, TRUE[0][[1, 0, 2]], TRUE[1][[1, 0, 2]])
    dataset = open_dataset(path)
    assert_right(dataset, (2,))
    (note,) = dataset.notes
    assert (note.kind, note.episodes) == ("left out", (0, 1))
    assert "order of the episodes" in note.text


def test_another_order_in_the_video_is_believed_where_lengths_tell_it(tmp_path):
    path = write(tmp_path / "d", (9, 12, 15))
    with Encoder(path / VIDEO, FPS, full_colour=True) as encoder:
        for number, length in ((2, 15), (0, 9), (1, 12)):
            encoder.write(frames(number, length))
    spans(path, np.array([15, 24, 0]) / FPS, np.array([24, 36, 15]) / FPS)
    assert_right(open_dataset(path), (0, 1, 2), (9, 12, 15))


def test_where_nothing_adds_up_overlapping_episodes_are_left_out(path):
    """One frame more than the episodes have: a gap somewhere, and nobody knows where."""
    with Encoder(path / VIDEO, FPS, full_colour=True) as encoder:
        encoder.write(np.concatenate([frames(0, 12), frames(1, 13), frames(2, 15)]))
    spans(path, np.array([0, 10, 25]) / FPS, np.array([12, 22, 40]) / FPS)
    dataset = open_dataset(path)
    assert_right(dataset, (2,))
    (note,) = [note for note in dataset.notes if note.kind == "left out"]
    assert note.episodes == (0, 1)
    assert "the time spans of episodes 0 and 1 overlap" in note.text


def test_a_gap_is_named_and_costs_nothing(path):
    with Encoder(path / VIDEO, FPS, full_colour=True) as encoder:
        encoder.write(np.concatenate([frames(0, 12), frames(7, 5), frames(1, 12), frames(2, 15)]))
    spans(path, np.array([0, 17, 29]) / FPS, np.array([12, 29, 44]) / FPS)
    dataset = open_dataset(path)
    assert_right(dataset, (0, 1, 2))
    assert [(note.kind, note.text.split(": ")[1]) for note in dataset.notes] == [
        ("unused", "frames 12 to 16 belong to no episode that can be read")
    ]


def test_a_missing_last_frame_costs_one_step(path):
    with Encoder(path / VIDEO, FPS, full_colour=True) as encoder:
        encoder.write(np.concatenate([frames(0, 12), frames(1, 12), frames(2, 14)]))
    dataset = open_dataset(path)
    assert_right(dataset, (0, 1, 2), (12, 12, 14))
    assert [(note.kind, note.episodes) for note in dataset.notes] == [("mended", (2,))]


def test_many_missing_frames_cost_the_episode(path):
    with Encoder(path / VIDEO, FPS, full_colour=True) as encoder:
        encoder.write(np.concatenate([frames(0, 12), frames(1, 12), frames(2, 9)]))
    dataset = open_dataset(path)
    assert_right(dataset, (0, 1))
    assert [note.episodes for note in dataset.notes if note.kind == "left out"] == [(2,)]


def test_times_by_the_files_own_clock(tmp_path):
    """30000/1001 frames a second where the description says 30: after a minute, two frames."""
    lengths = (200, 200, 200, 200)
    path = write(tmp_path / "d", lengths, 30)
    rate = 30000 / 1001
    with Encoder(path / VIDEO, rate, full_colour=True) as encoder:
        for number, length in enumerate(lengths):
            encoder.write(frames(number, length))
    ends = np.arange(5) * 200
    for clock in (rate, 30):
        spans(path, ends[:-1] / clock, ends[1:] / clock)
        assert_right(open_dataset(path), range(4), lengths)
    # Not all frames are an episode's: the spans alone tell which are.
    spans(path, ends[:-1] / rate, ends[1:] / rate)
    with Encoder(path / VIDEO, rate, full_colour=True) as encoder:
        for number, length in enumerate((*lengths, 60)):
            encoder.write(frames(number, length))
    assert_right(open_dataset(path), range(4), lengths)


def test_videos_that_are_named_wrong_are_found_by_their_lengths(path, tmp_path):
    """As in sets that were merged: every episode names the first file."""
    with Encoder(path / VIDEO, FPS, full_colour=True) as encoder:
        encoder.write(np.concatenate([frames(0, 12), frames(1, 12)]))
    second = path / spec.VIDEO.format(video_key="observation.images.top", chunk_index=0, file_index=1)
    with Encoder(second, FPS, full_colour=True) as encoder:
        encoder.write(frames(2, 15))
    spans(path, np.array([0, 12, 0]) / FPS, np.array([12, 24, 15]) / FPS)
    dataset = open_dataset(path)
    assert_right(dataset, (0, 1, 2))
    assert [note.kind for note in dataset.notes] == ["mended"]


def test_without_a_table_of_episodes_videos_that_do_not_fit_cost_all(path):
    (path / EPISODES).unlink()
    with Encoder(path / VIDEO, FPS, full_colour=True) as encoder:
        encoder.write(np.concatenate([frames(0, 12), frames(1, 13), frames(2, 15)]))
    with pytest.raises(UserError, match=r"none of 3 episodes can be read.*lengths of the episodes do not add up"):
        open_dataset(path)


def test_a_rate_that_is_not_the_videos_costs_the_episodes(path):
    with Encoder(path / VIDEO, 25, full_colour=True) as encoder:
        encoder.write(np.concatenate([frames(n, length) for n, length in enumerate(LENGTHS)]))
    with pytest.raises(UserError, match=r"25 frames a second, but meta/info\.json says 20"):
        open_dataset(path)
