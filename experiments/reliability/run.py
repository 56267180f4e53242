"""Commands that are killed, and pairs of the same command at once: is what they leave what one left in peace would?

    python experiments/reliability/run.py                     200 kills and 50 pairs; results.json beside this file
    python experiments/reliability/run.py --kills 8 --pairs 4 --out small.json

A command is killed at a random moment between its coming to own its output and the end of an undisturbed one, half of
the times together with the processes that it started; then it is given again, as its documentation says, until it ends
by itself. What it leaves is compared with what the same command leaves undisturbed: weights to the bit, every line of a
log, every episode's row, every frame of every video; and nothing may lie beside it.

A command is a process of its own, forked from this one, which has imported everything: else most of the time would go
into imports.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"

import hashlib
import json
import random
import re
import signal
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import torch.utils.tensorboard
import tyro

from videopolicy import registry, train
from videopolicy.backbones import unet
from videopolicy.cli import convert, evaluate, record
from videopolicy.cli import train as training
from videopolicy.cli.main import main as command_line
from videopolicy.clips.windows import Window
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.heads import unet1d
from videopolicy.heads.adapter import AdapterConfig
from videopolicy.media import read_mp4
from videopolicy.presets.tiny import PRESET
from videopolicy.rollout.results import read_evaluation, timeless

# What commands would import, each for itself.
IMPORTED = (convert, evaluate, record, training, torch.utils.tensorboard, registry.module("envs", "pointmass"))
HERE = Path(__file__).parent
# Below 64 pixels x264 need not give the same bytes twice.
SIZE = 64
ENV = ("--env", "pointmass", "--task", "reach-red", "--workers", "1")
PIXELS = ("--size", str(SIZE))
# What the second of two is told, depending on how far the first one is.
REFUSALS = re.compile(r"is being written by `videopolicy|exists and is not empty|holds a run already")
# Digests of everything that a command leaves, by name.
Left = dict[str, Any]


@dataclass(frozen=True)
class Job:
    """A command, and what is compared of what it leaves in its output's folder."""

    verb: str
    words: Callable[[Path], list[str]]
    left: Callable[[Path], Left]

    def command(self, out: Path) -> list[str]:
        """The same command as before, but that a run which has saved something is gone on with."""
        resume = ["--resume"] if self.verb == "train" and any(out.glob("state/step-*")) else []
        return [self.verb, *self.words(out), *resume]


@dataclass
class Tally:
    """What was found of one verb."""

    seconds: float
    kills: int = 0
    finished: int = 0
    one_did_it: int = 0
    both_right: int = 0
    wrong: list[str] = field(default_factory=list)


def digest(values: Iterable[bytes]) -> str:
    """One hash of all."""
    whole = hashlib.sha256()
    for value in values:
        whole.update(hashlib.sha256(value).digest())
    return whole.hexdigest()[:16]


def left_by_train(out: Path) -> Left:
    """The weights, and the log, of which no step may be missing or stand twice."""
    rows = [json.loads(line) for line in (out / "losses.jsonl").read_text(encoding="utf-8").splitlines()]
    return {
        "weights": digest([(out / "checkpoint" / "model.safetensors").read_bytes()]),
        "ranges": digest([(out / "checkpoint" / "statistics.json").read_bytes()]),
        "log": [{name: value for name, value in row.items() if name != "seconds"} for row in rows],
        "states": sorted(path.name for path in (out / "state").iterdir()),
    }


def left_by_evaluate(out: Path) -> Left:
    """Every line of the results, and every recording."""
    lines = (out / "results.jsonl").read_text(encoding="utf-8").splitlines()
    recordings = sorted(path for path in (out / "recordings").rglob("*") if path.is_file())
    return {
        "lines": len(lines),
        "rows": timeless(read_evaluation(out)[1]),
        "recordings": {str(path.relative_to(out)): digest([_shown(path)]) for path in recordings},
    }


def _shown(path: Path) -> bytes:
    return read_mp4(path).tobytes() if path.suffix == ".mp4" else path.read_bytes()


def left_by_data(out: Path) -> Left:
    """Every episode: what it says, its numbers, its frames."""
    dataset = open_dataset(out)
    found: Left = {"files": sorted(str(path.relative_to(out)) for path in out.rglob("*"))}
    for index in range(len(dataset)):
        episode = dataset.episode(index)
        arrays = [episode.actions, episode.states, *episode.views.values()]
        told = f"{episode.instruction} {episode.seed} {sorted(episode.views)}".encode()
        found[f"episode {index}"] = digest([told, *(array.tobytes() for array in arrays if array is not None)])
    return found


