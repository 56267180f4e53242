"""The queue of experiments/gpu: done is done, a failure costs one item, and pieces make a checkpoint again."""

import importlib
import json
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.small import small_model

from videopolicy import checkpoint

GPU = Path(__file__).parents[1] / "experiments" / "gpu"
# Writes a row, as an item does, then does as it is told.
ITEM = """
import json, sys, time
rows = sys.argv[sys.argv.index("--rows") + 1]
open(rows, "w").write(json.dumps({"device": "none", "rows": [{"ms": 1.5}]}))
open(__file__ + ".runs", "a").write("x")
"""


@pytest.fixture
def scripts(monkeypatch):
    """Imports a script of experiments/gpu, which finds its neighbours as it does when it is run."""
    before = set(sys.modules)
    for folder in (GPU, GPU / "items"):
        monkeypatch.syspath_prepend(folder)
    yield importlib.import_module
    for name in ("run", "tables", "home", "shared"):
        if name not in before:
            sys.modules.pop(name, None)


@pytest.fixture
def queue(scripts, tmp_path, monkeypatch):
    """A queue of three: one that goes well, one that fails, one that never ends."""
    run = scripts("run")
    monkeypatch.chdir(tmp_path)
    ends = {"good": "", "bad": "raise ValueError('no such thing')", "endless": "time.sleep(1000)"}
    for name, end in ends.items():
        (tmp_path / f"{name}.py").write_text(ITEM + end, encoding="utf-8")
    limits = {"good": 30, "bad": 30, "endless": 2}
    items = [run.Item(name, (str(tmp_path / f"{name}.py"),), name, limits[name], least=1) for name in ends]
    monkeypatch.setattr(run, "QUEUE", tuple(items))
    monkeypatch.setattr(run, "GRACE", 1)

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["run.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            run.main()
        return ended.value.code

    return call


def runs(folder, name):
    return len((folder / f"{name}.py.runs").read_text(encoding="utf-8"))


def test_a_failure_costs_its_item_and_what_is_done_is_not_done_again(queue, tmp_path, capsys):
    assert queue("--out", "out") == 1
    files = {name: tmp_path / "out" / f"{name}.json" for name in ("good", "bad", "endless")}
    found = {name: json.loads(file.read_text(encoding="utf-8")) for name, file in files.items()}
    assert [found[name]["state"] for name in ("good", "bad", "endless")] == ["done", "failed", "failed"]
    assert found["bad"]["error"] == "ValueError: no such thing" and found["endless"]["error"].startswith("stopped")
    assert found["endless"]["rows"] == [{"ms": 1.5}]
    assert "| good | good | done |" in (tmp_path / "out" / "table.md").read_text(encoding="utf-8")
    assert "no such thing" in (tmp_path / "out" / "failed.log").read_text(encoding="utf-8")
    assert queue("good", "bad") == 1
    assert [runs(tmp_path, name) for name in ("good", "bad", "endless")] == [1, 2, 1]
    assert queue("good") == 0 and "good: done before" in capsys.readouterr().out


def test_what_the_time_does_not_suffice_for_is_left(queue, tmp_path, capsys):
    assert queue("--minutes", "0.05") == 0
    assert "left for the next call" in capsys.readouterr().out and not (tmp_path / "good.py.runs").exists()


def test_pieces_make_a_checkpoint_again(scripts, tmp_path):
    home, model = scripts("home"), small_model()
    checkpoint.save(model, checkpoint.Provenance("joint", 0), tmp_path / "checkpoint")
    largest = max(weight.numel() * 2 for weight in model.state_dict().values())
    pieces = home.packed(tmp_path / "checkpoint", tmp_path / "pieces", 2 * largest)
    sizes = [sum(weight.nbytes for weight in load_file(piece).values()) for piece in pieces]
    assert len(pieces) > 1 and max(sizes) <= 2 * largest
    home.join(tmp_path / "joined", pieces)
    before, after = (load_file(tmp_path / name / "model.safetensors") for name in ("checkpoint", "joined"))
    assert before.keys() == after.keys()
    assert all(torch.equal(after[name], before[name].to(after[name].dtype)) for name in before)
    sent = list(home.send(pieces * 8, tmp_path / "out" / "checkpoint"))
    assert len({*home.BESIDE, *(piece.name for piece in sent)}) <= home.FILES
