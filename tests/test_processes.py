import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from contextlib import closing
from itertools import count, islice
from pathlib import Path

import pytest
from tests.processes import running
from tests.small import write_data

from videopolicy.errors import UserError
from videopolicy.processes import ordered_map

pytestmark = pytest.mark.slow


def lost(item, ending):
    return f"{item} is lost ({ending}); fewer --workers need less"


def square(number):
    return number * number


def wait_for(path):
    while not path.exists():
        time.sleep(0.001)


def second_first(item):
    """Item 0 is not done before item 1 is."""
    number, folder = item
    if number == 0:
        wait_for(folder / "1")
    (folder / str(number)).touch()
    return number


class Counter:
    """Knows how often it was called in this process."""

    def __init__(self):
        self.calls = 0

    def __call__(self, _):
        self.calls += 1
        return os.getpid(), self.calls


def die(number):
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def leave(number):
    os._exit(7)


def stay(number, tell):
    tell(os.getpid())
    while True:
        signal.pause()


def fail(error):
    raise error


def count_up(number, tell):
    for value in range(number):
        tell(value)
    return number


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("ahead", [1, 3])
def test_results_come_in_the_order_of_the_items(workers, ahead):
    assert list(ordered_map(square, range(6), workers, lost, ahead=ahead)) == [0, 1, 4, 9, 16, 25]
    assert not multiprocessing.active_children()


def test_no_more_processes_are_started_than_there_are_items():
    with closing(ordered_map(square, [3, 4], 5, lost, ahead=9)) as results:
        assert next(results) == 9
        assert len(multiprocessing.active_children()) == 2
    assert list(ordered_map(square, [], 5, lost, ahead=9)) == []


def test_a_slow_item_holds_up_the_order_and_not_the_work(tmp_path):
    assert list(ordered_map(second_first, [(n, tmp_path) for n in range(4)], 2, lost, ahead=4)) == [0, 1, 2, 3]


def test_no_more_is_begun_than_may_wait():
    asked = []
    endless = (asked.append(number) or number for number in count())
    with closing(ordered_map(square, endless, 2, lost, ahead=3)) as results:
        for taken, result in enumerate(islice(results, 5)):
            assert result == taken**2
            assert len(asked) <= taken + 3
    assert not multiprocessing.active_children()


def test_what_a_function_keeps_lasts_in_its_process():
    found = list(ordered_map(Counter(), range(4), 1, lost, ahead=2))
    assert {pid for pid, _ in found} != {os.getpid()} and len({pid for pid, _ in found}) == 1
    assert [calls for _, calls in found] == [1, 2, 3, 4]


def test_what_is_told_meanwhile_comes_with_its_item_before_its_result():
    told = []
    for result in ordered_map(count_up, (2, 0, 3), 2, lost, ahead=3, tell=lambda *each: told.append(each)):
        assert [value for number, value in told if number == result] == list(range(result))
    assert sorted(told) == [(2, 0), (2, 1), (3, 0), (3, 1), (3, 2)]


@pytest.mark.parametrize(
    ("function", "message"),
    [(die, r"^3 is lost \(SIGKILL\); fewer --workers need less$"), (leave, r"^0 is lost \(exit code 7\)")],
)
def test_a_process_that_dies_is_the_line_that_says_what_to_do(function, message):
    with pytest.raises(UserError, match=message):
        list(ordered_map(function, range(6), 1, lost, ahead=2))
    assert not multiprocessing.active_children()


def test_one_that_is_killed_while_the_others_work_ends_them_too():
    def kill(_, pid):
        os.kill(pid, signal.SIGKILL)

    with pytest.raises(UserError, match=r"\d is lost \(SIGKILL\)"):
        list(ordered_map(stay, range(3), 2, lost, ahead=3, tell=kill))
    assert not multiprocessing.active_children()


def test_closing_ends_processes_in_the_midst_of_their_work():
    pids = []

    class Enough(Exception):  # noqa: N818
        pass

    def note(_, pid):
        pids.append(pid)
        if len(pids) == 2:
            raise Enough

    with closing(ordered_map(stay, count(), 2, lost, ahead=2, tell=note)) as results, pytest.raises(Enough):
        next(results)
    assert len(set(pids)) == 2 and not multiprocessing.active_children()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (UserError("no such view"), UserError, "^no such view$"),
        (OSError(errno.ENOSPC, "full", "here"), UserError, "^here: .*make room"),
        (ValueError("odd"), RuntimeError, r"(?s)Traceback.*in fail.*ValueError: odd"),
    ],
)
def test_errors_come_back(error, kind, message):
    with pytest.raises(kind, match=message):
        list(ordered_map(fail, [error], 2, lost, ahead=2))
    assert not multiprocessing.active_children()


def test_what_cannot_be_sent_back_is_an_error_and_no_hang():
    with pytest.raises(RuntimeError, match="pickle"):
        list(ordered_map(open, [os.devnull], 1, lost, ahead=1))


ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1] / "src")}


def interruptible(at_start=signal.SIG_DFL):
    """What ends a command by itself, as in a terminal, even where the tests run in the background or under nohup."""
    signal.signal(signal.SIGINT, at_start)
    for number in (signal.SIGHUP, signal.SIGUSR1):
        signal.signal(number, signal.SIG_DFL)


