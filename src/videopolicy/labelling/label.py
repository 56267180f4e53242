"""Writes a data set whose video without actions has actions, read from it."""

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from videopolicy.configs import to_json
from videopolicy.datasets.base import Dataset
from videopolicy.datasets.card import FRONT
from videopolicy.datasets.conversion.convert import Outcome, check_target, convert
from videopolicy.datasets.conversion.staging import staging
from videopolicy.datasets.lerobot.writer import refuse_existing
from videopolicy.datasets.notes import numbered
from videopolicy.errors import UserError, name_path_in_errors
from videopolicy.labelling.labels import EpisodeLabels, LabelledSource, Labelling, open_one
from videopolicy.labelling.reader import ActionReader
from videopolicy.progress import progress_bar

# Changes whenever what is read does.
_VERSION = 1


@dataclass(frozen=True)
class Labels:
    """What was written.

    Attributes:
        outcome: the data set.
        confidences: number of each episode that was labelled, in the source -> its confidence.
    """

    outcome: Outcome
    confidences: Mapping[int, float]


def label(
    path: Path, format: str | None, reader: ActionReader, by: str, target: Path, workers: int, command: tuple[str, ...]
) -> Labels:
    """Reads actions from the video of the episodes without any, and writes all episodes as a data set of our own.

    It appears whole or not at all. What was read before it was stopped is kept beside the target, and the same call
    goes on from there.

    Args:
        path: a data set of any format, or a list of one.
        format: its format; None looks at what is there.
        reader: what reads.
        by: names it, for every episode that it labels.
        target: the data set's folder; must not exist, or be empty.
        workers: processes that write.
        command: what was typed, word by word, for the data set's card.

    Raises:
        UserError: every episode has actions already; the data set does not suit the policy, or cannot be read; the
            target exists; or another process is at it.
        OSError: the disk is full, and the like; the same call goes on from there.
    """
    check_target(path, target)
    dataset = open_one(path, format)
    reader.check(dataset)
    unlabelled = [index for index in range(len(dataset)) if _is_video(dataset, index)]
    if not unlabelled:
        raise UserError(
            f"{path}: each of its {len(dataset)} episodes has actions already; to read them anew, list it in a .toml "
            "file with actions = false"
        )
    spec = reader.policy.spec
    drawn = {"sampling": to_json(reader.policy.sampling), "precision": spec.sampling["precision"]}
    recipe = {"version": _VERSION, "source": dataset.fingerprint, "checkpoint": by, **drawn}
    with staging(target, recipe | {"draws": reader.draws, "seed": reader.seed}, "label") as folder:
        refuse_existing(target)
        labelling = Labelling(str(folder / "shards"), by, spec.action_width, spec.action_layout)
        numbers = tuple(dataset.number(index) for index in unlabelled)
        with name_path_in_errors(folder):
            confidences = _read(dataset, unlabelled, reader, labelling)
        source = LabelledSource(path, format, labelling=labelling, numbers=numbers)
        card = card_text(dataset, by, confidences, reader, command)
        return Labels(convert(source, target, workers, card), confidences)


def _is_video(dataset: Dataset, index: int) -> bool:
    return dataset.action_width is None or dataset.episode(index, (), 0, 1).actions is None


def _read(dataset: Dataset, indices: list[int], reader: ActionReader, labelling: Labelling) -> dict[int, float]:
    """Labels what is not labelled yet."""
    confidences = {}
    with progress_bar(total=sum(map(dataset.length, indices)), desc="read actions", unit="step") as bar:
        for index in indices:
            file = labelling.file(dataset.number(index))
            if not file.exists():
                reader.read(dataset, index).save(file)
            confidences[dataset.number(index)] = EpisodeLabels.load(file).confidence
            bar.update(dataset.length(index))
    return confidences


def card_text(
    dataset: Dataset, by: str, confidences: Mapping[int, float], reader: ActionReader, command: tuple[str, ...]
) -> str:
    """The data set's README.md: which actions nobody recorded, who read them, and how sure it is.

    Args:
        dataset: the source.
        by: names what read the actions.
        confidences: of each labelled episode, by its number in the source.
        reader: how it read.
        command: what was typed, word by word.
    """
    values = list(confidences.values())
    low, middle, high = np.quantile(values, (0, 0.5, 1))
    recorded = len(dataset) - len(values)
    facts = {
        "Episodes with labels": f"{len(values)} ({numbered(list(confidences))} of the source)",
        "Episodes with recorded actions": str(recorded),
        "Read by": by,
        "Draws of each action": f"{reader.draws}, of which the mean is the label; {reader.policy.sampling}",
        "Confidence": f"{low:.3f} to {high:.3f}, median {middle:.3f}; 1 / (1 + variance of the draws), normalised",
        "Action layout": reader.policy.spec.action_layout or "not said",
    }
    lines = [
        FRONT,
        "# Video with actions that were read from it\n",
        "Nobody executed these actions as they are written here: a model's inverse dynamics inferred them from the "
        "video. Episodes that were labelled say so, and how sure the model is, in the columns "
        "`videopolicy/labelled_by` and `videopolicy/confidence` of `meta/episodes`; `min_confidence` in a list of data "
        "sets leaves out the actions of the less certain ones.\n",
        *(f"- {name}: {fact}" for name, fact in facts.items()),
        f"\nThe command that made it:\n\n```sh\n{shlex.join(command)}\n```\n",
    ]
    return "\n".join(lines)
