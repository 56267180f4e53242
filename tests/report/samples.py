"""Run folders as `evaluate` and `train` write them, with a square that moves."""

import json
from pathlib import Path

import numpy as np

from videopolicy.media import write_mp4
from videopolicy.types import Frames

OFFSETS = (4, 8, 12, 16)
EXECUTE = 8


def scene(place: float, size: int = 32) -> np.ndarray:
    """A red square on a grey slope; `place` from 0 to 1 is how far right it is."""
    image = np.repeat(np.linspace(60, 160, size)[None, :, None], size, 0).repeat(3, 2)
    left = round(place * (size - 8))
    image[size // 2 - 4 : size // 2 + 4, left : left + 8] = (220, 40, 30)
    return image.astype(np.uint8)


def moving(length: int, size: int = 32) -> Frames:
    """The executed frames of an episode of `length` control steps: one more than steps."""
    return np.stack([scene(n / length, size) for n in range(length + 1)])


def record(folder: Path, *, task="push", episode=0, success=True, length=20, views=("front",), shift=0.05) -> None:
    """A recording whose imagined squares are `shift` ahead of the executed ones."""
    folder.mkdir(parents=True)
    steps = range(0, length, EXECUTE)
    imagined = np.stack([scene(min((s + k) / length + shift, 1)) for s in steps for k in OFFSETS])
    for view in views:
        write_mp4(folder / f"executed_{view}.mp4", moving(length), 20)
        write_mp4(folder / f"imagined_{view}.mp4", imagined, 20)
    plans = [{"step": s, "offsets": list(OFFSETS)} for s in steps]
    about = {"fps": 20, "views": list(views), "success": success, "instruction": "push the square", "task": task}
    about |= {"episode": episode, "length": length, "plans": plans}
    (folder / "plans.json").write_text(json.dumps(about), encoding="utf-8")


def evaluation(run: Path, outcomes: dict[str, list[bool]], *, recorded: int = 1) -> Path:
    """`evaluation/` of a run: task -> whether each episode succeeded; the first few of each task are recorded."""
    folder = run / "evaluation"
    folder.mkdir(parents=True)
    settings = {"policy": "checkpoint", "target": "runs/x/checkpoint", "env": "toy", "tasks": list(outcomes)}
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    rows = []
    for task, successes in outcomes.items():
        for episode, success in enumerate(successes):
            row = {"task": task, "episode": episode, "seed": episode, "success": success, "steps": 20, "seconds": 2.0}
            rows.append(row | {"plans": 3, "recorded": episode < recorded})
            if episode < recorded:
                name = f"{task}-{episode}"
                record(folder / "recordings" / name, task=task, episode=episode, success=success)
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return run


def losses(run: Path, count: int = 30) -> None:
    lines = [{"step": 10 * n, "video": 1 / (n + 1), "action": 2 / (n + 1)} for n in range(1, count + 1)]
    (run / "losses.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def monitored(run: Path) -> None:
    """Bands of noise, held-out measures and speed, beside the losses."""
    bands = {"video_low": 3.0, "video_middle": 2.0, "video_high": 1.0, "action_low": 0.5}
    lines = [json.loads(line) for line in (run / "losses.jsonl").read_text(encoding="utf-8").splitlines()]
    seen = {"video": 0.41, "action": 0.52, "action_error": 0.125, "psnr": 23.5, "ssim": 0.75}
    fast = {"clips_a_second": 37.0, "waiting": 0.042, "memory_gb": 1.5}
    for name, rows in (
        ("losses", [line | bands for line in lines]),
        ("validation", [{"step": step, **seen} for step in (100, 200)]),
        ("throughput", [{"step": line["step"], **fast} for line in lines]),
    ):
        (run / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
