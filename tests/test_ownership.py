"""One process at a time owns an output, however the one before it ended."""

import errno
import fcntl
import json
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from tests.processes import running

from videopolicy import ownership
from videopolicy.errors import UserError
from videopolicy.ownership import owned

HOLD = """
import sys, time
from pathlib import Path
from videopolicy.ownership import owned
with owned(Path(sys.argv[1]), "train"):
    print("mine", flush=True)
    time.sleep(600)
"""


@contextmanager
def held(path):
    """Another process that owns the path until it is ended."""
    with running(sys.executable, "-c", HOLD, path, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == "mine\n", process.stderr.read()
        yield process


def own(path, verb="evaluate"):
    with owned(path, verb):
        return "owned"


def content(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_second_is_told_who_holds_it_and_changes_nothing(tmp_path):
    with held(tmp_path / "out") as process:
        about = json.loads((tmp_path / ".out.lock").read_text(encoding="utf-8"))
        assert about | {"since": ""} == {"verb": "train", "pid": process.pid, "host": socket.gethostname(), "since": ""}
        with pytest.raises(UserError) as refusal:
            own(tmp_path / "out")
        assert str(refusal.value) == (
            f"{tmp_path / 'out'} is being written by `videopolicy train` (process {process.pid} on "
            f"{about['host']}, since {about['since']}); wait until it is done, stop it, or name another place"
        )
        assert content(tmp_path) == [".out.lock"]
        assert own(tmp_path / "other") == "owned"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_process_that_is_ended_lets_go(number, tmp_path):
    with held(tmp_path / "out") as process:
        process.send_signal(number)
        process.wait()
        assert content(tmp_path) == [".out.lock"]
        assert own(tmp_path / "out") == "owned"
    assert content(tmp_path) == []


def test_it_is_one_place_by_whatever_name(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "out")
    with held(tmp_path / "link"), pytest.raises(UserError, match="is being written by"):
        own(tmp_path / "sub" / ".." / "out")


def test_a_thread_owns_again_what_it_owns_and_no_other_thread_does(tmp_path):
    with ThreadPoolExecutor(1) as other, owned(tmp_path / "out", "demo"):
        with owned(tmp_path / "out", "train"):
            pass
        # Nothing was let go of at the end of the inner block.
        with pytest.raises(UserError, match="`videopolicy demo`"):
            other.submit(own, tmp_path / "out").result()
    assert content(tmp_path) == []


def test_folders_that_were_made_for_nothing_are_gone_and_others_stay(tmp_path):
    with pytest.raises(UserError, match="no"), owned(tmp_path / "a" / "b" / "out", "train"):
        (tmp_path / "a" / "b" / "out").mkdir()
        raise UserError("no")
    assert content(tmp_path) == []
    (tmp_path / "empty").mkdir()
    with owned(tmp_path / "empty", "train"):
        pass
    with owned(tmp_path / "a" / "out", "train"):
        (tmp_path / "a" / "out").mkdir()
        (tmp_path / "a" / "out" / "file").touch()
    assert content(tmp_path) == ["a", "empty"] and content(tmp_path / "a") == ["out"]


def test_what_a_killed_process_left_half_written_is_removed_and_nothing_else(tmp_path):
    (tmp_path / ".out.123.partial" / "deep").mkdir(parents=True)
    (tmp_path / ".out.4.partial").touch()
    others = [".out.mine.partial", ".outs.123.partial", "out.123.partial"]
    for name in others:
        (tmp_path / name).touch()
    own(tmp_path / "out")
    assert content(tmp_path) == others


def test_where_one_may_write_only_inside_the_lock_is_inside(tmp_path, monkeypatch):
    """As in a container, in which one folder is mounted."""
    (tmp_path / "out").mkdir()
    allowed = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != tmp_path and allowed(path, mode))
    with owned(tmp_path / "out", "train"):
        assert content(tmp_path) == ["out"] and content(tmp_path / "out") == [".lock"]
    assert content(tmp_path / "out") == []


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOTSUP, errno.EINVAL, errno.ENOSYS])
def test_where_files_cannot_be_locked_it_goes_on_with_one_line(number, tmp_path, monkeypatch, capsys):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    ownership._warn.cache_clear()
    monkeypatch.setattr(fcntl, "flock", refuse)
    assert own(tmp_path / "one") == own(tmp_path / "two") == "owned"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: files in {tmp_path} cannot be locked") and "not noticed" in line
    assert content(tmp_path) == []


def test_another_users_file_is_locked_all_the_same(tmp_path, monkeypatch):
    lock = tmp_path / ".out.lock"
    lock.write_text("{}", encoding="utf-8")
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, flags, mode=0o777: opened(path, _reading(path, flags, lock), mode))
    with owned(tmp_path / "out", "train"), lock.open(encoding="utf-8") as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert content(tmp_path) == []


def _reading(path, flags, lock):
    if path == lock and flags & os.O_RDWR:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))
    return flags
