"""What every process of a world owes the one that started it: to leave Ctrl-C to it, and not to outlive it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

from videopolicy.errors import within

# More than this a core only wait for each other; ten thousand stop the machine.
PROCESSES_PER_CORE = 16


def check_workers(workers: int) -> None:
    """Refuses a number of processes that plays nothing, or stops the machine.

    Raises:
        UserError: says what would be right here.
    """
    within("--workers", workers, 1, PROCESSES_PER_CORE * len(os.sched_getaffinity(0)))


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Within the block, Ctrl-C waits, and the processes that are started inherit that until `belong` is called.

    Without it, one that is still importing would die with a traceback of its own.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def belong() -> None:
    """Called first in the new process: Ctrl-C is the parent's to act upon, and when the parent is gone this ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
