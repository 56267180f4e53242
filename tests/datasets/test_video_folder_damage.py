"""Damage to a folder of videos that would go unnoticed: in captions, and in what an MP4 says of its pictures."""

import pytest
from tests.datasets.test_video_folder import four, lost, shows

from videopolicy.datasets.video_folder import open_dataset
from videopolicy.errors import UserError


def test_a_caption_with_a_lost_block_of_zeros_is_no_text(tmp_path):
    four(tmp_path)
    (tmp_path / "2.txt").write_bytes(b"say\0\0\0")
    dataset = open_dataset(tmp_path)
    assert [shows(dataset, index, seed) for index, seed in enumerate((0, 1, 3))] == [True] * 3
    assert lost(dataset) == [(f"{tmp_path / '2.txt'}: is not UTF-8 text; save it as UTF-8", (2,))]


def test_a_caption_whose_video_is_gone_is_told(tmp_path):
    four(tmp_path)
    (tmp_path / "1.mp4").unlink()
    dataset = open_dataset(tmp_path)
    assert dataset.tasks == ("say 0", "say 2", "say 3")
    told = f"{tmp_path / '1.txt'}: is no caption, as there is no video of its name"
    assert [(note.kind, note.text) for note in dataset.notes] == [("unused", told)]


def test_pictures_that_an_edit_list_hides_are_told(tmp_path):
    four(tmp_path)
    file = tmp_path / "3.mp4"
    content = bytearray(file.read_bytes())
    at = content.index(b"elst") + 4 + 8
    content[at : at + 4] = (200).to_bytes(4)  # milliseconds, of the 400 that there are
    file.write_bytes(content)
    dataset = open_dataset(tmp_path)
    assert [dataset.length(index) for index in range(4)] == [4, 4, 4, 2]
    assert [(note.kind, note.episodes) for note in dataset.notes] == [("unused", (3,))]
    assert "its edit list hides some of its pictures" in dataset.notes[0].text


def test_pictures_that_are_turned_by_no_angle_are_refused(tmp_path):
    four(tmp_path)
    file = tmp_path / "0.mp4"
    content = bytearray(file.read_bytes())
    # The matrix of the track, after times, number, length, layer and volume.
    at = content.index(b"tkhd") + 4 + 40
    content[at : at + 36] = bytes(36)
    file.write_bytes(content)
    dataset = open_dataset(tmp_path)
    with pytest.raises(UserError, match=r"0\.mp4: says that its pictures are turned, but not how"):
        dataset.episode(0)
    assert shows(dataset, 1, 1)
