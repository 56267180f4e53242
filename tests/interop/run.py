"""Exchanges data sets with the real `lerobot`, both ways, and writes down how far they agree.

The same of sets that were broken, and then written anew by `videopolicy check --repair`.

    python -m venv LEROBOT        # Python 3.12: pip install "lerobot[dataset]==0.6.1" "torch<2.12"
    python tests/interop/run.py --lerobot LEROBOT/bin/python [--old OLD/bin/python] [--out experiments/interop]

--old is an environment with lerobot 0.3, which writes v2.1 (Python 3.11: pip install "lerobot==0.3.3"). Each of the two
takes 5 GB, so this is no part of the tests. Their decoder, torchcodec, needs the libraries of FFmpeg.
Exits with 1 if anything differs that should not.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import broken
import numpy as np
import scene

from videopolicy import registry
from videopolicy.datasets.lerobot import LeRobot, open_dataset, writer
from videopolicy.datasets.lerobot.spec import view_name
from videopolicy.rollout.demonstrate import record_episode

HERE = Path(__file__).parent
# Mean difference of two decoders' pixels, of 255: each turns YUV into RGB by its own arithmetic.
BOUND = 1.0


@dataclass(frozen=True)
class Result:
    """One data set, read by both sides.

    Attributes:
        data_set: who wrote what.
        decoder: what lerobot decoded it with.
        files: how many hold the rows and the frames.
        episodes: how many, alike on both sides.
        frames: how many, alike on both sides.
        vectors: actions, states and time stamps are the same bits.
        instructions: the same text at every step, or of most steps where this project keeps one an episode.
        pixels: mean difference of the pixels, of 255.
        worst: the greatest of them.
        aligned: every frame is nearer to the other side's frame of its own step than to the ones beside it.
        recorded: actions, states and pictures stored as PNG are the same bits as those handed to the writer; every
            other picture is nearer to the one of its own step than to the ones beside it.
        faults: what does not hold together there: counts, indices, times, statistics, windows of neighbouring steps.
        before: what lerobot made of it before it was repaired; "" of what was not broken.
    """

    data_set: str
    decoder: str
    files: int
    episodes: int
    frames: int
    vectors: bool
    instructions: bool
    pixels: float
    worst: int
    aligned: bool
    recorded: bool
    faults: tuple[str, ...]
    before: str = ""

    @property
    def passed(self) -> bool:
        """Whether nothing differs that should not."""
        same = self.vectors and self.instructions and self.aligned and self.recorded
        return same and self.pixels < BOUND and not self.faults


def main() -> int:
    """Runs every exchange, prints the table, and stores it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lerobot", required=True, help="Python with lerobot >= 0.5")
    parser.add_argument("--old", help="Python with lerobot 0.3, which writes v2.1")
    parser.add_argument("--out", type=Path, help="folder for results.json and README.md")
    arguments = parser.parse_args()
    with TemporaryDirectory() as folder:
        exchanged = exchange(Path(folder), arguments.lerobot, arguments.old)
        repaired = repair_all(Path(folder), arguments.lerobot)
    print(table(exchanged), count("exchanged", exchanged), "", sep="\n")
    print(table(repaired), count("repaired", repaired), sep="\n")
    if arguments.out is not None:
        store(arguments.out, exchanged, repaired, arguments)
    return 0 if all(result.passed for result in exchanged + repaired) else 1


def exchange(folder: Path, new: str, old: str | None) -> list[Result]:
    """Writes on each side, reads on both."""
    results = []
    for task, steps in (("reach-red", writer.STEPS_A_FILE), ("reach-blue", 40)):
        write_own(folder / task, task, steps)
        for backend in ("torchcodec", "pyav"):
            results.append(compare(folder / task, new, backend, f"this project: point mass, {task}, H.264 4:4:4"))
    for python, version_name in ((new, "v3.0"), (old, "v2.1")):
        for kind in ("video", "image") if python else ():
            path = folder / f"{version_name}-{kind}"
            theirs(python, "write", path, kind)
            stored = "AV1" if kind == "video" else "PNG in parquet"
            name = f"lerobot: {version_name}, {stored}"
            results.append(compare(path, python, "torchcodec" if kind == "video" else "pyav", name, scene.recordings()))
    return results


def repair_all(folder: Path, python: str) -> list[Result]:
    """Breaks lerobot's own data sets, has `check` write them anew, and reads the result on both sides."""
    results = []
    for number, case in enumerate(broken.CASES):
        whole, path = folder / f"{case.version}-video", folder / f"broken-{number}"
        if not whole.is_dir():
            continue
        shutil.copytree(whole, path)
        case.change(path)
        mended = path.with_name(f"mended-{number}")
        broken.repair(path, mended, case.options)
        name = f"{case.version}: {case.says}"
        result = compare(mended, python, "torchcodec", name, case.kept(scene.recordings()))
        results.append(replace(result, before=unrepaired(path, python)))
    return results


