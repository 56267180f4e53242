import errno
import os
from pathlib import Path

import pytest

from videopolicy import durable
from videopolicy.clips.rows import Rows
from videopolicy.durable import replace_folder, sync


@pytest.fixture(autouse=True)
def first_of_its_process(monkeypatch):
    monkeypatch.setattr(durable, "_warned", False)


@pytest.fixture(params=[errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS])
def network_drive(request, monkeypatch):
    def refuse(_):
        raise OSError(request.param, os.strerror(request.param))

    monkeypatch.setattr(os, "fsync", refuse)


def test_what_knows_no_disk_is_warned_of_once(capsys):
    # Devices refuse it as some network drives do.
    for _ in range(2):
        sync(Path("/dev/null"))
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith("note: /dev: ")


def test_on_such_a_drive_folders_take_their_places(network_drive, tmp_path, capsys):
    for text in ("old", "new"):
        (tmp_path / "aside").mkdir()
        (tmp_path / "aside" / "file").write_text(text, encoding="utf-8")
        replace_folder(tmp_path / "aside", tmp_path / "folder")
    assert (tmp_path / "folder" / "file").read_text(encoding="utf-8") == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]
    assert capsys.readouterr().err.count(str(tmp_path / "aside")) == 1


def test_rows_are_flushed_there_too(network_drive, tmp_path, capsys):
    rows = Rows.create(tmp_path / "rows.npy", float, (2,), (1,))
    rows.flush()
    assert f"note: {tmp_path}: " in capsys.readouterr().err


def test_folders_that_cannot_be_opened_are_warned_of(monkeypatch, tmp_path, capsys):
    real = os.open

    def no_folders(path, flags, *rest, **options):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "folders cannot be opened here", str(path))
        return real(path, flags, *rest, **options)

    (tmp_path / "file").touch()
    monkeypatch.setattr(os, "open", no_folders)
    sync(tmp_path)
    assert f"note: {tmp_path}: " in capsys.readouterr().err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_is_an_error_still(monkeypatch, tmp_path, number):
    def fail(_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match=os.strerror(number)) as raised:
        sync(tmp_path)
    assert (raised.value.errno, raised.value.filename) == (number, str(tmp_path))
