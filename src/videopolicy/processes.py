"""Work over several processes, and what each owes the one that started it: to leave Ctrl-C to it and not outlive it."""

import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing import current_process, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import FrameType
from typing import Any, TypeVar

from videopolicy.errors import UserError, check_range, user_mistake
from videopolicy.processors import processors

# More than this a core only wait for each other; ten thousand stop the machine.
PROCESSES_PER_CORE = 16
# What a closed terminal sends, and SLURM before it ends a job, if the system has them; both may come more than once.
_WARNINGS = {getattr(signal, name) for name in ("SIGHUP", "SIGUSR1") if hasattr(signal, name)}
INTERRUPTS = {signal.SIGINT, signal.SIGTERM, *_WARNINGS}
# How a process ends that was told to start others while it was itself being started; no other end has this code.
_UNGUARDED = 71
# How long an idle process may take to end.
_STOP_SECONDS = 2.0
Item = TypeVar("Item")


def check_workers(workers: int) -> None:
    """Refuses a number of processes that plays nothing, or stops the machine.

    Raises:
        UserError: says what would be right here.
    """
    check_range("--workers", workers, 1, PROCESSES_PER_CORE * processors())


def stop_signals() -> set[signal.Signals]:
    """What asks this process to stop, and is for this thread to act upon.

    A signal that others have a use for is left to them: under `nohup` a closed terminal means nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        return set()
    unused = (signal.SIG_DFL, signal.default_int_handler, _stop_once)
    return {number for number in INTERRUPTS if number not in _WARNINGS or signal.getsignal(number) in unused}


def heed_stop_signals() -> None:
    """From now on each of them is what Ctrl-C is, a KeyboardInterrupt."""
    for number in stop_signals() - {signal.SIGINT}:
        signal.signal(number, _stop_once if number in _WARNINGS else signal.default_int_handler)


def _stop_once(number: int, frame: FrameType | None) -> None:
    """A closed terminal's shell repeats what the system has sent; the tidying up must not be interrupted by that."""
    signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


@contextmanager
def stops_noted(note: Callable[[], None]) -> Iterator[None]:
    """Within the block, a signal to stop only calls this; Ctrl-C and SIGTERM at their second time raise.

    Raises:
        KeyboardInterrupt: the second time.
    """

    def stop(number: int, _: FrameType | None) -> None:
        note()
        if number not in _WARNINGS:
            signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, stop) for number in stop_signals()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_if_unguarded() -> None:
    """Ends a process that a script without a main guard has started: it runs the script anew, which would start more.

    Call it first in what starts processes; `start` in the one that began it all then says what is wrong.
    """
    # What multiprocessing's own refusal, many lines long, goes by.
    if getattr(current_process(), "_inheriting", False):
        os._exit(_UNGUARDED)


def start(process: BaseProcess) -> None:
    """Starts a process, which calls `init_child` first; see `check_guarded` for what it may end by."""
    end_if_unguarded()
    # It is started with the first process otherwise, and lets interrupts through again before that one is.
    resource_tracker.ensure_running()
    with interrupts_held():
        process.start()


def check_guarded(exitcode: int | None) -> None:
    """Refuses a script each of whose processes begins by running the script.

    Args:
        exitcode: of one that `start` has started, and that has ended.

    Raises:
        UserError: names the guard.
    """
    if exitcode == _UNGUARDED:
        script = getattr(sys.modules["__main__"], "__file__", "this script")
        raise UserError(
            f"{script}: what is started from it runs it anew, from its first line; put what it does into a block "
            'that begins with `if __name__ == "__main__":`'
        )


