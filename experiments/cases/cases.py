"""The broken data sets: what is wrong with each, what came of it before, and what must be read of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from experiments.cases import make
from experiments.cases.make import FPS, FRONT, STEPS

from videopolicy.datasets.reading import AS_IT_IS, Reading

# How `check` ends: nothing but warnings, errors, or refused.
FINE, ERRORS, REFUSED = 0, 1, 2
LATE = np.arange(3) * 0.6 / FPS


@dataclass(frozen=True)
class Case:
    """One broken data set.

    Attributes:
        number: in the list of reports.
        name: of its folder.
        what: is wrong.
        before: what came of it before, in a few words.
        make: writes it to a path where nothing is.
        code: with which `check` ends.
        says: words that the messages must hold; "" if there is nothing to say.
        reads: numbers of the episodes that must be read right.
        steps: of episodes that have others than `STEPS`.
        views: view -> its number in the pixels.
        acts: the episodes that have actions; None for all.
        reading: what a person says of it, by options of `check` and `convert`.
        options: of `convert` alone.
    """

    number: str
    name: str
    what: str
    before: str
    make: Callable[[Path], object]
    code: int = FINE
    says: str = ""
    reads: tuple[int, ...] = (0, 1, 2)
    steps: Mapping[int, int] = field(default_factory=dict)
    views: Mapping[str, int] = field(default_factory=lambda: {"front": 0, "wrist": 1})
    acts: tuple[int, ...] | None = None
    reading: Reading = AS_IT_IS
    options: tuple[str, ...] = ()


def _none(number: str, name: str, what: str, before: str, make: Callable[[Path], object], says: str) -> Case:
    """A case of which nothing can be read."""
    return Case(number, name, what, before, make, REFUSED, says, ())


def _video(case: Case) -> Case:
    """A case of a folder of videos, which have no actions."""
    return Case(**{**vars(case), "views": {"video": 0}, "acts": ()})


REFUSAL, HALF, SILENT = "all refused", "one episode lost, `convert` needed `--skip-damaged`", "no problems"
LFS = "is a pointer of Git LFS, not the file itself; get it with `git lfs pull`"
JOINED = Reading(action_columns=("action.joint", "action.gripper"), state_columns=("state.joint", "state.gripper"))
PARTS = partial(make.parts, action="action.{}", state="state.{}")
WRONG_SPANS = f"{SILENT}; frames of other episodes"

# fmt: off
CASES = (
    Case("01", "stale", "all episodes name the first data file", HALF, lambda p: make.two_files(p, 3, 2, [0, 0, 0]),
        says="names other data files than those that hold the rows"),
    Case("01", "boundary", "the first episode of a new file names the file before", HALF,
        lambda p: make.two_files(p, 4, 2, [0, 0, 0, 1]), says="names other data files", reads=(0, 1, 2, 3)),
    Case("03", "counts", "info.json counts more than is there", REFUSAL,
        lambda p: make.info(make.new(p), total_episodes=5, total_frames=200),
        says="says 5 episodes, but there are 3"),
    Case("03", "old_counts", "info.json counts fewer (v2.1)", REFUSAL,
        lambda p: make.info(make.old(p), total_episodes=2), says="says 2 episodes, but there are 3"),
    Case("03", "no_footer", "the last data file was not finished", HALF, make.no_footer, ERRORS,
        "file-001.parquet: not a readable parquet file", (0, 1)),
    Case("03", "no_list", "meta/episodes was never written", REFUSAL,
        lambda p: make.remove(make.new(p), "meta/episodes"), says="they are taken from the data files"),
    Case("04", "v20", "format v2.0", f"{REFUSAL}; the remedy needs a hub repository", make.version_20),
    Case("06", "lfs_rows", "Git LFS pointer: rows", f"{REFUSAL} as damaged", make.pointer(make.new, make.ROWS),
        REFUSED, LFS, ()),
    Case("06", "lfs_list", "Git LFS pointer: list of episodes", f"{REFUSAL} as damaged",
        make.pointer(make.new, make.EPISODES), says=LFS),
    Case("06", "lfs_view", "Git LFS pointer: all videos of a view", f"{REFUSAL} as damaged",
        make.pointer(make.new, FRONT), ERRORS, LFS, views={"wrist": 1}),
    Case("06", "lfs_one", "Git LFS pointer: one video (v2.1)", f"{HALF}, called damaged",
        make.pointer(make.old, make.old_video(1)), ERRORS, LFS, (0, 2)),
    Case("06", "lfs_tasks", "Git LFS pointer: tasks (v2.1)", f"{REFUSAL} as damaged",
        make.pointer(make.old, "meta/tasks.jsonl"), says=LFS),
    _none("06", "lfs_info", "Git LFS pointer: info.json", "`JSONDecodeError(...)`",
        make.pointer(make.new, "meta/info.json"), LFS),
    _none("06", "lfs_hdf5", "Git LFS pointer: HDF5", "not HDF5", make.pointer(make.hdf5, "demo.hdf5"), LFS),
    _video(Case("06", "lfs_film", "Git LFS pointer: one video of a folder", REFUSAL,
        make.pointer(make.films, "cup1.mp4"), ERRORS, LFS, (0, 2))),
    Case("07", "bt709", "colours in BT.709", f"{SILENT}; mean error 9 of 255 (PyAV 15, 16)",
        make.colours("709", False, 1), says="frozen frames", reads=(), acts=()),
    Case("07", "full709", "colours in BT.709, full range", f"{SILENT}; mean error 9 of 255 (PyAV 15, 16)",
        make.colours("709", True, 1), says="frozen frames", reads=(), acts=()),
    Case("07", "plain", "colours in BT.601", "right", make.colours("601", False, 5), says="frozen frames", reads=(),
        acts=()),
    Case("10", "isaac", "cameras and states of Isaac Lab's names", REFUSAL, make.isaac, says="does not say its rate",
        views={"front_cam": 0, "wrist_cam": 1}),
    Case("10", "isaac_beside", "a camera `front_cam` beside `wrist_image`", f"{SILENT}; the camera lost",
        partial(make.isaac, rename=("front",)), says="does not say its rate", views={"front_cam": 0, "wrist": 1}),
    Case("11", "last_frame", "the last frame is missing", HALF, make.last_frame, says="the steps without a frame",
        steps={2: STEPS - 1}),
    Case("11", "old_last_frame", "the last frame is missing (v2.1)", HALF, make.old_last_frame,
        says="the steps without a frame", steps={1: STEPS - 1}),
    Case("12", "aloha", "ALOHA's HDF5", REFUSAL, make.aloha),
    Case("12", "aloha_jpeg", "ALOHA's HDF5 of padded JPEG", REFUSAL,
        partial(make.aloha, code="JPEG"), says="--swap-red-blue"),
    Case("15", "parts", "actions in two columns", f"{SILENT}; actions lost", PARTS, ERRORS,
        "--action-columns action.joint action.gripper joins these", acts=()),
    Case("15", "parts_joined", "the same, `--action-columns` given", "no such option", PARTS, reading=JOINED),
    Case("16", "outlier", "one action of 1000", SILENT, make.outlier, says="values far outside the usual range",
        reads=(0, 1, 2, 3, 4, 5)),
    Case("17", "chunk_index", "v3's words in the templates (v2.1)", "`KeyError('chunk_index')`",
        partial(make.templates, episode_chunk="chunk_index"), says="chunk_index of format v3.0"),
    Case("17", "file_index", "v3's words in the templates (v2.1)", "`KeyError('chunk_index')`",
        partial(make.templates, episode_chunk="chunk_index", episode_index="file_index"),
        says="file_index of format"),
    Case("18", "masks", "HDF5 masks train and valid", f"{SILENT}; valid read as training", make.masks,
        says="mask valid (2 demonstrations) is not read", reads=(0, 1, 2, 4)),
    Case("18", "mask_valid", "the same, `--mask valid`", "no such option", make.masks,
        says="what is not in mask valid is not read", reads=(3, 5), reading=Reading(mask="valid")),
    Case("19", "twins", "`._*` files of macOS", REFUSAL, make.twins(make.new)),
    Case("19", "twins_hdf5", "`._*` files of macOS, HDF5", REFUSAL, make.twins(make.hdf5)),
    _video(Case("19", "twins_films", "`._*` files of macOS, videos", REFUSAL, make.twins(make.films))),
    Case("20", "late", "spans that drift forwards", WRONG_SPANS, lambda p: make.spans(p, lambda t, end: t + LATE),
        says="begins 0.05 s too late"),
    Case("20", "early", "spans that drift back", WRONG_SPANS, lambda p: make.spans(p, lambda t, end: t - LATE),
        says="episodes 0 and 1 overlap by 0.05 s"),
    Case("20", "swapped", "two spans swapped", WRONG_SPANS, lambda p: make.spans(p, lambda t, end: t[[1, 0, 2]]),
        ERRORS, "do not come in the order of the episodes", (2,)),
    Case("20", "zero", "spans that begin anew", WRONG_SPANS,
        lambda p: make.spans(p, lambda t, end: np.full(3, 0 if end == "from" else STEPS / FPS)),
        says="overlap by 1.80 s"),
    Case("20", "sound", "sound spans", "right", lambda p: make.spans(p, lambda t, end: t)),
    Case("21", "ntsc", "29.97 frames a second called 30", "frames 1 to 2 steps late; the last episode lost",
        make.ntsc, reads=(0, 1, 2, 3), steps=dict.fromkeys(range(4), 600), views={"front": 0}),
    Case("22", "depth", "a 16-bit camera that nothing marks as depth", "every episode an error, `ValueError(...)`",
        partial(make.in_tables, shape=[64, 64, 1], draw=lambda image: np.uint16(image[..., 0]) * 13),
        says="observation.images.side is a depth map"),
    Case("22", "rgba", "pictures with transparency", "right",
        partial(make.in_tables, shape=[64, 64, 4], draw=lambda image: np.dstack([image, image[..., :1] | 255])),
        says="two views show the same", views={"front": 0, "wrist": 1, "side": 0}),
    _video(Case("26", "linked_films", "linked sub-folders, one in a circle", f"{SILENT}; a part not read",
        make.linked_films, reads=(0, 1))),
    Case("26", "linked_hdf5", "a linked sub-folder, HDF5", REFUSAL, make.linked_hdf5),
    Case("27", "odd_view", "one demonstration lacks a camera", REFUSAL, make.replaced("obs/wrist_image", None),
        ERRORS, "demo_1: lacks the view wrist", (0, 2)),
    Case("27", "odd_length", "one demonstration has fewer actions", REFUSAL,
        make.replaced("actions", make.vectors(1, STEPS - 1)), ERRORS, "demo_1: actions has 35 rows", (0, 2)),
    Case("27", "odd_width", "one demonstration has wider actions", REFUSAL,
        make.replaced("actions", make.vectors(1, width=8)), ERRORS, "its actions are 8 wide", (0, 2)),
    Case("27", "odd_state", "one demonstration has wider states", REFUSAL,
        make.replaced("obs/robot0_gripper_qpos", make.vectors(1, width=8)), ERRORS, "its states are", (0, 2)),
    Case("27", "odd_size", "one demonstration has larger pictures", REFUSAL,
        make.replaced("obs/wrist_image", make.frames(1, 1).repeat(2, 1).repeat(2, 2)), ERRORS, "128x128 pixels",
        (0, 2)),
    Case("27", "odd_nan", "one demonstration has NaN in its actions", HALF, make.odd(make.with_nan), ERRORS,
        "NaN or infinite at step 5", (0, 2)),
    Case("27", "odd_actions", "one demonstration has no actions", REFUSAL, make.replaced("actions", None), ERRORS,
        "has no actions", acts=(0, 2)),
    Case("49", "no_task_index", "rows without task_index", "every episode an error", make.no_task_index,
        says="has no task_index"),
    Case("49", "old_no_task_index", "rows without task_index (v2.1)", "every episode an error",
        make.old_no_task_index,
        says="has no task_index; the instruction listed with the episode is used; the same holds for 2 other files"),
    _none("49", "no_camera", "no camera", REFUSAL, make.no_camera, "names no camera"),
    _none("49", "info_empty", "info.json of 0 bytes", "`JSONDecodeError(...)`",
        lambda p: (make.new(p) / "meta/info.json").write_bytes(b""), "is empty"),
    _none("49", "nothing", "stopped before the first episode", REFUSAL, make.nothing, "was its recording stopped"),
    _video(Case("50", "film_cut", "one video of a folder is cut short", REFUSAL,
        lambda p: (make.films(p), make.cut(p / "cup1.mp4")), ERRORS, "cut short or damaged", (0, 2))),
    _video(Case("50", "film_silent", "one video of a folder has no caption", REFUSAL,
        lambda p: (make.films(p), (p / "cup1.txt").unlink()), ERRORS, "has no caption; write it into", (0, 2))),
    Case("", "shared", "12 episodes in one bad video of a view", "12 lines", make.shared_cut, ERRORS,
        "no episode has frames of view 'front'", tuple(range(12)), views={"wrist": 1}),
    Case("", "mirrored", "mirrored pictures, `convert --flip front=horizontal`", "no such option", make.mirrored,
        options=("--flip", "front=horizontal")),
    Case("", "locale", "a Chinese instruction, in a Latin-1 locale", "mojibake in the converted set", make.chinese),
)
# fmt: on
