"""Puts the distribution in this folder where Python finds it, as pip would: its package, and beside it its metadata."""

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def install(folder: Path, name: str = "acme-robots", **points: str) -> Path:
    """Writes the distribution into a folder for `PYTHONPATH`.

    Args:
        folder: exists.
        name: of the distribution.
        points: kind -> "NAME = MODULE" of its one entry point; those of its `pyproject.toml` if left out.

    Returns:
        The folder.
    """
    project = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    groups = {f"videopolicy.{kind}": [point] for kind, point in points.items()} or {
        group: [f"{plugin} = {module}" for plugin, module in found.items()]
        for group, found in project["entry-points"].items()
    }
    shutil.copytree(HERE / "acme_robots", folder / "acme_robots", dirs_exist_ok=True)
    about = folder / f"{name.replace('-', '_')}-{project['version']}.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {name}\nVersion: {project['version']}\n", encoding="utf-8"
    )
    lines = [line for group, found in groups.items() for line in (f"[{group}]", *found)]
    (about / "entry_points.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def run(installed: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Python in a process of its own that finds what is installed there."""
    paths = [str(installed), str(ROOT), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    return subprocess.run(
        [sys.executable, *arguments],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        encoding="utf-8",
    )