def check_memory(what: str, needed: float) -> None:
    """Refuses what cannot fit into this machine's memory, whoever else is using it, instead of trying.

    Args:
        what: it is, as a user calls it.
        needed: bytes that it takes at the very least.

    Raises:
        UserError: says how much it needs and how much there is.
    """
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise UserError(
            f"{what} needs at least {needed / 1e9:,.0f} GB of memory, and this machine has {there / 1e9:,.0f} GB"
        )


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Within the block, signals to stop wait, and processes that are started inherit that until they `init_child`.

    Without it, one that is still importing, or has been told only half of what to do, would die with a traceback of
    its own.
    """
    held: list[int] = []
    # The mask is what a child inherits. Here it does not do: another thread may be the one that is interrupted.
    before = {number: signal.signal(number, lambda number, _: held.append(number)) for number in stop_signals()}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in held[:1]:
            signal.raise_signal(number)


def init_child() -> None:
    """Called first in the new process: signals to stop are the parent's to act upon; when that is gone, this ends.

    So it does not matter whether the parent itself was started with SIGINT ignored, as a shell starts a job in the
    background: however a command is ended, its processes end with it.
    """
    # A terminal sends its own to all processes of a command; SIGTERM is meant for the one that it is sent to.
    for number in INTERRUPTS - {signal.SIGTERM}:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)
    threading.Thread(target=_end_with_the_parent, daemon=True).start()


def _end_with_the_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@dataclass(frozen=True)
class _Progress:
    value: Any


@dataclass(frozen=True)
class _Done:
    value: Any


@dataclass(frozen=True)
class _Failed:
    message: str
    kind: type[Exception]


def ordered_map(
    function: Callable[..., Any],
    items: Iterable[Item],
    workers: int,
    lost: Callable[[Item, str], str],
    *,
    ahead: int,
    tell: Callable[[Item, Any], None] | None = None,
) -> Generator[Any, None, None]:
    """What a function makes of each item, in the items' order, made by other processes.

    Each process is sent the function once, and what the function keeps for itself lasts from item to item. Close the
    iterator to end the processes at once, whatever they are doing.

    Args:
        function: called with an item, and with `tell` also with a function of one argument that passes a value on to
            it; both it and the items are pickled.
        items: what to do; taken as they are begun, so there may be no end of them.
        workers: processes, started as there is work for them.
        lost: the line for the user when a process has died: given its item, and how it ended ("SIGKILL").
        ahead: items that are begun or done, and not yet taken from here, at most; bounds the memory.
        tell: called here, with an item and a value, while that item is being worked on.

    Raises:
        UserError: what `function` raised, of the same class; what the operating system refused it; or a process died.
        RuntimeError: any other error of `function`, with its traceback.
    """
    end_if_unguarded()
    todo, results = enumerate(items), {}
    children: list[_Child] = []
    begun = taken = 0
    at_once = True
    try:
        while True:
            while begun < taken + ahead and sum(child.busy for child in children) < workers:
                if (numbered := next(todo, None)) is None:
                    break
                if all(child.busy for child in children):
                    children.append(_Child(function, tell is not None))
                next(child for child in children if not child.busy).give(*numbered)
                begun += 1
            there = taken in results
            if there:
                yield results.pop(taken)
                taken += 1
            elif taken == begun:
                break
            # Whoever has something to say is heard, but waited for only if there was nothing to hand on.
            for child in _ready([child for child in children if child.busy], 0 if there else None):
                child.hear(results, lost, tell)
        at_once = False
    finally:
        # All are told before any is waited for.
        for child in children:
            child.end(at_once)
        for child in children:
            child.wait()


def _ready(children: "list[_Child]", seconds: float | None) -> "list[_Child]":
    connections = wait([child.connection for child in children], seconds)
    return [child for child in children if child.connection in connections]


class _Child:
    """This process's end of another one; see `ordered_map`."""

    def __init__(self, function: Callable[..., Any], tells: bool) -> None:
        # Spawned, not forked: neither rendering contexts nor the threads of PyAV, pyarrow and torch survive a fork.
        context = get_context("spawn")
        self.connection, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(other, function, tells), daemon=True)
        start(self._process)
        # Only without this copy does the process's end show as the end of the pipe.
        other.close()
        self.busy = False
        self._number, self._item = 0, None

    def give(self, number: int, item: Any) -> None:
        self._number, self._item, self.busy = number, item, True
        # One that is gone already is found out when it is listened to.
        with suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send(item)

    def hear(
        self, results: dict[int, Any], lost: Callable[[Any, str], str], tell: Callable[[Any, Any], None] | None
    ) -> None:
        """Takes in one message, for which it waits."""
        try:
            said = self.connection.recv()
        except (EOFError, OSError) as error:
            ending = self._ending()
            check_guarded(self._process.exitcode)
            raise UserError(lost(self._item, ending)) from error
        if isinstance(said, _Failed):
            raise said.kind(said.message)
        if isinstance(said, _Done):
            results[self._number], self.busy = said.value, False
        elif tell:
            tell(self._item, said.value)

    def end(self, at_once: bool) -> None:
        self.connection.close()
        if at_once:
            self._process.kill()

    def wait(self) -> None:
        self._process.join(_STOP_SECONDS)
        self._process.kill()
        self._process.join()

    def _ending(self) -> str:
        self._process.join()
        code = self._process.exitcode or 0
        return signal.Signals(-code).name if code < 0 else f"exit code {code}"


def _serve(connection: Connection, function: Callable[..., Any], tells: bool) -> None:
    """The other process: works on what it is given until the pipe ends."""
    init_child()

    def tell(value: Any) -> None:
        connection.send(_Progress(value))

    extra = (tell,) if tells else ()
    # The end of the pipe means that nobody is left to work for.
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        while True:
            item = connection.recv()
            try:
                connection.send(_Done(function(item, *extra)))
            except (BrokenPipeError, ConnectionResetError):
                raise
            # Whatever it was: unheard, the main process would wait for ever.
            except Exception as error:
                connection.send(_failure(error))


def _failure(error: Exception) -> _Failed:
    mistake = user_mistake(error)
    if mistake:
        return _Failed(str(mistake), type(mistake))
    return _Failed("".join(traceback.format_exception(error)), RuntimeError)
