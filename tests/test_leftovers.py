"""What every test relies on that starts a process."""

import os
import signal
import subprocess
import sys

import pytest
from tests import processes

pytestmark = pytest.mark.slow

SLEEP = (sys.executable, "-c", "print(flush=True); import time; time.sleep(600)")
# Starts another process in a session of its own, and ends before it does.
LEAVE = f"from subprocess import *; print(Popen({list(SLEEP)!r}, stdout=DEVNULL, start_new_session=True).pid)"


def test_what_a_test_starts_can_be_interrupted():
    with processes.running(*SLEEP, stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait() == -signal.SIGINT


def test_so_it_can_where_the_suite_itself_ignores_interrupts():
    """As in a shell's background job."""
    ignoring = [
        "sh",
        "-c",
        'trap "" INT; exec "$@"',
        "sh",
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
    ]
    test = f"{__file__}::{test_what_a_test_starts_can_be_interrupted.__name__}"
    done = subprocess.run([*ignoring, test], capture_output=True, text=True, encoding="utf-8")
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout


def test_a_command_leaves_nothing_when_its_test_fails():
    with pytest.raises(AssertionError), processes.running(*SLEEP) as process:
        assert processes.living(process.pid) == [process.pid]
        raise AssertionError
    assert processes.living(process.pid) == []


def test_what_is_left_is_noticed_wherever_it_hides():
    pid = int(subprocess.check_output([sys.executable, "-c", LEAVE], text=True, encoding="utf-8"))
    assert "time.sleep(600)" in processes.left()[pid]
    processes.kill(pid)
    assert processes.soon(lambda: pid not in processes.left())
