"""Memory and speed of the data's way into training, on one large synthetic data set.

    python measure.py write FOLDER               200,000 frames of 64 pixels, 2,000 episodes
    python measure.py memory FOLDER > memory.json
    python measure.py speed FOLDER > speed.json
    python measure.py build FOLDER > build.json

Every figure is of a process of its own, whose peak is then its own.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from videopolicy.clips.cache import build_cache, open_cache
from videopolicy.clips.dataset import Clips
from videopolicy.clips.windows import Window
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.datasets.lerobot.writer import Writer
from videopolicy.types import Episode

EPISODES, STEPS, SIZE, VIEW, FPS = 2000, 100, 64, "corner2", 20
BATCH = 16
# On a machine with other work: turn about, and the best of them.
ROUNDS, SECONDS = 3, 5.0
# That of the preset tiny: 4 frames, 8 control steps apart.
WINDOW = Window(frames=4, stride=8, actions=32)
# Clips, seconds by the clock, seconds of a core.
Counted = tuple[int, float, float]


def write(folder: Path) -> None:
    """Discs that drift over a picture of their own, and four numbers that say where to."""
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    with Writer(folder / "data", FPS, (VIEW,)) as writer:
        for number in tqdm(range(EPISODES)):
            coarse = rng.integers(40, 200, (8, 8, 3))
            frames = np.repeat(coarse.repeat(8, 0).repeat(8, 1)[None].astype(np.uint8), STEPS, 0)
            ends = rng.uniform(8, SIZE - 8, (2, 3, 2))
            for disc in range(3):
                places = np.linspace(ends[0, disc], ends[1, disc], STEPS)
                near = (rows - places[:, :1, None]) ** 2 + (columns - places[:, 1:, None]) ** 2 < 36
                frames[near] = rng.integers(0, 256, 3)
            actions = np.cumsum(rng.normal(size=(STEPS, 4)), 0).astype(np.float32)
            writer.add(Episode({VIEW: frames}, f"move the discs, way {number % 50}", FPS, actions))


def resident() -> dict[str, int]:
    """MiB that this process holds: its own, of files, and the most it ever held of both."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    values = dict(line.split(":", 1) for line in lines)
    return {name: int(values[name].split()[0]) // 1024 for name in ("RssAnon", "RssFile", "VmHWM")}


def clips_of(folder: Path) -> Clips:
    """Every clip of the cache that `train` left."""
    return Clips([open_cache(folder / "run" / "cache")], WINDOW)


def train(folder: Path, steps: int = 20) -> dict[str, int]:
    """What `videopolicy train` does: fits latents, builds the cache if there is none, takes a few steps."""
    import torch

    from videopolicy.presets.tiny import PRESET
    from videopolicy.training.noise import draw_noise, generator_of
    from videopolicy.training.objective import Objective, total
    from videopolicy.training.prepare import prepare

    torch.set_num_threads(1)
    training = PRESET.training
    before = resident()["VmHWM"]
    model, clips = prepare(open_dataset(folder / "data"), PRESET.model, training, folder / "run")
    prepared = resident()["VmHWM"]
    objective = Objective(model, training)
    optimizer = torch.optim.AdamW(objective.parameter_groups())
    for step in range(steps):
        positions = np.arange(step * BATCH, (step + 1) * BATCH)
        batch = clips.batch(clips.at(positions, 0), np.random.default_rng(step))
        total(objective(batch, draw_noise(model, training, batch, generator_of(0, step)))).backward()
        optimizer.step()
        optimizer.zero_grad()
    return {"imports": before, "latents and cache": prepared, **resident()}


def load(folder: Path) -> dict[str, int]:
    """The loader alone: one epoch, every clip once, in the order of training."""
    clips, rng = clips_of(folder), np.random.default_rng(0)
    before = resident()["VmHWM"]
    for positions in np.array_split(np.arange(len(clips)), len(clips) // BATCH):
        clips.batch(clips.at(positions, 0), rng)
    return {"imports": before, "clips": len(clips), **resident()}


def load_mapped(folder: Path) -> dict[str, int]:
    """The same codes through a memory map, for comparison."""
    clips, codes = clips_of(folder), open_cache(folder / "run" / "cache").codes
    for positions in np.array_split(np.arange(len(clips)), len(clips) // BATCH):
        codes[0, clips.at(positions, 0)].astype(np.float32)
    return resident()


def decoded(folder: str, seed: int) -> Counted:
    """Clips, and seconds, of decoding random ones from mp4, frame by frame."""
    dataset, rng = open_dataset(Path(folder) / "data"), np.random.default_rng(seed)

    def one() -> int:
        episode, start = int(rng.integers(len(dataset))), int(rng.integers(STEPS))
        for step in WINDOW.frame_indices(start, STEPS).tolist():
            dataset.episode(episode, (VIEW,), step, step + 1)
        return 1

    return timed(one)


def decoded_span(folder: str, seed: int) -> Counted:
    """The same, with all frames from a clip's first to its last decoded at one go."""
    dataset, rng = open_dataset(Path(folder) / "data"), np.random.default_rng(seed)

    def one() -> int:
        start = int(rng.integers(STEPS))
        dataset.episode(int(rng.integers(len(dataset))), (VIEW,), start, start + WINDOW.offsets[-1] + 1)
        return 1

    return timed(one)


def cached(folder: str, seed: int) -> Counted:
    """Clips, and seconds, of reading random batches from the cache."""
    clips, rng = clips_of(Path(folder)), np.random.default_rng(seed)

    def one() -> int:
        clips.batch(rng.integers(len(clips), size=BATCH), rng)
        return BATCH

    return timed(one)


def timed(one: Callable[[], int]) -> Counted:
    """How many, in so many seconds, after one that opens the files."""
    one()
    count, begun, busy = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - begun < SECONDS:
        count += one()
    return count, time.perf_counter() - begun, time.process_time() - busy


def rates(work: Callable[[str, int], Counted], folder: Path, processes: int) -> tuple[float, float]:
    """Clips a second of so many processes at once: by the clock, and of the time that the cores gave them."""
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        found = list(pool.map(work, [str(folder)] * processes, range(processes)))
    return sum(n / wall for n, wall, _ in found), sum(n for n, _, _ in found) / sum(busy for _, _, busy in found)


def bandwidth() -> float:
    """GB a second that one core copies in memory."""
    source = np.ones(2**28, np.uint8)
    target = np.zeros_like(source)
    best = float("inf")
    for _ in range(5):
        begun = time.process_time()
        np.copyto(target, source)
        best = min(best, time.process_time() - begun)
    return round(len(source) / best / 1e9, 1)


def speed(folder: Path) -> dict[str, object]:
    """Clips a second from mp4 and from the cache, and what memory would allow."""
    code = open_cache(folder / "run" / "cache").codes[0, 0].nbytes
    read, handed = code * (1 + WINDOW.frames), 2 * code * (1 + WINDOW.frames)
    ways = {"mp4, frame by frame": decoded, "mp4, in one go": decoded_span, "cache": cached}
    best = {(name, processes): (0.0, 0.0) for name in ways for processes in (1, 2)}
    for _ in range(ROUNDS):
        for name, processes in best:
            wall, busy = rates(ways[name], folder, processes)
            best[name, processes] = max(wall, best[name, processes][0]), max(busy, best[name, processes][1])
    copied = bandwidth()
    return {
        "clips a second": {f"{name}, {n} processes": round(found[0], 1) for (name, n), found in best.items()},
        "clips a second of a core": {name: round(best[name, 1][1], 1) for name in ways},
        "bytes of a clip": {"read as float16": read, "handed over as float32": handed},
        "GB a second one core copies": copied,
        "clips a second at that": round(copied * 1e9 / (read + handed)),
    }


def memory(folder: Path) -> dict[str, object]:
    """MiB of each way, in a process of its own."""
    found = {name: own_process(name, folder) for name in ("train", "load", "load_mapped")}
    # Without building the cache, and what that leaves behind in the process.
    found["train again"] = own_process("train", folder)
    mib = (folder / "run" / "cache" / "codes.npy").stat().st_size // 2**20
    return {"frames": EPISODES * STEPS, "MiB of codes on disk": mib, "MiB in memory": found}


def build(folder: Path) -> dict[str, object]:
    """Frames a second of building the cache anew with one process that decodes and with two; whether they agree."""
    found: dict[str, object] = {}
    for workers in (1, 2):
        found[f"{workers} decoding"] = own_process(f"build_{workers}", folder)
    one, two = ((folder / f"cache-{workers}" / "codes.npy").read_bytes() for workers in (1, 2))
    return {**found, "the same to the byte": one == two}


def build_with(workers: int, folder: Path) -> dict[str, float]:
    """One such build."""
    import torch

    from videopolicy.presets.tiny import PRESET

    torch.set_num_threads(1)
    dataset, latents = open_dataset(folder / "data"), PRESET.model.latents.build()
    latents.fit(np.concatenate([dataset.episode(index).views[VIEW] for index in range(0, EPISODES, 200)]))
    begun = time.perf_counter()
    build_cache(
        dataset,
        folder / f"cache-{workers}",
        lambda frames: latents.encode(torch.from_numpy(frames)).numpy(),
        (VIEW,),
        key="measured",
        workers=workers,
    )
    seconds = time.perf_counter() - begun
    return {"frames a second": round(EPISODES * STEPS / seconds), **resident()}


def own_process(name: str, folder: Path) -> dict[str, Any]:
    """One of the measurements of this file, in a process of its own."""
    command = [sys.executable, __file__, name, str(folder)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, encoding="utf-8").stdout)


def main(name: str, folder: Path) -> None:
    """Runs one verb."""
    verbs: dict[str, Callable[[Path], dict[str, Any]]] = {
        "train": train,
        "load": load,
        "load_mapped": load_mapped,
        "build_1": partial(build_with, 1),
        "build_2": partial(build_with, 2),
        "speed": speed,
        "memory": memory,
        "build": build,
    }
    if name == "write":
        write(folder)
        return
    result = verbs[name](folder)
    if name in ("speed", "memory", "build"):
        commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True, encoding="utf-8").strip()
        result = {"commit": commit, "cores": len(os.sched_getaffinity(0)), **result}
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
