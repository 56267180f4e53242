"""The client is a package of its own: nothing of the rest, old Pythons, and little to import."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "src/videopolicy/client"
FILES = sorted(FOLDER.glob("*.py"))
ALLOWED = {"numpy", "msgpack", "websockets", *sys.stdlib_module_names}
# Seconds that the package itself may take to load, numpy apart.
IMPORT_SECONDS = 0.3


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_imports_its_neighbours_and_three_libraries(file):
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            assert {alias.name.partition(".")[0] for alias in node.names} <= ALLOWED
        elif isinstance(node, ast.ImportFrom):
            # One dot: by either name of the package, this folder and nothing above it.
            assert node.level == 1 or (not node.level and node.module.partition(".")[0] in ALLOWED)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_is_python_3_9(file):
    source = file.read_text(encoding="utf-8")
    # This refuses what 3.9 cannot read, `match` statements and `except*` included.
    tree = ast.parse(source, feature_version=(3, 9))
    body = [node for node in tree.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert body or "->" not in source


def test_it_loads_under_its_other_name_soon_and_without_the_rest(tmp_path):
    (tmp_path / "videopolicy_client").symlink_to(FOLDER)
    timed = "t = time.thread_time(); import videopolicy_client; print(time.thread_time() - t, *sys.modules)"
    code = f"import sys, numpy, time; {timed}"
    # The fastest of three: on a busy machine the others say more of the machine.
    seconds = []
    for _ in range(3):
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, encoding="utf-8", check=True
        )
        took, *modules = run.stdout.split()
        seconds.append(float(took))
        assert not {"torch", "jaxtyping", "scipy", "PIL", "videopolicy"} & set(modules)
    assert min(seconds) < IMPORT_SECONDS


def test_the_two_descriptions_name_the_same_versions():
    whole = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    own = tomllib.loads((ROOT / "packages/client/pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(whole["optional-dependencies"]["serve"]) <= set(own["dependencies"])
    assert own["version"] == whole["version"]
    assert {line.partition(">")[0] for line in own["dependencies"]} == {"numpy", "msgpack", "websockets"}