def unrepaired(path: Path, python: str) -> str:
    """What lerobot makes of a set that is still broken, in words."""
    arrays = path.with_suffix(".npz")
    try:
        theirs(python, "read", path, arrays, "torchcodec")
    except SystemExit:
        return "fails"
    other, made = np.load(arrays), scene.recordings()
    lengths = np.bincount(other["episode_index"]).tolist()
    if lengths != list(scene.LENGTHS):
        return f"reads episodes of {', '.join(map(str, lengths))} steps"
    whole = {key: np.concatenate([one.views[key] for one in made]) for key in scene.VIEWS}
    right = all(aligned(other[key], frames, other["episode_index"]) for key, frames in whole.items())
    return "; ".join([*([] if right else ["other pictures"]), *map(str, other["faults"])]) or "reads it"


def write_own(path: Path, task: str, steps_a_file: int) -> None:
    """Four demonstrations of the point-mass env, as `videopolicy record` writes them."""
    writer.STEPS_A_FILE = steps_a_file
    env = registry.build("envs", "pointmass", task, size=64)
    layout, state = env.action_layout, env.state_layout
    with writer.Writer(path, env.fps, env.views, action_layout=layout, state_layout=state) as recorded:
        for seed in range(4):
            recorded.add(record_episode(env, seed, 0.1, 20 + 5 * seed))


def compare(path: Path, python: str, backend: str, name: str, recordings: list | None = None) -> Result:
    """Reads one data set on both sides."""
    arrays = path.with_suffix(".npz")
    theirs(python, "read", path, arrays, backend)
    other, dataset = np.load(arrays), open_dataset(path)
    episodes = [dataset.episode(index) for index in range(len(dataset))]
    numbers = other["episode_index"]
    assert int(other["episodes"]) == len(dataset), f"{name}: {other['episodes']} episodes, {len(dataset)} here"
    lengths = np.bincount(numbers).tolist()
    assert lengths == [len(episode) for episode in episodes], f"{name}: lengths {lengths} differ"
    actions, states = (np.concatenate([getattr(one, kind) for one in episodes]) for kind in ("actions", "states"))
    times = np.concatenate([np.arange(len(one), dtype=np.float32) / np.float32(dataset.fps) for one in episodes])
    same = (actions == other["action"]).all() and (states == other["observation.state"]).all()
    frames = {key: np.concatenate([one.views[view] for one in episodes]) for view, key in keys(dataset, other).items()}
    distance = {key: np.abs(values.astype(int) - other[key]) for key, values in frames.items()}
    return Result(
        name,
        backend,
        sum(file.suffix in (".parquet", ".mp4") for part in ("data", "videos") for file in (path / part).rglob("*")),
        len(dataset),
        len(numbers),
        bool(same and np.allclose(times, other["timestamp"], atol=1e-5)),
        all(one.instruction == most(other["task"][numbers == number]) for number, one in enumerate(episodes)),
        max(float(one.mean()) for one in distance.values()),
        max(int(one.max()) for one in distance.values()),
        all(aligned(values, other[key], numbers) for key, values in frames.items()),
        recordings is None or as_recorded(episodes, recordings, "PNG" in name),
        tuple(map(str, other["faults"])),
    )


def keys(dataset: LeRobot, other: np.lib.npyio.NpzFile) -> dict[str, str]:
    """View -> what lerobot calls it."""
    found = {view_name(key): key for key in other.files if other[key].ndim == 4}
    assert set(found) == set(dataset.views), f"views {sorted(found)} there, {sorted(dataset.views)} here"
    return found


def most(tasks: np.ndarray) -> str:
    """The instruction of most steps."""
    words, counts = np.unique(tasks, return_counts=True)
    return str(words[counts.argmax()])


def aligned(frames: np.ndarray, other: np.ndarray, numbers: np.ndarray) -> bool:
    """Whether no frame fits better one step earlier or later in its episode."""
    apart = (numbers[1:] == numbers[:-1]) & (np.abs(other[1:].astype(int) - other[:-1]).mean((1, 2, 3)) > BOUND)
    own = np.abs(frames.astype(int) - other).mean((1, 2, 3))
    late = np.abs(frames[1:].astype(int) - other[:-1]).mean((1, 2, 3))
    early = np.abs(frames[:-1].astype(int) - other[1:]).mean((1, 2, 3))
    return bool(apart.any() and (own[1:] < late)[apart].all() and (own[:-1] < early)[apart].all())


def as_recorded(episodes: list, recordings: list, lossless: bool) -> bool:
    """Whether actions and states are what was handed to the writer, and pictures too, or at least of their steps."""
    for one, made in zip(episodes, recordings, strict=True):
        pairs = [(one.actions, made.vectors["action"]), (one.states, made.vectors["observation.state"])]
        pictures = [(one.views[view_name(key)], frames) for key, frames in made.views.items()]
        if not all(np.array_equal(read, written) for read, written in (pairs + pictures if lossless else pairs)):
            return False
        if not all(aligned(read, written, np.zeros(len(read))) for read, written in pictures):
            return False
    return True