class Process:
    """A command that was begun; what it says goes to a file."""

    def __init__(self, run: Callable[[], None], log: Path) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self._log, self.code = log, None
        self.pid = os.fork()
        if not self.pid:
            self._be(run)

    def _be(self, run: Callable[[], None]) -> None:
        """The forked process's whole life: a session of its own."""
        os.setsid()
        said = os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(said, 1)
        os.dup2(said, 2)
        # What it starts in turn need not import this file.
        vars(sys.modules["__main__"]).update(__file__=None, __spec__=None)
        code = 1
        try:
            run()
            code = 0
        except SystemExit as ending:
            code = ending.code
        finally:
            sys.stdout.flush()
            os._exit(code)

    def alive(self) -> bool:
        """Whether it has not ended yet."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.code = os.waitstatus_to_exitcode(status) if pid else None
        return self.code is None

    def wait(self, seconds: float = float("inf")) -> bool:
        """Whether it ends by itself within so many seconds."""
        end = time.monotonic() + seconds
        while self.alive() and time.monotonic() < end:
            time.sleep(0.002)
        return not self.alive()

    @property
    def last_words(self) -> str:
        """The last line that it said."""
        return " ".join(self._log.read_text(encoding="utf-8").strip().splitlines()[-1:])


def prepare(work: Path) -> None:
    """Makes the data sets and the checkpoint that the jobs read."""
    # Two parts of a conversion; and as little as can be trained on.
    for name, episodes in (("data", 11), ("few", 2)):
        command_line(["record", *ENV, *PIXELS, "--episodes", str(episodes), "--out", str(work / name)])
    model = replace(
        PRESET.model,
        views=("top",),
        size=SIZE,
        window=Window(frames=2, stride=2, actions=8),
        backbone=unet.Config(channels=(32, 32), attention=(False, True), id_width=8),
        head=unet1d.Config(
            channels=(16, 32),
            kernel=3,
            time_width=16,
            adapter=AdapterConfig(size=4, tap_channels=8, channels=(16, 8), width=32),
        ),
        execute=4,
    )
    train(work / "few", model, replace(PRESET.training, steps=1, batch_size=2), work / "start")


def jobs_in(work: Path) -> list[Job]:
    """The commands, small enough that they take seconds."""
    data, few, init = str(work / "data"), str(work / "few"), str(work / "start" / "checkpoint")
    often = {"save-every": 2, "log-every": 1, "validate-every": 4, "validation-episodes": 0}
    recipe = {"batch-size": 2, "steps": 8} | often
    steps = [word for name, value in recipe.items() for word in (f"--{name}", str(value))]
    few_episodes = ["--episodes", "4"]
    return [
        Job("train", lambda out: ["--data", few, "--init", init, *steps, "--out", str(out)], left_by_train),
        Job(
            "evaluate",
            lambda out: ["--checkpoint", init, *ENV, *few_episodes, "--record", "1", "--out", str(out)],
            left_by_evaluate,
        ),
        Job("convert", lambda out: [data, str(out), "--workers", "1"], left_by_data),
        Job("record", lambda out: [*ENV, *PIXELS, *few_episodes, "--out", str(out)], left_by_data),
    ]


def begin(job: Job, out: Path, name: str = "log") -> Process:
    """The job's command."""
    words = job.command(out)
    return Process(lambda: command_line(words), out.parent.with_suffix(f".{name}"))


def owns(process: Process, out: Path) -> bool:
    """Waits until the process owns its output; False if it ended before."""
    lock = out.with_name(f".{out.name}.lock")
    while process.alive():
        # A file that a killed one left behind is no sign of this one.
        with suppress(OSError, ValueError):
            if json.loads(lock.read_text(encoding="utf-8"))["pid"] == process.pid:
                return True
        time.sleep(0.002)
    return False


def undisturbed(job: Job, out: Path) -> tuple[Left, float]:
    """What the job leaves in peace, and the seconds for which it owns its output."""
    process = begin(job, out)
    owns(process, out)
    began = time.monotonic()
    process.wait()
    assert process.code == 0, process.last_words
    return job.left(out), time.monotonic() - began


def killed(job: Job, out: Path, seconds: float, kills: int, chance: random.Random) -> tuple[int, str]:
    """Kills the job so often, or until it is done; then lets it end. How often it was killed, and what went wrong."""
    done, process = 0, begin(job, out)
    while done < kills and owns(process, out) and not process.wait(chance.uniform(0, seconds)):
        # Its processes must end by themselves, or end with it.
        (os.killpg if chance.random() < 0.5 else os.kill)(process.pid, signal.SIGKILL)
        process.wait()
        done, process = done + 1, begin(job, out)
    process.wait()
    # Killed when its data set was whole and in its place, it has nothing left to do, and says so.
    there = done and "exists and is not empty" in process.last_words
    return done, "" if process.code == 0 or there else process.last_words


def difference(job: Job, out: Path, right: Left) -> str:
    """In what the job's output is not what it should be; "" if in nothing."""
    try:
        left = job.left(out)
    except Exception as error:  # whatever it is, it is what the experiment looks for
        return f"cannot be read: {error}"
    if differing := [name for name in {**right, **left} if right.get(name) != left.get(name)]:
        return f"other {', '.join(differing)}"
    beside = sorted(path.name for path in out.parent.iterdir() if path != out)
    return f"beside it: {', '.join(beside)}" if beside else ""


