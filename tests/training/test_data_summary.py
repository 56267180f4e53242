from dataclasses import replace

import numpy as np
import pytest
from tests.small import MODEL, TRAINING, Partly

from videopolicy.datasets.mixture import Source
from videopolicy.datasets.notes import Note
from videopolicy.datasets.transforms.action_layout import LayoutConverted
from videopolicy.training.data_summary import advice, summarize
from videopolicy.training.monitoring.validation import set_apart
from videopolicy.training.prepare import prepare
from videopolicy.training.stages import ACTION, ATTACHED, JOINT


class Told(Partly):
    """Four episodes, the first without actions, the second shorter than a clip; one more cannot be read."""

    def __init__(self, inner):
        super().__init__(inner, {0})
        self.notes = (Note("left out", "rows.parquet: it is damaged", (7,)), Note("unused", "a depth map"))

    def length(self, index):
        return 5 if index == 1 else super().length(index)


@pytest.fixture(scope="module")
def two(dataset, tmp_path_factory):
    """Two sources as a policy sees them, and their clips."""
    sources = (Source(Told(dataset), "dots", 1.0), Source(dataset, "more", 3.0))
    return sources, prepare(sources, MODEL, TRAINING, tmp_path_factory.mktemp("run"))[1]


def test_every_source_is_told_with_its_share_and_what_is_left_out(two, dataset):
    sources, clips = two
    steps = [dataset.length(index) for index in range(4)]
    assert summarize(sources, clips, None, 0) == [
        f"dots: 3 episodes (2 with actions), 2 instructions, {sum(steps) - steps[1]} clips, 25% of what is trained on",
        "  left out: 1 of 4 episodes of dots are shorter than a clip (8 control steps)",
        "  4 of 5 episodes are used, 1 left out:",
        "  left out: rows.parquet: it is damaged (episode 7)",
        "  unused: a depth map",
        f"more: 4 episodes with actions, 2 instructions, {sum(steps)} clips, 75% of what is trained on",
    ]


def test_episodes_without_actions_are_told_where_actions_alone_are_learnt_by(two, dataset, tmp_path):
    sources, _ = two
    _, clips = prepare(sources, MODEL, replace(TRAINING, stage=ACTION), tmp_path)
    told = summarize(sources, clips, None, 0)
    assert told[0].startswith("dots: 2 episodes with actions, ")
    assert told[1:3] == [
        "  left out: 1 of 4 episodes of dots are shorter than a clip (8 control steps)",
        "  left out: 1 of 4 episodes of dots have no actions, all that is learnt by",
    ]
    assert not any("left out" in line for line in told[6:])


@pytest.mark.parametrize(
    ("without", "stage", "advised"),
    [({0, 1}, ATTACHED, True), ({0}, ATTACHED, False), ({0, 1}, JOINT, False), (set(), ATTACHED, False)],
)
def test_where_few_actions_would_teach_the_video_model_another_order_is_advised(
    dataset, tmp_path, without, stage, advised
):
    training = replace(TRAINING, stage=stage)
    _, clips = prepare([Source(Partly(dataset, without), "dots", 1.0)], MODEL, training, tmp_path)
    known = len(dataset) - len(without)
    told = [f"note: {known} of {len(dataset)} episodes have actions, and --stage attached lets them teach the video "]
    assert [line[: len(told[0])] for line in advice(clips, training, MODEL)] == told * advised


@pytest.mark.parametrize(("reads", "told"), [("present", True), ("future", False)])
def test_a_task_that_a_head_of_the_present_cannot_learn_is_told(dataset, tmp_path, reads, told):
    tasks = [dataset.episode(index).task for index in range(len(dataset))]
    never = {index for index, task in enumerate(tasks) if task == tasks[0]}
    assert len(never) < len(tasks)
    _, clips = prepare([Source(Partly(dataset, never), "dots", 1.0)], MODEL, TRAINING, tmp_path)
    lines = advice(clips, replace(TRAINING, stage=JOINT), replace(MODEL, reads=reads))
    assert [tasks[0] in line and "shown without actions alone" in line for line in lines] == [True] * told


def test_what_is_held_out_is_told_and_that_it_is_less_than_was_asked_for(two):
    sources, clips = two
    learnt, held_out = set_apart(clips, 9)
    told = "\n".join(summarize(sources, learnt, held_out, 9))
    for source, data in enumerate(("dots", "more")):
        numbers = held_out.episodes.number[held_out.episodes.source == source].tolist()
        assert f"{data} {', '.join(map(str, numbers))}" in told
    assert "held out, to measure on: 3 of 7 episodes: " in told and "3 and not 9" in told
    assert "not 3" not in "\n".join(summarize(sources, *set_apart(clips, 3), 3))


def test_an_instruction_that_is_only_held_out_is_told(two):
    sources, clips = two
    red = [text == "reach the red disc" for text in clips.episodes.instructions]
    learnt, held_out = (clips._only(np.nonzero(np.array(red) == side)[0]) for side in (False, True))
    told = summarize(sources, learnt, held_out, 0)
    assert told[-1] == "  never trained on, as no other episode shows them: 'reach the red disc'"


def test_layouts_that_are_converted_are_told(dataset, two):
    _, clips = two
    named = Partly(dataset, set())
    named.action_layout = "gripper[-1,1] other:1"
    source = Source(LayoutConverted(named, "gripper[1,-1] other:1"), "more")
    assert "  its actions are converted from 'gripper[-1,1] other:1' to 'gripper[1,-1] other:1'" in summarize(
        (source, source), clips, None, 0
    )
