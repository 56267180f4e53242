import shutil

import pytest
from tests.contracts.plugins import example
from tests.contracts.test_datasets import EPISODES

from videopolicy import registry
from videopolicy.datasets.formats import guess_format, open_any
from videopolicy.errors import UserError


@pytest.mark.parametrize("name", registry.names("datasets"))
def test_each_format_is_told_from_the_others(name, tmp_path):
    example("datasets", name)(tmp_path / "datasets", EPISODES)
    assert guess_format(tmp_path / "datasets") == name
    opened, asked = open_any(tmp_path / "datasets"), open_any(tmp_path / "datasets", name)
    assert opened.fingerprint == asked.fingerprint and type(opened) is type(asked)


def test_what_no_format_recognises_is_refused_with_the_known_ones(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing", encoding="utf-8")
    for path in (tmp_path / "missing", tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(UserError, match=path.name) as refused:
            guess_format(path)
    assert f"give the folder that it is in: {tmp_path}" in str(refused.value)
    assert all(name in str(refused.value) for name in registry.names("datasets"))


def test_a_format_of_another_name_is_refused(tmp_path):
    with pytest.raises(UserError, match="did you mean 'lerobot'"):
        open_any(tmp_path, "lerobott")


def test_a_folder_that_two_formats_recognise_needs_to_be_told(tmp_path):
    example("datasets", "video_folder")(tmp_path / "datasets", EPISODES)
    example("datasets", "lerobot")(tmp_path / "other", EPISODES)
    shutil.copytree(tmp_path / "other" / "meta", tmp_path / "datasets" / "meta")
    for table in (tmp_path / "datasets" / "meta").rglob("*.parquet"):
        table.unlink()
    with pytest.raises(UserError, match=r"like lerobot and like video_folder; .*--format"):
        guess_format(tmp_path / "datasets")
    assert len(open_any(tmp_path / "datasets", "video_folder")) == len(EPISODES)
