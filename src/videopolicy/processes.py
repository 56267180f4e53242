"""What every process owes the one that started it: to leave Ctrl-C to it, and not to outlive it."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import parent_process

from videopolicy.errors import check_range

# More than this a core only wait for each other; ten thousand stop the machine.
PROCESSES_PER_CORE = 16
INTERRUPTS = {signal.SIGINT, signal.SIGTERM}


def check_workers(workers: int) -> None:
    """Refuses a number of processes that plays nothing, or stops the machine.

    Raises:
        UserError: says what would be right here.
    """
    check_range("--workers", workers, 1, PROCESSES_PER_CORE * len(os.sched_getaffinity(0)))


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Within the block, Ctrl-C and SIGTERM wait, and processes that are started inherit that until they `init_child`.

    Without it, one that is still importing, or has been told only half of what to do, would die with a traceback of
    its own.
    """
    held: list[int] = []
    # The mask is what a child inherits. Here it does not do: another thread may be the one that is interrupted.
    before = {number: signal.signal(number, lambda number, _: held.append(number)) for number in _ours()}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in held[:1]:
            signal.raise_signal(number)


def _ours() -> set[signal.Signals]:
    return INTERRUPTS if threading.current_thread() is threading.main_thread() else set()


def init_child() -> None:
    """Called first in the new process: Ctrl-C is the parent's to act upon, and when the parent is gone this ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
