"""What a user can do wrong at the command line: one line that says what is right, exit code 2, nothing half done.

What single parts refuse is tested beside their own tests; here is what only a whole command can show.
"""

import json
import os
import shutil
import signal
import sys
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.disk import full_disk
from tests.processes import living, running, soon, wait_until
from tests.small import SIZE, small_model, write_data

from videopolicy import checkpoint as checkpoints
from videopolicy.checkpoint import Provenance, save
from videopolicy.cli.main import main
from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.datasets.lerobot.writer import Writer

pytestmark = pytest.mark.slow

ROWS = spec.DATA.format(chunk_index=0, file_index=0)
EPISODES = spec.EPISODES.format(chunk_index=0, file_index=0)
VIDEO = spec.VIDEO.format(video_key="observation.images.top", chunk_index=0, file_index=0)
HUGE = str(10**30)


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A data set, a checkpoint that fits it, and an image; nobody may change them."""
    folder = tmp_path_factory.mktemp("given")
    write_data(folder / "data", episodes=2)
    save(small_model(), Provenance("joint", 1, instructions=("reach the red disc",)), folder / "run" / "checkpoint")
    Image.fromarray(np.zeros((SIZE, SIZE, 3), np.uint8)).save(folder / "now.png")
    return folder


@pytest.fixture
def commands(given, tmp_path):
    """Every verb with all that it needs; what is written goes to OUT, which does not exist yet."""
    checkpoint, out = ["--checkpoint", str(given / "run" / "checkpoint")], ["--out", str(tmp_path / "out")]
    start = ["--init", str(given / "run" / "checkpoint"), "--batch-size", "2", "--steps", "2"]
    env = ["--env", "pointmass", "--task", "reach-red", "--workers", "1"]
    image = ["--image", str(given / "now.png"), "--instruction", "reach the red disc"]
    return {
        "record": ["record", *env, "--episodes", "2", "--size", "32", *out],
        "train": ["train", "--data", str(given / "data"), *start, *out],
        "evaluate": ["evaluate", *checkpoint, *env, "--episodes", "2", "--record", "1", *out],
        "imagine": ["imagine", *checkpoint, *image, *out],
        "bench": ["bench", *checkpoint, "--repeats", "1"],
        "report": ["report", str(given / "run"), *out],
        "demo": ["demo", *out],
    }


def refused(capsys, command) -> str:
    """The one line of a command that is refused."""
    with pytest.raises(SystemExit) as ending:
        main([*map(str, command)])
    assert ending.value.code == 2
    # A bar may stand before it, on a line that ends with a carriage return.
    said = capsys.readouterr().err.replace("\r", "\n").splitlines()
    (line,) = (text for text in said if text.strip() and "%|" not in text)
    assert line.startswith("videopolicy: ")
    return line


NUMBERS = [
    ("record", ["--noise", "inf"], "--noise is inf; it must be from 0"),
    ("record", ["--steps", HUGE], f"--steps is {HUGE}; it must be from 1"),
    ("record", ["--seed", "-1"], "--seed is -1; it must be from 0"),
    ("record", ["--workers", "0"], "--workers is 0; it must be from 1"),
    ("record", ["--workers", "100000"], "--workers is 100000; it must be from 1"),
    ("record", ["--seed", "999990", "--episodes", "50"], "kept for evaluation; begin with a lower one"),
    ("record", ["--task", "reach-red", "reach-red"], "name at least one task, and each one once"),
    ("train", ["--minutes", "nan"], "--minutes is nan; it must be from 0.001"),
    ("train", ["--minutes", "inf"], "--minutes is inf; it must be from 0.001"),
    ("train", ["--batch-size", HUGE], f"--batch-size is {HUGE}; it must be from 1 to 65536"),
    ("train", ["--seed", "-1"], "--seed is -1; it must be from 0"),
    ("train", ["--log-every", "0"], "--log-every is 0; it must be from 1"),
    ("train", ["--validation-episodes", "-1"], "--validation-episodes is -1; it must be from 0"),
    ("train", ["--track", "wandbb"], "no tracker 'wandbb'; did you mean 'wandb'"),
    ("evaluate", ["--episodes", HUGE], f"episodes is {HUGE}; it must be from 1 to 100000"),
    ("evaluate", ["--record", "-1"], "record is -1; it must be from 0"),
    ("evaluate", ["--workers", HUGE], f"--workers is {HUGE}; it must be from 1"),
    ("evaluate", ["--workers", "1000000"], "--workers is 1000000; it must be from 1 to"),
    ("evaluate", ["--timeout", "nan"], "--timeout is nan; it must be from 1"),
    ("evaluate", ["--latency", "-1"], "--latency is -1; it must be from 0"),
    ("evaluate", ["--seed", "-1"], "--seed is -1; it must be from 0"),
    ("evaluate", ["--out", ""], "the text after --out is empty; leave both out"),
    ("evaluate", ["--out="], "--out= is empty; leave it out"),
    ("record", ["--size", "100000"], "an image is 8 to 1024 pixels on each side, not 100000"),
    ("record", ["--size", "1024", "--steps", "1000000"], "--size 1024 needs at least 6,291 GB of memory"),
    ("train", ["--accumulate", "3"], "a batch of 2 clips cannot be divided in 3 parts"),
    ("train", ["--lr", "1e308"], "--lr is 1e+308; it must be from 0 to 1e+30"),
    ("train", ["--max-grad-norm", "0"], "--max-grad-norm is 0.0; it must be from 1e-09"),
    ("train", ["--out", " "], "the text after --out is empty; leave both out"),
    ("train", ["--data", "", "--views", "top"], "the text after --data is empty; leave both out"),
    ("imagine", ["--instruction", ""], "the text after --instruction is empty; leave both out"),
    ("evaluate", ["--steps", HUGE], f"sampling.steps is {HUGE}; it must be from 1 to 1000"),
    ("imagine", ["--steps", HUGE], f"sampling.steps is {HUGE}; it must be from 1 to 1000"),
    ("bench", ["--steps", HUGE], f"sampling.steps is {HUGE}; it must be from 1 to 1000"),
    ("bench", ["--repeats", HUGE], f"--repeats is {HUGE}; it must be from 1"),
    ("demo", ["--minutes", "nan"], "--minutes is nan; it must be from"),
    ("demo", ["--minutes", "0"], "--minutes is 0.0; it must be from"),
    ("demo", ["--episodes", "0"], "--episodes is 0; it must be from 1"),
    ("demo", ["--demonstrations", "0"], "--demonstrations is 0; it must be from 1"),
    ("demo", ["--seed", "100"], "--seed is 100; it must be from 0 to 99"),
]


@pytest.mark.parametrize(
    ("verb", "more", "said"), NUMBERS, ids=[f"{verb} {' '.join(more)}" for verb, more, _ in NUMBERS]
)
def test_a_number_that_makes_no_sense_is_refused_before_anything_is_done(verb, more, said, commands, tmp_path, capsys):
    assert said in refused(capsys, [*commands[verb], *more])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verb", ["evaluate", "imagine", "bench", "train"])
def test_a_checkpoint_that_was_altered_is_refused_by_every_verb(verb, given, commands, tmp_path, capsys):
    altered = shutil.copytree(given / "run" / "checkpoint", tmp_path / "altered")
    (altered / "statistics.json").write_text("null", encoding="utf-8")
    option = "--init" if verb == "train" else "--checkpoint"
    assert "statistics.json: not the file that was saved" in refused(capsys, [*commands[verb], option, altered])
    assert not (tmp_path / "out").exists()


def test_an_unknown_task_of_many_is_one_line_with_the_nearest(commands, tmp_path, capsys):
    line = refused(capsys, ["record", "--task", "button-pres-v3", "--out", tmp_path / "out"])
    assert line.startswith(
        "videopolicy: no task 'button-pres-v3'; did you mean 'button-press-v3'? known: assembly-v3, "
    )
    assert "no task 'reach-rod'; did you mean 'reach-red'?" in refused(
        capsys, [*commands["evaluate"], "--task", "reach-rod"]
    )


def test_paths_that_cannot_be_are_refused_by_name(given, commands, tmp_path, capsys):
    (tmp_path / "file").touch()
    for verb in ("record", "train", "evaluate", "imagine", "demo"):
        for out in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("long" * 100)):
            assert str(tmp_path) in refused(capsys, [*commands[verb], "--out", out])
    assert "is a folder; name a file" in refused(capsys, [*commands["bench"], "--json", tmp_path])
    assert "give the folder that it is in" in refused(capsys, [*commands["train"], "--data", given / "now.png"])
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_run_never_replaces_another_runs_checkpoint_nor_lands_in_a_data_set(given, commands, tmp_path, capsys):
    train = commands["train"][:-1]
    fresh = [*train[: train.index("--init")], "--out"]
    assert "would be replaced; choose another --out" in refused(capsys, [*fresh, given / "run"])
    assert f"holds {given / 'run' / 'checkpoint'}, which is read" in refused(capsys, [*train, given / "run"])
    assert "is what is read; name a place outside" in refused(capsys, [*train, given / "data"])
    assert "is what is read; name a place outside" in refused(capsys, [*train, given / "run" / "checkpoint"])
    assert sorted(path.name for path in (given / "run").iterdir()) == ["checkpoint"]


def test_a_run_that_saved_no_state_is_begun_again_not_resumed(commands, tmp_path, capsys):
    """What a disk that fills while the first state is written leaves behind."""
    (tmp_path / "out" / "state").mkdir(parents=True)
    assert "holds no run to go on with; leave --resume out" in refused(capsys, [*commands["train"], "--resume"])
    main(commands["train"])


@pytest.mark.parametrize("instruction", ["赤い円に 行け", "🤖", "r\u0301each\nthe red \u202edisc"])
def test_an_instruction_in_any_script_will_do(instruction, commands, tmp_path):
    main([*commands["imagine"], "--instruction", instruction])
    assert json.loads((tmp_path / "out" / "plan.json").read_text(encoding="utf-8"))["instruction"] == instruction


def test_an_instruction_of_too_many_words_is_refused_not_cut(commands, tmp_path, capsys):
    line = refused(capsys, [*commands["imagine"], "--instruction", "reach the\n" + "very " * 50 + "red disc"])
    assert "has 54 words, but the text encoder holds 4; shorten it" in line
    assert not (tmp_path / "out" / "plan.json").exists()


# Data sets: each damage is what somebody's converter, download or disk has done.


def edit_info(data, **entries):
    info = json.loads((data / spec.INFO).read_text(encoding="utf-8"))
    features = info["features"] | entries.pop("features", {})
    (data / spec.INFO).write_text(json.dumps(info | {"features": features} | entries), encoding="utf-8")


def edit_column(data, file, name, values):
    table = pq.read_table(data / file)
    column = pa.array([values(i) for i in range(len(table))])
    pq.write_table(table.set_column(table.column_names.index(name), name, column), data / file)


def rewrite(data, change):
    """The same episodes, changed, as a data set of their own."""
    dataset = open_dataset(data)
    episodes = [change(dataset.episode(index)) for index in range(len(dataset))]
    shutil.rmtree(data)
    with Writer(data, 20, tuple(episodes[0].views)) as writer:
        for episode in episodes:
            writer.add(episode)


def shorten(episode):
    views = {view: frames[:4] for view, frames in episode.views.items()}
    return replace(episode, views=views, actions=episode.actions[:4], states=episode.states[:4])


TIMES = "videos/observation.images.top/from_timestamp"
DAMAGES = {
    "video missing": (lambda data: (data / VIDEO).unlink(), "mp4: no such video file"),
    "video cut": (lambda data: os.truncate(data / VIDEO, 900), "mp4: not a readable video; the file is cut short"),
    "rows missing": (lambda data: (data / ROWS).unlink(), "parquet: no such file, but the data set needs it"),
    "rows cut": (lambda data: os.truncate(data / ROWS, 900), "parquet: not a readable parquet file"),
    "infinite": (lambda data: edit_column(data, ROWS, "action", lambda i: [0.0, float("inf")]), "is NaN or infinite"),
    "no numbers": (lambda data: edit_column(data, ROWS, "action", lambda i: "left"), "episode 0 is not as"),
    "ragged": (lambda data: edit_column(data, ROWS, "action", lambda i: [0.0] * (2 - i % 2)), "different widths"),
    "rows wider": (lambda data: edit_column(data, ROWS, "action", lambda i: [0.0] * 4), "4 wide, the checkpoint's 2"),
    "info a folder": (
        lambda data: ((data / spec.INFO).unlink(), (data / spec.INFO).mkdir()),
        "holds no data set of a known format",
    ),
    "no rate": (lambda data: edit_info(data, fps=None), "fps is null; it must be a number above 0"),
    "other views": (lambda data: rewrite(data, lambda e: replace(e, views={"front": e.views["top"]})), "known: front"),
    "wider actions": (
        lambda data: rewrite(data, lambda e: replace(e, actions=np.hstack([e.actions] * 2))),
        "actions are 4 wide, the checkpoint's 2",
    ),
    "short episodes": (lambda data: rewrite(data, shorten), "but a clip spans 8"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_data_set_that_is_damaged_or_does_not_fit_never_trains(damage, given, commands, tmp_path, capsys):
    data = shutil.copytree(given / "data", tmp_path / "data")
    change, said = DAMAGES[damage]
    change(data)
    assert said in refused(capsys, [*commands["train"], "--data", data])
    assert not (tmp_path / "out" / "checkpoint").exists()


MENDED = {
    "episodes cut": (lambda data: os.truncate(data / EPISODES, 900), "parquet: not a readable parquet file"),
    "no episodes": (lambda data: (data / EPISODES).unlink(), "no parquet file lists episodes"),
    "NaN": (
        lambda data: edit_column(data, ROWS, "action", lambda i: [0.0, float("nan") if i == 5 else 0.0]),
        "action of episode 0, step 5, is NaN or infinite",
    ),
    "no time": (lambda data: edit_column(data, EPISODES, TIMES, lambda i: float("nan")), "is not said"),
    "odd path": (lambda data: edit_info(data, data_path="{nowhere}"), "which names no file"),
    "odd feature": (lambda data: edit_info(data, features={"action": {}}), "is not described by a dtype and a shape"),
}


@pytest.mark.parametrize("damage", MENDED)
def test_what_can_be_read_of_a_damaged_data_set_trains_and_is_told(damage, given, commands, tmp_path, capsys):
    data = shutil.copytree(given / "data", tmp_path / "data")
    change, said = MENDED[damage]
    change(data)
    main([*commands["train"], "--data", str(data)])
    assert said in capsys.readouterr().out
    assert (tmp_path / "out" / "checkpoint" / "model.safetensors").is_file()
    assert said in refused(capsys, [*commands["train"], "--data", data, "--strict", "--out", tmp_path / "other"])


# A full disk.


@pytest.mark.parametrize("size", [200, 100_000], ids=["cache", "checkpoint"])
def test_a_disk_that_fills_while_training_leaves_no_checkpoint_or_a_whole_one(size, commands, tmp_path, capsys):
    with full_disk(size):
        line = refused(capsys, commands["train"])
    assert f"{tmp_path / 'out'}/" in line
    assert "File too large; make room" in line or "cannot be written (" in line
    assert not (tmp_path / "out" / "checkpoint").exists()
    main(commands["train"])
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".cache")]
    # The next time it fills, what was saved stays.
    with full_disk(size):
        refused(capsys, [*commands["train"], "--steps", "4", "--resume"])
    assert checkpoints.load(tmp_path / "out" / "checkpoint")[1].steps == 2
    main([*commands["train"], "--steps", "4", "--resume"])


def test_a_disk_that_fills_while_evaluating_is_one_line_and_the_same_command_goes_on(commands, tmp_path, capsys):
    # The env's own process writes the recording, and is the first to notice.
    with full_disk(2_000):
        assert "File too large; make room, then give the same command again" in refused(capsys, commands["evaluate"])
    out = tmp_path / "out"
    assert not list((out / "recordings").iterdir())
    main(commands["evaluate"])
    assert len((out / "results.jsonl").read_text(encoding="utf-8").splitlines()) == 2
    assert (out / "recordings" / "reach-red-0" / "plans.json").is_file()


# Ends that nobody waited for. Each in a session of its own, so that no process of it can hide.


def start(*command, **options):
    return running(sys.executable, "-m", "videopolicy", *command, **options)


def alone(process) -> bool:
    """Whether all that the process started is gone, too."""
    return soon(lambda: not living(process.pid))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_recording_whose_processes_only_begin_ends_in_silence(number, commands, tmp_path):
    with start(*commands["record"], "--episodes", "90000", "--workers", "2") as process:
        # The process that tracks shared resources, and at least one that has not yet imported anything.
        wait_until(lambda: len(living(process.pid)) > 2, process)
        os.killpg(process.pid, signal.SIGINT) if number == signal.SIGINT else process.terminate()
        _, said = process.communicate()
        assert process.returncode == 130
        assert "Traceback" not in said and said.splitlines()[-1] == "videopolicy: interrupted"
        assert alone(process) and not list(tmp_path.iterdir())


def test_the_processes_of_a_killed_recording_end_too(commands, tmp_path):
    with start(*commands["record"], "--episodes", "90000") as process:
        wait_until(lambda: list(tmp_path.iterdir()), process)
        process.kill()
        process.communicate()
        assert alone(process)
        assert not (tmp_path / "out").exists()


def test_an_interrupted_evaluation_ends_in_silence_and_keeps_whole_lines(commands, tmp_path):
    with start(*commands["evaluate"], "--episodes", "90000", "--record", "0") as process:
        results = tmp_path / "out" / "results.jsonl"
        wait_until(results.exists, process)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate()
        assert process.returncode == 130
        assert "Traceback" not in said and said.splitlines()[-1] == "videopolicy: interrupted"
        assert alone(process)
        assert all(json.loads(line)["task"] == "reach-red" for line in results.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("command", [["--help"], ["record", "--help"]])
def test_a_reader_that_has_seen_enough_is_no_error(command):
    reading, writing = os.pipe()
    os.close(reading)
    with start(*command, stdout=writing) as process:
        os.close(writing)
        assert process.communicate()[1] == ""
