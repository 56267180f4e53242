"""The processes that tests start: each is ended by the test that started it, and none is left."""

import multiprocessing
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from uuid import uuid4

# In the environment of all that this process starts, and of what that starts in turn.
MARK, TOKEN = "VIDEOPOLICY_TESTS", uuid4().hex
# Multiprocessing's own servers, which live as long as the process that needs them.
SERVERS = ("multiprocessing.resource_tracker", "multiprocessing.forkserver")
# What was killed takes a moment to be gone, on a busy machine many.
GRACE = 30


def mark_children() -> None:
    """Makes what this process starts known to `left`; tests in a test's own process are marked by both."""
    os.environ[MARK] = f"{os.environ.get(MARK, '')} {TOKEN}"


@contextmanager
def running(*command: str | Path, **options) -> Iterator[subprocess.Popen]:
    """A command in a session of its own, so that a signal can reach all of it, and nothing of it is left afterwards."""
    with subprocess.Popen(
        [*map(str, command)], stderr=subprocess.PIPE, text=True, start_new_session=True, **options, encoding="utf-8"
    ) as process:
        try:
            yield process
        finally:
            for pid in living(process.pid):
                kill(pid)


def line_after(process: subprocess.Popen, start: str) -> str:
    """The first line on standard output that starts so; that is a pipe, as of `running(..., stdout=PIPE)`."""
    assert process.stdout is not None and process.stderr is not None
    for line in process.stdout:
        if line.startswith(start):
            return line.strip()
    raise AssertionError(process.stderr.read())


def living(session: int) -> list[int]:
    """The processes of a session, zombies aside."""
    return [pid for pid, (state, _, _, its) in _processes() if int(its) == session and state != "Z"]


def wait_until(condition: Callable[[], object], process: subprocess.Popen) -> None:
    """Waits for what a running process is to bring about."""
    while not condition():
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.01)


def soon(condition: Callable[[], object]) -> bool:
    """Whether something comes true: at once as a rule, and within half a minute on the busiest machine."""
    deadline = time.monotonic() + GRACE
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return bool(condition())


def left() -> dict[int, str]:
    """Processes that this one started, and that those started, by their commands; multiprocessing's servers aside."""
    found = {child.pid: child.name for child in multiprocessing.active_children()}
    for pid, (state, parent, *_) in _processes():
        command = _read(pid, "cmdline").replace("\0", " ").strip()
        server = int(parent) == os.getpid() and any(name in command for name in SERVERS)
        if pid != os.getpid() and state != "Z" and not server and TOKEN in _read(pid, "environ"):
            found[pid] = command
    return found


def kill(pid: int) -> None:
    """Ends a process on the spot, if it is still there."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _processes() -> Iterator[tuple[int, list[str]]]:
    """Every process here with its state, parent, group and session."""
    for path in Path("/proc").glob("[0-9]*"):
        if stat := _read(int(path.name), "stat"):
            yield int(path.name), stat.rpartition(")")[2].split()[:4]


def _read(pid: int, what: str) -> str:
    """A file about a process; empty if it is gone, or somebody else's."""
    try:
        return Path(f"/proc/{pid}/{what}").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
