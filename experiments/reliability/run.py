"""Commands that are killed, and pairs of the same command at once: is what they leave what one left in peace would?

    python experiments/reliability/run.py                     200 kills and 50 pairs; results.json beside this file
    python experiments/reliability/run.py --kills 8 --pairs 4 --out /tmp/small.json

A command is killed at a random moment between its coming to own its output and the end of an undisturbed one, half of
the times together with the processes that it started; then it is given again, as its documentation says, until it ends
by itself. What it leaves is compared with what the same command leaves undisturbed: weights to the bit, every line of a
log, every episode's row, every frame of every video; and nothing may lie beside it.
"""

import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import tyro

from videopolicy import preset, train
from videopolicy.backbones import unet
from videopolicy.clips.windows import Window
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.heads import unet1d
from videopolicy.heads.adapter import AdapterConfig
from videopolicy.media import read_mp4
from videopolicy.rollout.results import read_evaluation, timeless

HERE = Path(__file__).parent
# Below 64 pixels x264 need not give the same bytes twice.
SIZE = 64
# What the second of two is told, depending on how far the first one is.
REFUSALS = re.compile(r"is being written by `videopolicy|exists and is not empty|holds a run already")
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1"}
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
        resume = ["--resume"] if self.verb == "train" and any(out.glob("state/state-*")) else []
        return [sys.executable, "-m", "videopolicy", self.verb, *self.words(out), *resume]


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


def prepare(work: Path) -> list[Job]:
    """The data set and the checkpoint that the jobs read, and the jobs."""
    env = ["--env", "pointmass", "--task", "reach-red", "--workers", "1"]
    size = ["--size", str(SIZE)]
    data, few, start = work / "data", work / "few", work / "start"
    # Two parts of a conversion; and as little as can be trained on.
    for folder, episodes in ((data, 11), (few, 2)):
        words = ["record", *env, *size, "--episodes", str(episodes), "--out", str(folder)]
        subprocess.run(
            [sys.executable, "-m", "videopolicy", *words], check=True, env=ENVIRONMENT, stderr=subprocess.DEVNULL
        )
    recipe = preset("tiny")
    model = replace(
        recipe.model,
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
    init = train(few, model, replace(recipe.training, steps=1, batch_size=2), start)
    steps = ["--batch-size", "2", "--steps", "12", "--save-every", "2", "--log-every", "1", "--validate-every", "5"]
    return [
        Job("train", lambda out: ["--data", str(few), "--init", str(init), *steps, "--out", str(out)], left_by_train),
        Job(
            "evaluate",
            lambda out: ["--checkpoint", str(init), *env, "--episodes", "6", "--record", "2", "--out", str(out)],
            left_by_evaluate,
        ),
        Job("convert", lambda out: [str(data), str(out), "--workers", "1"], left_by_data),
        Job("record", lambda out: [*env, *size, "--episodes", "6", "--out", str(out)], left_by_data),
    ]


def begin(job: Job, out: Path) -> subprocess.Popen[str]:
    """The command, in a session of its own."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(job.command(out), env=ENVIRONMENT, start_new_session=True, **pipes)


def owns(process: subprocess.Popen[str], out: Path) -> bool:
    """Waits until the process owns its output; False if it ended before."""
    lock = out.with_name(f".{out.name}.lock")
    # A file that a killed one left behind is no sign of this one.
    while process.poll() is None:
        try:
            if json.loads(lock.read_text(encoding="utf-8"))["pid"] == process.pid:
                return True
        except (OSError, ValueError):
            pass
        time.sleep(0.005)
    return False


def undisturbed(job: Job, out: Path) -> tuple[Left, float]:
    """What the job leaves in peace, and the seconds for which it owns its output."""
    process = begin(job, out)
    owns(process, out)
    began = time.monotonic()
    said, _ = process.communicate()
    assert process.returncode == 0, said
    return job.left(out), time.monotonic() - began


def killed(job: Job, out: Path, seconds: float, kills: int, chance: random.Random) -> tuple[int, str]:
    """Kills the job so often, or until it is done; then lets it end. How often it was killed, and what went wrong."""
    done = 0
    while True:
        process = begin(job, out)
        last = done == kills
        if not last and owns(process, out):
            try:
                process.wait(chance.uniform(0, seconds))
            except subprocess.TimeoutExpired:
                # Its processes must end by themselves, or end with it.
                (os.killpg if chance.random() < 0.5 else os.kill)(process.pid, signal.SIGKILL)
                process.communicate()
                done += 1
                continue
        said, _ = process.communicate()
        return done, "" if process.returncode == 0 else said.strip().splitlines()[-1]


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


def one_pair(job: Job, right: Left, tally: Tally, out: Path, chance: random.Random) -> None:
    """Begins the same command twice, at nearly the same time."""
    first = begin(job, out)
    time.sleep(chance.choice([0, 0, 0.02, 0.2]))
    both = [(process, process.communicate()[0]) for process in (first, begin(job, out))]
    codes = sorted(process.returncode for process, _ in both)
    refused = [said for process, said in both if process.returncode]
    wrong = difference(job, out, right)
    if codes not in ([0, 2], [0, 0]) or not all(REFUSALS.search(said) for said in refused):
        wrong = f"exit codes {codes}: {' | '.join(said.strip().splitlines()[-1] for said in refused)}"
    tally.one_did_it += codes == [0, 2]
    tally.both_right += codes == [0, 0]
    if wrong:
        tally.wrong.append(f"two at once: {wrong}")
    print(f"{job.verb:9} two at once, exit codes {codes}: {wrong or 'the same'}", flush=True)


def main(
    kills: int = 200,
    pairs: int = 50,
    seed: int = 0,
    out: Annotated[Path, tyro.conf.arg(metavar="FILE")] = HERE / "results.json",
) -> None:
    """Does it all, and writes the table.

    Args:
        kills: in all, over four verbs.
        pairs: likewise.
        seed: of the moments.
        out: where the figures go.
    """
    began = time.monotonic()
    with TemporaryDirectory(prefix="reliability-") as folder:
        work = Path(folder)
        jobs = prepare(work)
        rights, tallies = {}, {}
        for job in jobs:
            rights[job.verb], seconds = undisturbed(job, work / f"{job.verb}-right" / "out")
            tallies[job.verb] = Tally(round(seconds, 2))
        with ThreadPoolExecutor(2) as pool:
            counts = [kills // len(jobs) + (number < kills % len(jobs)) for number in range(len(jobs))]
            doing = [
                pool.submit(all_kills, job, rights[job.verb], tallies[job.verb], count, work, seed + number)
                for number, (job, count) in enumerate(zip(jobs, counts, strict=True))
            ]
            for one in doing:
                one.result()
        chance = random.Random(seed)
        for number in range(pairs):
            job = jobs[number % len(jobs)]
            one_pair(job, rights[job.verb], tallies[job.verb], work / f"pair-{number}" / "out", chance)
    found = {
        "commit": subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=HERE, text=True).strip(),
        "command": " ".join(["python", "experiments/reliability/run.py", *sys.argv[1:]]),
        "cores": os.cpu_count(),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "verbs": {verb: vars(tally) for verb, tally in tallies.items()},
    }
    out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(table(tallies))
    sys.exit(any(tally.wrong for tally in tallies.values()))


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
