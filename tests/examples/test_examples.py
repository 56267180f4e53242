"""The examples of the README, as a user runs them."""

import subprocess
import sys
from importlib import util
from pathlib import Path

import pytest
from tests.small import write_data

import videopolicy

pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    spec = util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_policy_is_trained_and_acts(tmp_path, capsys):
    data = write_data(tmp_path / "dots", episodes=2, size=64, steps=36)
    checkpoint = example("train").main(data, tmp_path / "run", steps=2, batch_size=2)
    assert checkpoint == tmp_path / "run" / "checkpoint" and (checkpoint / "model.safetensors").exists()
    line = [sys.executable, str(EXAMPLES / "act.py"), str(checkpoint), "pointmass", "reach-red"]
    done = subprocess.run(line, capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout.strip() in ("success", "no success")


@pytest.mark.parametrize("name", ["act", "train"])
def test_an_example_is_short(name):
    code = [line for line in (EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines() if line.strip()]
    assert len(code) <= 30


@pytest.mark.parametrize("name", dir(videopolicy))
def test_every_public_name_is_there_and_explained(name):
    assert getattr(videopolicy, name).__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nonesuch"):
        _ = videopolicy.nonesuch


def test_importing_the_package_loads_nothing():
    script = "import sys, videopolicy; print([name for name in sys.modules if name.startswith('videopolicy.')])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, encoding="utf-8")
    assert done.stdout.strip() == "[]"
