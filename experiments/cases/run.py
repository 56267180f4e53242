"""Makes the broken data sets, checks and converts each, and holds every frame and action against its numbers.

    python -m experiments.cases.run FOLDER          # from the repository's root; FOLDER must not exist

Prints the rows of the table in README.md, and writes results.json beside it. Exits with 1 if anything is wrong.
"""

import io
import json
import os
import platform
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from experiments.cases.cases import CASES, FINE, REFUSED, Case
from experiments.cases.make import STEPS, vectors, words
from tests.test_colours import farthest

from videopolicy.cli.main import main as videopolicy
from videopolicy.datasets.base import Dataset
from videopolicy.datasets.formats import open_any
from videopolicy.datasets.reading import AS_IT_IS, Reading
from videopolicy.errors import UserError
from videopolicy.types import Episode

HERE = Path(__file__).parent
# Mean error of the colour bars, of 255.
COLOURS = 4


@dataclass(frozen=True)
class Outcome:
    """What became of a case.

    Attributes:
        code: with which `check` ended.
        check: what `check` printed, line by line.
        convert: what `convert` printed; () if nothing can be read.
        wrong: what is not as it should be, in words.
    """

    code: int
    check: tuple[str, ...]
    convert: tuple[str, ...]
    wrong: tuple[str, ...]


def outcome(case: Case, folder: Path) -> Outcome:
    """Makes a case in a folder, and tries what a person would."""
    path, target = folder / case.name, folder / f"{case.name}.converted"
    case.make(path)
    options = _options(case.reading)
    code, said = _run("check", str(path), *options)
    wrong = [] if code == case.code else [f"check ended with {code}, not {case.code}"]
    wrong += [] if case.says in "\n".join(said) else [f"check does not say {case.says!r}"]
    if case.code == REFUSED:
        return Outcome(code, said, (), tuple(wrong))
    ended, told = _run("convert", str(path), str(target), *options, *case.options, "--workers", "1")
    wrong += [] if ended == FINE else [f"convert ended with {ended}"]
    if ended == FINE:
        wrong += _wrong(case, open_any(path, reading=case.reading), open_any(target))
    return Outcome(code, said, told, tuple(wrong))


def messages(case: Case, found: Outcome) -> list[str]:
    """What is said of the data, apart from what it holds."""
    lines = [line for line in found.check if line.startswith(("    ", "  not read", "videopolicy:"))]
    return [line.removeprefix("videopolicy:").removeprefix("  not read").strip() for line in lines]


def _options(reading: Reading) -> list[str]:
    """The options of the command line that say the same."""
    options: list[str] = []
    for name, value in asdict(reading).items():
        if value != getattr(AS_IT_IS, name):
            options += [f"--{name.replace('_', '-')}", *([value] if isinstance(value, str) else value)]
    return options


def _run(*arguments: str) -> tuple[int, tuple[str, ...]]:
    """A command's exit code, and what it printed but for its progress."""
    out, error, code = io.StringIO(), io.StringIO(), FINE
    with redirect_stdout(out), redirect_stderr(error):
        try:
            videopolicy(list(arguments))
        except SystemExit as stop:
            code = int(stop.code or 0)
    said = [line for line in error.getvalue().splitlines() if line.startswith("videopolicy:")]
    return code, (*out.getvalue().splitlines(), *said)


def _wrong(case: Case, read: Dataset, converted: Dataset) -> list[str]:
    """What of the frames and actions of a data set, and of what was made of it, is not as it was recorded."""
    if case.name in ("bt709", "full709", "plain"):
        off = [farthest(one.episode(0).views["video"][0]) for one in (read, converted)]
        return [f"colours are {most:.1f} of 255 off" for most in off if most > COLOURS]
    wrong: list[str] = []
    seen = []
    for index in range(len(read)):
        try:
            found = _mistakes(case, read.number(index), read.episode(index)) if not case.options else []
            wrong += found
            seen.append(read.number(index))
        except UserError:
            continue
    kept = [number for number in seen if case.acts in (None, ()) or number in (case.acts or ())]
    wrong += [] if tuple(seen) == case.reads else [f"episodes {seen} are read, not {case.reads}"]
    wrong += [] if len(converted) == len(kept) else [f"{len(converted)} episodes were converted, not {len(kept)}"]
    for index, number in enumerate(kept[: len(converted)]):
        wrong += [f"converted: {mistake}" for mistake in _mistakes(case, number, converted.episode(index))]
    return wrong


def _mistakes(case: Case, number: int, episode: Episode) -> list[str]:
    """What of an episode is not as it was recorded."""
    steps, wrong = case.steps.get(number, STEPS), []
    if set(episode.views) != set(case.views):
        return [f"episode {number} has the views {', '.join(episode.views)}"]
    for view, place in case.views.items():
        expected = np.stack([np.arange(steps) % 256, np.full(steps, number), np.full(steps, place + 1)], 1)
        if not np.array_equal(_numbers(episode.views[view]), expected):
            wrong.append(f"episode {number}: view {view} shows other frames")
    acts = case.acts is None or number in case.acts
    if acts != (episode.actions is not None):
        wrong.append(f"episode {number} has {'no' if acts else 'some'} actions")
    expected = vectors(number, steps)
    if case.name == "outlier" and number == 1:
        expected[57 - STEPS, 3] = 1000
    if episode.actions is not None and not np.array_equal(episode.actions, expected):
        wrong.append(f"episode {number}: other actions")
    if "video" not in case.views and episode.instruction not in (words(number), "打开抽屉"):
        wrong.append(f"episode {number}: {episode.instruction!r}")
    return wrong


def _numbers(frames: np.ndarray) -> np.ndarray:
    """Step, episode and view of each frame, (N, 3)."""
    bits = frames.mean(-1).reshape(len(frames), 8, 8, 8, 8).mean((2, 4))[:, :3] > 170
    return bits @ (1 << np.arange(8))


def _row(case: Case, found: Outcome, folder: Path) -> str:
    """A row of the table."""
    said = [line for line in messages(case, found) if not line.startswith("to do: ")] or ["-"]
    text = "<br>".join(said).replace(f"{folder}/{case.name}/", "").replace(f"{folder}/", "").replace("|", "\\|")
    after = {FINE: "read", REFUSED: "refused"}.get(found.code, "read, but for what is named")
    return f"| {case.number} | {case.what} | {case.before} | {'WRONG' if found.wrong else after} | {text} |"


def main() -> None:
    """Tries all cases."""
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True)
    found = {case.name: outcome(case, folder) for case in CASES}
    print("| case | what is wrong | before | now | what `check` says |\n|---|---|---|---|---|")
    for case in CASES:
        print(_row(case, found[case.name], folder))
    wrong = {name: one.wrong for name, one in found.items() if one.wrong}
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, encoding="utf-8")
    facts = {
        "commit": commit.stdout.strip(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("av", "pyarrow", "h5py", "numpy")},
        "cases": len(CASES),
        "wrong": wrong,
        "outcomes": {
            case.name: {
                "check ends with": found[case.name].code,
                "messages": [line.replace(f"{folder}/", "") for line in messages(case, found[case.name])],
            }
            for case in CASES
        },
    }
    text = json.dumps(facts, indent=1, ensure_ascii=False) + "\n"
    (HERE / "results.json").write_text(text, encoding="utf-8")
    print(
        f"\n{len(CASES) - len(wrong)} of {len(CASES)} right",
        *(f"{name}: {why}" for name, why in wrong.items()),
        sep="\n",
    )
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
