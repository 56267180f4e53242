"""A data set of this project in the layout of LeRobotDataset v2.1, as old recordings have it."""

import json

import pyarrow.compute as pc
import pyarrow.parquet as pq

from videopolicy.datasets.lerobot import open_dataset, spec
from videopolicy.media import Encoder

DATA = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"


def to_old(source, target, chunk=2):
    """Writes the data set at source in v2.1 to target, two episodes a folder; returns target."""
    dataset = open_dataset(source)
    info = json.loads((source / spec.INFO).read_text(encoding="utf-8"))
    info |= {"codebase_version": "v2.1", "chunks_size": chunk, "data_path": DATA, "video_path": VIDEO}
    (target / "meta").mkdir(parents=True)
    (target / spec.INFO).write_text(json.dumps(info, indent=4), encoding="utf-8")
    rows = pq.read_table(sorted((source / "data").rglob("*.parquet")))
    lines = []
    for index in range(len(dataset)):
        episode = dataset.episode(index)
        place = {"episode_chunk": index // chunk, "episode_index": index}
        file = target / DATA.format(**place)
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.filter(pc.field("episode_index") == index), file)
        for view, frames in episode.views.items():
            file = target / VIDEO.format(video_key=spec.IMAGES + view, **place)
            file.parent.mkdir(parents=True, exist_ok=True)
            with Encoder(file, dataset.fps, crf=1, full_colour=True) as encoder:
                encoder.write(frames)
        lines.append({"episode_index": index, "tasks": [episode.instruction], "length": len(episode)})
    write_lines(target / "meta/episodes.jsonl", lines)
    tasks = pq.read_table(source / spec.TASKS).to_pylist()
    write_lines(target / "meta/tasks.jsonl", [{"task_index": t["task_index"], "task": t["task"]} for t in tasks])
    write_lines(target / "meta/episodes_stats.jsonl", [{"episode_index": i, "stats": {}} for i in range(len(dataset))])
    return target


def write_lines(file, lines):
    """One JSON object a line."""
    file.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
