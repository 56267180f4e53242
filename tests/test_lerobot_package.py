"""LeRobot's plug-in is described as the rest is; what it does is seen by hand (`tests/interop/lerobot_policy.py`)."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "packages/lerobot"
MODULE = FOLDER / "lerobot_policy_videopolicy"


@pytest.fixture(scope="module")
def own():
    return tomllib.loads((FOLDER / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_it_goes_with_this_version_and_the_tested_lerobot(own):
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    tested = re.search(r"^lerobot==(.+)$", (ROOT / "constraints-lerobot.txt").read_text(encoding="utf-8"), re.MULTILINE)
    assert own["version"] == whole["version"]
    assert f"videopolicy=={whole['version']}" in own["dependencies"]
    assert any(line.startswith(f"lerobot>={tested[1]}") for line in own["dependencies"])


def test_it_declares_what_it_imports(own):
    declared = {re.match(r"[\w-]+", line).group() for line in own["dependencies"]}
    imported = set()
    for file in MODULE.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.partition(".")[0])
    assert imported - sys.stdlib_module_names == declared


def test_lerobot_finds_its_parts_by_their_names(own):
    # `lerobot_policy_` is what LeRobot imports; the rest it derives from the name of the config's class and module.
    assert own["name"] == MODULE.name
    parts = {"configuration": "VideopolicyConfig", "modeling": "VideopolicyPolicy"}
    parts["processor"] = "make_videopolicy_pre_post_processors"
    for part, name in parts.items():
        tree = ast.parse((MODULE / f"{part}_videopolicy.py").read_text(encoding="utf-8"))
        assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