COMMAND = """
import signal, sys
from contextlib import closing
from videopolicy.processes import heed_stop_signals, ordered_map

def stay(item, tell):
    tell(item)
    while True:
        signal.pause()

def told(item, value):
    print(value, flush=True)

if __name__ == "__main__":
    heed_stop_signals()
    try:
        with closing(ordered_map(stay, "ab", 2, lambda *_: "lost", ahead=2, tell=told)) as results:
            next(results)
    except KeyboardInterrupt:
        sys.exit(130)
"""


@pytest.mark.parametrize(
    ("at_start", "sent", "code"),
    [
        (signal.SIG_DFL, signal.SIGINT, 130),
        (signal.SIG_DFL, signal.SIGKILL, -signal.SIGKILL),
        # As a shell without job control starts what is to run in the background.
        (signal.SIG_IGN, signal.SIGTERM, 130),
        (signal.SIG_IGN, signal.SIGKILL, -signal.SIGKILL),
        (signal.SIG_DFL, signal.SIGHUP, 130),
        (signal.SIG_DFL, signal.SIGUSR1, 130),
    ],
)
def test_however_a_command_is_ended_its_processes_end_with_it(tmp_path, at_start, sent, code):
    script = tmp_path / "command.py"
    script.write_text(COMMAND, encoding="utf-8")
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        preexec_fn=lambda: interruptible(at_start),
        encoding="utf-8",
    )
    assert {process.stdout.readline(), process.stdout.readline()} == {"a\n", "b\n"}
    process.send_signal(sent)
    # The processes hold the other end of this pipe too: it ends with the last of them.
    assert process.communicate() == ("", "")
    assert process.returncode == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_what_a_terminal_sends_to_all_processes_is_the_first_ones_to_act_upon(tmp_path, number):
    script = tmp_path / "command.py"
    script.write_text(COMMAND, encoding="utf-8")
    with running(sys.executable, script, stdout=subprocess.PIPE, env=ENVIRONMENT, preexec_fn=interruptible) as process:
        assert {process.stdout.readline(), process.stdout.readline()} == {"a\n", "b\n"}
        # Twice, as a closed terminal and its shell do.
        for _ in range(2 if number == signal.SIGHUP else 1):
            os.killpg(process.pid, number)
        assert process.communicate() == ("", "")
        assert process.returncode == 130


def test_under_nohup_a_closed_terminal_means_nothing(tmp_path):
    script = tmp_path / "command.py"
    script.write_text(COMMAND, encoding="utf-8")
    with running("nohup", sys.executable, script, stdout=subprocess.PIPE, env=ENVIRONMENT) as process:
        assert {process.stdout.readline(), process.stdout.readline()} == {"a\n", "b\n"}
        os.killpg(process.pid, signal.SIGHUP)
        time.sleep(0.3)
        assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        process.communicate()
        assert process.returncode == 130


# Scripts that do their work at their top; DATA is a data set, HERE an empty folder.
UNGUARDED = {
    "record": """
from videopolicy.rollout.demonstrate import DemonstrationJob, record
print(next(record(DemonstrationJob("pointmass", "reach-red", (), 32, 0.0, 16), 0, 2)).task)
""",
    "evaluate": """
from videopolicy.policies.random import make
from videopolicy.rollout.runner import evaluate
from videopolicy.rollout.settings import Settings
evaluate(make("2"), Settings("pointmass", ("reach-red",), episodes=1), HERE / "out", workers=1)
""",
    "build_cache": """
from tests.clips.light import SETTINGS, means
from videopolicy.clips.cache import build_cache
from videopolicy.datasets.lerobot import open_dataset
build_cache(open_dataset(DATA), HERE / "cache", means, workers=2, **SETTINGS)
""",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("data") / "dots", episodes=2)


@pytest.mark.parametrize("what", UNGUARDED)
def test_a_script_without_a_main_guard_is_told_so_in_one_line(tmp_path, data, what):
    script = tmp_path / "mine.py"
    begin = f"from pathlib import Path\nDATA, HERE = Path({str(data)!r}), Path({str(tmp_path)!r})\n"
    body = UNGUARDED[what].replace("\n", "\n    ")
    end = "except UserError as error:\n    print(error)\n"
    script.write_text(f"{begin}from videopolicy.errors import UserError\ntry:\n    {body}\n{end}", encoding="utf-8")
    root = Path(__file__).parents[1]
    paths = os.pathsep.join(map(str, (root, root / "src")))
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert "Traceback" not in done.stderr
    assert done.stdout.startswith(f"{script}: what is started from it runs it anew")
    assert done.stdout.count("\n") == 1
    assert '`if __name__ == "__main__":`' in done.stdout


FIRST_PROCESS = """
import signal
from multiprocessing import get_context

from videopolicy.processes import start


class Seen:
    def __init__(self):
        self.held = None

    def __reduce__(self):
        return arrived, ()


def arrived():
    seen = Seen()
    seen.held = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return seen


def tell(seen):
    print("held" if seen.held else "not held")


if __name__ == "__main__":
    process = get_context("spawn").Process(target=tell, args=(Seen(),))
    start(process)
    process.join()
"""


def test_even_the_first_process_has_interrupts_held_while_it_is_told_what_to_do(tmp_path):
    script = tmp_path / "first.py"
    script.write_text(FIRST_PROCESS, encoding="utf-8")
    said = subprocess.run([sys.executable, script], capture_output=True, text=True, env=ENVIRONMENT, encoding="utf-8")
    assert said.stdout == "held\n", said.stderr
