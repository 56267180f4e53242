"""Damaged data sets: every case is an error that names a place in the data set, or data that is complete."""

import json
import os
import re
import shutil
from dataclasses import replace
from io import BytesIO
from multiprocessing import get_context

import numpy as np
import pytest
from PIL import Image
from tests.datasets.lerobot.old_format import to_old
from tests.datasets.lerobot.test_foreign import with_pictures
from tests.datasets.lerobot.test_lerobot import episode, write

from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.errors import UserError

pytestmark = pytest.mark.slow

LENGTHS = (5, 4, 6)
# Of each format. FUZZ_CASES gives it more time: thousands have been run.
CASES = int(os.environ.get("FUZZ_CASES", "50"))
# A case takes milliseconds; one that takes this long hangs.
SECONDS = 60


def with_pngs(path):
    stored = []
    for frame in np.random.default_rng(0).integers(0, 256, (sum(LENGTHS), 16, 16, 3), np.uint8):
        Image.fromarray(frame).save(stream := BytesIO(), "PNG")
        stored.append({"bytes": stream.getvalue(), "path": "x.png"})
    return with_pictures(path, stored, (16, 16, 3))


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Format -> an undamaged data set in it."""
    folder = tmp_path_factory.mktemp("whole")
    episodes = [episode(n, i, instruction=("press it", "open it")[i % 2]) for i, n in enumerate(LENGTHS)]
    new = write(folder / "v3.0", episodes)
    return {
        "v3.0": new,
        "v2.1": to_old(new, folder / "v2.1"),
        "pictures": with_pngs(write(folder / "pictures", [replace(one) for one in episodes])),
    }


def damage(content, rng):
    """Cut short, bits turned over, a stretch of zeros, or a stretch left out."""
    changed = bytearray(content)
    at = int(rng.integers(len(changed)))
    kind = rng.choice(["cut", "bits", "zeros", "gap"], p=[0.2, 0.5, 0.15, 0.15])
    length = int(rng.integers(1, 64))
    if kind == "cut":
        del changed[at:]
    elif kind == "zeros":
        changed[at : at + length] = bytes(len(changed[at : at + length]))
    elif kind == "gap":
        del changed[at : at + length]
    else:
        for place in rng.integers(len(changed), size=int(rng.integers(1, 6))):
            changed[place] ^= 1 << int(rng.integers(8))
    return bytes(changed), f"{kind} at {at}"


def outcome(path):
    """Reads everything: what is lost or mended is told in one line that names the place, all else is complete."""
    numbers, told = {}, []
    try:
        dataset = open_dataset(path)
    except UserError as error:
        assert_is_a_line(str(error), path)
        return
    for note in dataset.notes:
        assert_is_a_line(str(note), path)
        told += note.episodes
    for index in range(len(dataset)):
        try:
            numbers[dataset.number(index)] = dataset.episode(index)
        except UserError as error:
            assert_is_a_line(str(error), path)
            told.append(dataset.number(index))
    for number, length in enumerate(LENGTHS):
        one = numbers.pop(number, None)
        assert number in told or (one and len(one) == length), f"episode {number} is lost, and nobody says so"
        for values in (one.actions, one.states) if one else ():
            whole = values is not None and values.shape == (len(one), 4) and np.isfinite(values).all()
            assert whole or any(note.kind != "unused" for note in dataset.notes)
        assert one is None or one.views
    assert all(number in told for number in numbers), f"{numbers.keys()} are there, and nobody says so"


def assert_is_a_line(message, path):
    assert "\n" not in message, f"more than one line: {message!r}"
    assert not re.search(r"[A-Z][a-z]+(Error|Exception)|\bErrno\b|<class|Traceback", message), message
    named = str(path) in message or "observation.images" in message or "of several instructions" in message
    assert named, f"does not name a place: {message}"


def run(path, target, seeds, connection):
    """In a process of its own, which a decoder may bring down without taking the tests along."""
    files = sorted(file for file in path.rglob("*") if file.is_file() and "stats" not in file.name)
    for seed in seeds:
        rng = np.random.default_rng(seed)
        file = files[seed % len(files)].relative_to(path)
        content, how = damage((path / file).read_bytes(), rng)
        connection.send(f"seed {seed}, {file}, {how}")
        shutil.copytree(path, target)
        (target / file).write_bytes(content)
        try:
            outcome(target)
        except Exception as error:
            connection.send(("failed", f"{type(error).__name__}: {error}"))
        shutil.rmtree(target)
    connection.send(("done", ""))


@pytest.mark.parametrize("name", ["v3.0", "v2.1", "pictures"])
def test_damage_is_told_or_does_no_harm(whole, name, tmp_path):
    context = get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=run, args=(whole[name], tmp_path / "damaged", range(CASES), there))
    process.start()
    there.close()
    failures, case, message = [], "the start", ("", "")
    while message[0] != "done":
        assert here.poll(SECONDS), f"hangs: {case}"
        try:
            message = here.recv()
        except EOFError:
            pytest.fail(f"the process ended at once: {case}")
        if isinstance(message, str):
            case = message
        elif message[0] == "failed":
            failures.append(f"{case}: {message[1]}")
    process.join()
    assert not failures, "\n".join(failures)


def test_the_check_itself_notices_what_is_lost(whole, tmp_path):
    """A data set that is shorter on purpose, and consistent, is no complete one."""
    shutil.copytree(whole["v3.0"], tmp_path / "d")
    outcome(tmp_path / "d")
    short = write(tmp_path / "short", [episode(5, 0), episode(4, 1)])
    with pytest.raises(AssertionError, match="episode 2 is lost, and nobody says so"):
        outcome(short)


@pytest.mark.parametrize("name", ["v3.0", "v2.1"])
def test_a_value_out_of_all_measure_asks_for_no_memory(whole, name, tmp_path):
    """Numbers that would ask for more memory or time than there is."""
    path = tmp_path / "d"
    shutil.copytree(whole[name], path)
    info = json.loads((path / spec.INFO).read_text(encoding="utf-8"))
    action = {"dtype": "float32", "shape": [99999999999], "names": None}
    for change in ({"fps": 1e300}, {"fps": 1e-300}):
        (path / spec.INFO).write_text(json.dumps(info | change), encoding="utf-8")
        with pytest.raises(UserError, match=str(path)):
            open_dataset(path).episode(0)
    (path / spec.INFO).write_text(
        json.dumps(info | {"features": info["features"] | {"action": action}}), encoding="utf-8"
    )
    dataset = open_dataset(path)
    assert dataset.episode(0).actions.shape == (LENGTHS[0], 4)
    assert "the feature 'action' is not read, as no dtype and shape" in str(dataset.notes[0])
