import os
import subprocess
import sys

import pytest

from videopolicy.processors import processors

# What a Mac has not; set before anything of ours is imported.
MAC = "import os; [delattr(os, name) for name in ('sched_getaffinity', 'posix_fallocate')]\n"


@pytest.fixture
def many(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))


def write(root, files):
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("files", "right"),
    [
        ({}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, 64),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}, 2),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "400000 100000\n"}, 4),
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "5000 100000\n"}, 1),
        # More than the system lets it run on is no gain.
        ({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "9900000 100000\n"}, 64),
        # A job's limit on a group above its own; the tighter one holds.
        (
            {
                "proc/self/cgroup": "0::/slurm/job_7/step_0\n",
                "sys/fs/cgroup/slurm/job_7/cpu.max": "300000 100000\n",
                "sys/fs/cgroup/slurm/cpu.max": "800000 100000\n",
            },
            3,
        ),
        # A container of Docker's, which names the group as the machine sees it but shows its files at the root.
        (
            {
                "proc/self/cgroup": "5:memory:/docker/4f\n4:cpu,cpuacct:/docker/4f\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "250000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
        (
            {
                "proc/self/cgroup": "4:cpu,cpuacct:/\n1:name=systemd:/\n0::/\n",
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            64,
        ),
        ({"proc/self/cgroup": "3:cpuset:/\n", "sys/fs/cgroup/cpu.max": "100000 100000\n"}, 64),
    ],
)
def test_a_containers_share_is_honoured(many, tmp_path, files, right):
    write(tmp_path, files)
    assert processors(tmp_path) == right


def test_where_the_system_does_not_say_the_machines_count(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert processors(tmp_path) == 10
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert processors(tmp_path) == 1


@pytest.mark.slow
def test_every_verb_starts_without_what_only_linux_has():
    script = MAC + (
        "from videopolicy.cli.main import VERBS, main\n"
        "for verb in VERBS:\n"
        "    try: main([verb, '--help'])\n"
        "    except SystemExit as end: assert not end.code, verb\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
    assert "usage: videopolicy convert" in done.stdout


def test_a_cache_is_built_without_what_only_linux_has(tmp_path):
    script = MAC + (
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from videopolicy.clips.decoding import usable_workers\n"
        "from videopolicy.clips.rows import Rows\n"
        f"rows = Rows.create(Path({str(tmp_path / 'rows.npy')!r}), np.float32, (3,), (2,))\n"
        "rows.write(1, np.ones((2, 2), np.float32))\n"
        "rows.flush()\n"
        "assert rows.read(np.array([0, 2])).tolist() == [[0, 0], [1, 1]]\n"
        "assert usable_workers(10**9) >= 1\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8")
    assert (done.returncode, done.stderr) == (0, "")