def all_kills(job: Job, right: Left, tally: Tally, count: int, work: Path, seed: int) -> None:
    """Kills jobs of one kind until there were so many kills."""
    chance = random.Random(seed)
    while tally.kills < count:
        out = work / f"{job.verb}-{tally.finished}" / "out"
        kills, wrong = killed(job, out, tally.seconds, min(count - tally.kills, 6), chance)
        tally.kills, tally.finished = tally.kills + kills, tally.finished + 1
        if wrong := wrong or difference(job, out, right):
            tally.wrong.append(f"killed {kills} times: {wrong}")
        print(f"{job.verb:9} {tally.kills:3}/{count} kills; this time {kills}: {wrong or 'the same'}", flush=True)


def all_pairs(job: Job, right: Left, tally: Tally, count: int, work: Path, seed: int) -> None:
    """Begins the same command twice, at nearly the same time, so often."""
    chance = random.Random(seed)
    for number in range(count):
        out = work / f"{job.verb}-pair-{number}" / "out"
        first = begin(job, out, "first")
        time.sleep(chance.choice([0, 0, 0.02, 0.2]))
        both = [first, begin(job, out, "second")]
        for process in both:
            process.wait()
        codes = sorted(process.code for process in both)
        refused = [process.last_words for process in both if process.code]
        wrong = difference(job, out, right)
        if codes not in ([0, 2], [0, 0]) or not all(REFUSALS.search(said) for said in refused):
            wrong = f"exit codes {codes}: {' | '.join(refused)}"
        tally.one_did_it += codes == [0, 2]
        tally.both_right += codes == [0, 0]
        if wrong:
            tally.wrong.append(f"two at once: {wrong}")
        print(f"{job.verb:9} two at once, exit codes {codes}: {wrong or 'the same'}", flush=True)


def examine(jobs: list[Job], kills: int, pairs: int, work: Path, seed: int, file: Path) -> None:
    """Does it all with some of the jobs, and writes down what was found."""
    found = {}
    for job in jobs:
        right, seconds = undisturbed(job, work / f"{job.verb}-right" / "out")
        tally = found[job.verb] = Tally(round(seconds, 2))
        all_kills(job, right, tally, kills, work, seed)
        all_pairs(job, right, tally, pairs, work, seed)
    file.write_text(json.dumps({verb: asdict(tally) for verb, tally in found.items()}), encoding="utf-8")


def main(
    kills: int = 200,
    pairs: int = 52,
    seed: int = 0,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = HERE / "results.json",
) -> None:
    """Does it all, and writes the table.

    Args:
        kills: in all, a quarter of them of each verb.
        pairs: likewise.
        seed: of the moments.
        out: where the figures go.
    """
    began = time.monotonic()
    with TemporaryDirectory(prefix="reliability-") as folder:
        work = Path(folder)
        prepared = Process(lambda: prepare(work), work / "prepared.log")
        prepared.wait()
        assert prepared.code == 0, prepared.last_words
        jobs = jobs_in(work)
        shares = [(jobs[::2], work / "0.json"), (jobs[1::2], work / "1.json")]
        # Two at a time, which disturb each other.
        doing = [_forked(examine, *(share, kills // 4, pairs // 4, work, seed, file)) for share, file in shares]
        endings = [os.waitpid(pid, 0)[1] for pid in doing]
        assert not any(endings), "the experiment itself failed"
        read = [json.loads(file.read_text(encoding="utf-8")) for _, file in shares]
    tallies = {verb: Tally(**values) for found in read for verb, values in found.items()}
    found = {
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=HERE, encoding="utf-8").strip(),
        "command": " ".join(["python", "experiments/reliability/run.py", *sys.argv[1:]]),
        "cores": os.cpu_count(),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "verbs": {verb: asdict(tally) for verb, tally in tallies.items()},
    }
    out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(table(tallies))
    sys.exit(any(tally.wrong for tally in tallies.values()))


def _forked(run: Callable[..., None], *arguments: Any) -> int:
    if pid := os.fork():
        return pid
    try:
        run(*arguments)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


def table(tallies: dict[str, Tally]) -> str:
    """A row for each verb."""
    lines = [
        "| verb | seconds undisturbed | kills | commands that ended | pairs: one did it | both ended right | wrong |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for verb, tally in tallies.items():
        figures = (tally.seconds, tally.kills, tally.finished, tally.one_did_it, tally.both_right, len(tally.wrong))
        lines.append(f"| {verb} | {' | '.join(map(str, figures))} |")
    reasons = Counter(f"{verb}: {reason}" for verb, tally in tallies.items() for reason in tally.wrong)
    return "\n".join([*lines, *(f"{count} x {reason}" for reason, count in reasons.items())])


if __name__ == "__main__":
    tyro.cli(main)
