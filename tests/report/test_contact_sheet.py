import base64
import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from tests.datasets.checking.test_checks import EPISODES, InMemory, each, freeze
from tests.report.test_page import Page

from videopolicy.datasets.checking.checks import examine
from videopolicy.errors import UserError
from videopolicy.report import contact_sheet
from videopolicy.report.contact_sheet import write_sheet

pytestmark = pytest.mark.slow


def sheet(dataset, tmp_path):
    text = write_sheet(dataset, examine(dataset), tmp_path / "sheet.html").read_text(encoding="utf-8")
    page = Page(text)
    page.rawdata = text
    return page


def pictures(page):
    return {image["alt"]: image["src"] for image in page.all("img")}


def pixels(source):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))).convert("RGB")).astype(int)


@pytest.fixture
def two_tasks():
    return InMemory([EPISODES[0], replace(EPISODES[1], instruction="pull the cube"), *EPISODES[2:]])


def test_there_is_a_strip_for_each_task_with_most_episodes_first(two_tasks, tmp_path):
    page = sheet(two_tasks, tmp_path)
    assert page.headings() == ["push the cube (3 episodes)", "pull the cube (1 episode)"]


def test_frames_are_spread_evenly_over_the_whole_episode_in_every_view(tmp_path):
    shown = pictures(sheet(InMemory(EPISODES), tmp_path))
    for view in ("left", "right"):
        steps = [int(alt.split()[-1]) for alt in shown if re.fullmatch(rf"{view}, step \d+", alt)]
        assert len(steps) == contact_sheet.FRAMES
        assert (steps[0], steps[-1]) == (0, len(EPISODES[0]) - 1)
        assert np.ptp(np.diff(steps)) <= 1


def test_a_picture_is_the_frame_that_it_says(tmp_path):
    page = sheet(InMemory(EPISODES), tmp_path)
    shown = pictures(page)
    assert np.abs(pixels(shown["left, step 39"]) - EPISODES[0].views["left"][39]).mean() < 2
    for index, one in enumerate(EPISODES):
        for name, step in (("first", 0), ("last", -1)):
            seen = pixels(shown[f"right, {name}, episode {index}"])
            assert np.abs(seen - one.views["right"][step]).mean() < 2


def test_large_pictures_are_made_small(tmp_path):
    large = replace(EPISODES[0], views=each(EPISODES[0].views, lambda f: f.repeat(10, 1).repeat(10, 2)[:3]))
    large = replace(large, actions=large.actions[:3], states=large.states[:3])
    page = sheet(InMemory([large]), tmp_path)
    assert pixels(pictures(page)["left, step 0"]).shape == (160, 213, 3)


def test_problems_stand_above_the_tasks_and_a_sound_episode_is_shown(tmp_path):
    hung = replace(EPISODES[0], views=each(EPISODES[0].views, freeze))
    page = sheet(InMemory([hung, *EPISODES[1:]]), tmp_path)
    assert page.headings()[0] == "What is wrong"
    assert "frozen frames (episode 0)" in page.words
    assert "left, step 45" in pictures(page)


def test_video_without_actions_has_no_plot(tmp_path):
    dataset = InMemory([replace(one, actions=None, states=None) for one in EPISODES])
    dataset.action_width, dataset.action_layout = None, ""
    page = sheet(dataset, tmp_path)
    assert not page.all("svg") and pictures(page)


def test_each_dimension_has_its_panel_under_the_name_that_its_layout_gives(tmp_path):
    page = sheet(InMemory(EPISODES), tmp_path)
    assert len(page.all("svg")) == 1
    for name in ("0 delta position", "1 delta position", "2 delta position", "3 gripper"):
        assert name in page.words


def test_what_a_data_set_says_of_itself_is_text(tmp_path):
    wicked = "<script>alert(1)</script>"
    views = {wicked: EPISODES[0].views["left"], "right": EPISODES[0].views["right"]}
    page = sheet(InMemory([replace(EPISODES[0], views=views, instruction=wicked)]), tmp_path)
    assert wicked in page.words
    assert page.rawdata.count("<script>") == 1


def test_the_page_needs_nothing_else(tmp_path):
    page = sheet(InMemory(EPISODES), tmp_path)
    assert all(image["src"].startswith("data:image/jpeg") for image in page.all("img"))
    assert not re.search(r'(?:src|href)="(?!data:|#)', page.rawdata)


def test_beyond_the_most_frequent_tasks_the_rest_is_counted(monkeypatch, tmp_path, two_tasks):
    monkeypatch.setattr(contact_sheet, "TASKS", 1)
    page = sheet(two_tasks, tmp_path)
    assert page.headings() == ["push the cube (3 episodes)"]
    assert "1 task with fewer episodes" in page.words


def test_a_set_of_which_nothing_can_be_read_still_has_its_page(tmp_path):
    dataset = InMemory(EPISODES)
    dataset.episodes = [UserError("torn")] * len(EPISODES)
    page = sheet(dataset, tmp_path)
    assert page.headings() == ["What is wrong"]
    assert "1 kind of error in 4 episodes" in page.words and "episodes 0-3: torn" in page.words