def theirs(python: str, *arguments: object) -> str:
    """Runs the other side, offline; its complaints are shown if it fails."""
    command = [python, str(HERE / "theirs.py"), *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, env=os.environ | {"HF_HUB_OFFLINE": "1"}, encoding="utf-8"
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stderr}")
    return done.stdout


def table(results: list[Result]) -> str:
    """The results in Markdown."""
    heads = ("data set, written by", "decoder there", "files", "episodes", "frames", "vectors and times")
    heads += ("instructions", "pixels (mean, worst)", "aligned", "faults there", "")
    broken_before = any(one.before for one in results)
    heads = heads[:1] + ("lerobot, before",) * broken_before + heads[1:]
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join("---" for _ in heads) + " |"]
    for one in results:
        cells = [one.data_set, *([one.before] * broken_before), one.decoder, one.files, one.episodes, one.frames]
        cells += ["the same" if flag else "DIFFER" for flag in (one.vectors and one.recorded, one.instructions)]
        cells += [f"{one.pixels:.3f}, {one.worst}", "yes" if one.aligned else "NO", "; ".join(one.faults) or "none"]
        lines.append("| " + " | ".join(map(str, cells)) + f" | {'pass' if one.passed else 'FAIL'} |")
    return "\n".join(lines)


def count(kind: str, results: list[Result]) -> str:
    """How many of how many."""
    return f"{kind}: {sum(one.passed for one in results)} of {len(results)}"


def store(out: Path, exchanged: list[Result], repaired: list[Result], arguments: argparse.Namespace) -> None:
    """Writes results.json and README.md."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, encoding="utf-8"
    )
    own = {"python": platform.python_version()} | {name: version(name) for name in ("av", "pyarrow", "numpy")}
    pythons = [python for python in (arguments.lerobot, arguments.old) if python]
    there = [json.loads(theirs(python, "versions")) for python in pythons]
    facts = {"commit": commit.stdout.strip(), "cores": os.cpu_count(), "here": own, "there": there}
    out.mkdir(parents=True, exist_ok=True)
    results = {"exchanged": [asdict(one) for one in exchanged], "repaired": [asdict(one) for one in repaired]}
    (out / "results.json").write_text(json.dumps(facts | results, indent=2) + "\n", encoding="utf-8")
    (out / "README.md").write_text(readme(facts, exchanged, repaired), encoding="utf-8")


def readme(facts: dict, exchanged: list[Result], repaired: list[Result]) -> str:
    """The page of the experiment."""
    sides = [("here", facts["here"]), *((f"lerobot {one['lerobot']}", one) for one in facts["there"])]
    used = "\n".join(f"- {name}: " + ", ".join(f"{k} {v}" for k, v in side.items()) for name, side in sides)
    return f"""# Data sets exchanged with the real `lerobot`

Each data set is read by both sides, step by step, and compared. Pixels may differ by less than {BOUND:g} of 255 on
average, as two decoders turn YUV into RGB by their own arithmetic; PNG must agree exactly. Aligned: every frame is
nearer to the other side's frame of its own step than to the ones beside it. Faults there: counts, indices, time stamps
(within lerobot's tolerance), spans of rows and statistics that do not hold together, or a step and its neighbours that
are others when asked for as a window, as training does.

{table(exchanged)}

**{count("exchanged", exchanged)}.** This project's second data set is cut into several files, and both name their
action layout in info.json, which lerobot leaves alone. Each of lerobot's data sets holds four episodes, where it can in
several small files: cameras of odd names and two sizes, two instructions, one episode that changes from one to the
other on its way.

## Broken, repaired, and opened by `lerobot`

lerobot's own AV1 data sets, broken as public reports say (`tests/interop/broken.py`), written anew by
`videopolicy check BROKEN --repair MENDED`, and then read by lerobot's loader and by this project. Actions and states
must be the recorded bits of the recorded steps, and each picture nearer to the recorded one of its own step than to
those beside it. Before: what lerobot 0.6's loader makes of the broken set; of v2.1 it reads none.

{table(repaired)}

**{count("repaired", repaired)}.**

## How

Commit {facts["commit"]}, {facts["cores"]} cores.

{used}

Versions that lerobot does not ask for were installed beside it by `pip install --no-deps`. Its torchcodec opens
FFmpeg's shared libraries, which pip does not bring: on Debian, `apt-get install libavcodec59 libavformat59
libavutil57 libavfilter8 libswscale6 libswresample4 libavdevice59`. This project needs none of them.

```
python tests/interop/run.py --lerobot LEROBOT/bin/python --old OLD/bin/python --out experiments/interop
```
"""


if __name__ == "__main__":
    sys.exit(main())
