"""How many processors this process may use: the one place that counts them."""

import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path("/")


def processors(root: Path = ROOT) -> int:
    """Processors that this process may keep busy, at least 1.

    Those that the system lets it run on (all of the machine where the system cannot say, as on a Mac), and no more
    than a container's share of processor time, rounded up: 16 threads on a share of 2 wait for most of each second.

    Args:
        root: where the system's files on control groups are looked for.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(share) for share in _shares(root))]))


def threads() -> int:
    """Threads that may compute at the same time: what OMP_NUM_THREADS says, or else one a processor."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(said)) if said.isdigit() else processors()


def _shares(root: Path) -> Iterator[float]:
    """Processors' worth of time, for each control group around this process that has a limit."""
    mounts = root / "sys/fs/cgroup"
    for controllers, group in _groups(root):
        version_1 = "cpu" in controllers.split(",")
        if not version_1 and controllers:
            continue
        # A container may see its own group as the root, whatever the path says; a limit of any group above holds too.
        for inner in (group, *group.parents):
            folder = mounts / ("cpu" if version_1 else ".") / inner.relative_to("/")
            quota, period = _limit_1(folder) if version_1 else _limit_2(folder)
            if quota > 0 and period > 0:
                yield quota / period


def _groups(root: Path) -> Iterator[tuple[str, PurePosixPath]]:
    """The controllers ("" in version 2) and the path of each control group of this process."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        yield controllers, PurePosixPath("/") / path


def _limit_1(folder: Path) -> tuple[float, float]:
    return _number(_read(folder / "cpu.cfs_quota_us")), _number(_read(folder / "cpu.cfs_period_us"))


def _limit_2(folder: Path) -> tuple[float, float]:
    quota, _, period = _read(folder / "cpu.max").partition(" ")
    return _number(quota), _number(period)


def _number(text: str) -> float:
    """A number of the kernel's; 0 for none, which it writes as "max" or -1."""
    return float(text) if text.strip().isdigit() else 0.0


def _read(path: Path) -> str:
    """A file's text; empty if there is none, or it is not for this user."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
