import json
import re
import shutil
from html.parser import HTMLParser

import pytest
from tests.report.samples import evaluation, losses

from videopolicy.errors import UserError
from videopolicy.report import episodes
from videopolicy.report.episodes import order
from videopolicy.report.page import write_report
from videopolicy.rollout.protocols import load
from videopolicy.rollout.results import Result

VOID = {"meta", "link", "img", "br", "path", "use"}


class Page(HTMLParser):
    """Collects tags and text, and checks that elements close in the order in which they opened."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.words = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words += data

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def headings(self):
        return re.findall(r"<h2>(.*?)</h2>", self.rawdata)


def written(run) -> Page:
    text = write_report(run).read_text(encoding="utf-8")
    page = Page(text)
    page.rawdata = text
    return page


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    folder = evaluation(tmp_path_factory.mktemp("page") / "run", {"push": [True, False, True]}, recorded=2)
    losses(folder)
    return written(folder)


def test_the_headline_says_how_often_it_succeeded_and_the_instruction_follows(page):
    assert re.search(r"<h1>success 2/3 \(9-99 %\)</h1>", page.rawdata)
    assert "“push the square”" in page.words


def test_videos_come_before_every_heading_and_play_in_silence_for_ever(page):
    assert page.rawdata.index("<video") < page.rawdata.index("<h2>")
    videos = page.all("video")
    assert len(videos) == 2
    for video in videos:
        assert {"autoplay", "loop", "muted", "playsinline"} <= set(video)
        assert video["src"].startswith("data:video/mp4;base64,")


def test_both_outcomes_are_said_in_words(page):
    assert [v["aria-label"] for v in page.all("video")] == [
        "episode 0, success: imagined above, executed below",
        "episode 1, failure: imagined above, executed below",
    ]
    assert "✓ success" in page.words and "✕ failure" in page.words


def test_nothing_outside_the_file_is_asked_for(page):
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href", "action", "poster", "data"):
            if name in attributes:
                assert attributes[name].startswith(("data:", "#")), (tag, attributes[name][:80])
    assert not re.search(r"@import|url\((?!#)|fetch\(|XMLHttpRequest", page.rawdata)


def test_every_picture_says_what_it_shows(page):
    assert all(image["alt"] for image in page.all("img"))
    assert len(page.all("svg")) == 4
    assert len([a for a in page.all("div") if a.get("role") == "img" and a["aria-label"]]) == 4


def test_every_part_has_its_place(page):
    assert page.headings() == [
        "One plan, frame by frame",
        "Success",
        "Imagined against executed",
        "Training",
        "Settings",
    ]
    assert "videopolicy evaluate --checkpoint runs/x/checkpoint --env toy --task push" in page.words
    assert "videopolicy report" in page.words


OWN, OTHER = load("mt10").sha256, "0" * 64


@pytest.mark.parametrize(
    ("name", "sha256", "given"),
    [("mt10", OWN, "mt10"), ("mt10", OTHER, "mt10.toml"), ("half", OTHER, "half.toml")],
)
def test_a_protocol_is_played_again_by_its_name(tmp_path, name, sha256, given):
    run = evaluation(tmp_path / "run", {"push": [True]}, recorded=0)
    settings = run / "evaluation" / "settings.json"
    settings.write_text(
        json.dumps({**json.loads(settings.read_text(encoding="utf-8")), "protocol": name, "protocol_sha256": sha256}),
        encoding="utf-8",
    )
    page = written(run)
    assert f"videopolicy evaluate --checkpoint runs/x/checkpoint --protocol {given} " in page.words
    assert "--task" not in page.words and "--env" not in page.words


def test_a_run_without_losses_or_recordings_says_what_is_missing(tmp_path):
    page = written(evaluation(tmp_path / "run", {"push": [True]}, recorded=0))
    assert page.headings() == ["Success", "Settings"]
    assert "No episode was recorded" in page.words and "--record" in page.words
    assert not page.all("video") and not page.all("button")


def test_a_policy_without_imagination_shows_what_it_executed(run):
    for video in run.glob("evaluation/recordings/*/imagined_*.mp4"):
        video.unlink()
    page = written(run)
    assert "imagined no frames" in page.words
    assert len(page.all("video")) == 2
    assert "Imagined against executed" not in page.headings()


def test_several_tasks_get_a_row_each_and_a_plot(tmp_path):
    page = written(evaluation(tmp_path / "run", {"push": [True, False], "pull": [False, False]}))
    assert "success 1/4" in page.words
    assert "2 tasks: push, pull" in page.words
    assert any("pull 0 %" in a.get("aria-label", "") for a in page.all("div"))


def test_episodes_that_ended_oddly_are_counted_and_said_how(tmp_path):
    run = evaluation(tmp_path / "run", {"push": [True, False, False, False], "pull": [False]}, recorded=0)
    path = run / "evaluation" / "results.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert "without having come to their end" not in written(run).words
    endings = ("success", "crashed", "nan from the policy", "horizon", "timed out")
    for row, ended in zip(rows, endings, strict=True):
        row |= {"ended": ended} | ({"steps": 0} if ended in ("crashed", "timed out") else {})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    page = written(run)
    said = "3 of 5 episodes count as failures without having come to their end"
    assert f"{said}: 1 crashed, 1 nan from the policy, 1 timed out." in page.words
    # Nobody knows how long an episode was whose process died.
    assert re.search(r"push</th><td>1/4</td>.*?<td>20</td>", page.rawdata)
    assert re.search(r"pull</th><td>0/1</td>.*?<td>–</td>", page.rawdata)


def test_text_is_escaped_wherever_it_comes_from(tmp_path):
    nasty = '<script>alert("x")</script>&'
    run = evaluation(tmp_path / "run", {"push": [True], "pull": [True]})
    for path in run.glob("evaluation/recordings/*/plans.json"):
        path.write_text(
            json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"instruction": nasty + path.parent.name}),
            encoding="utf-8",
        )
    settings = {"env": nasty, "tasks": [nasty], "policy": "checkpoint", "target": nasty, "sampling": {nasty: nasty}}
    (run / "evaluation" / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    rows = run / "evaluation" / "results.jsonl"
    rows.write_text(
        rows.read_text(encoding="utf-8")
        + json.dumps(json.loads(rows.read_text(encoding="utf-8").split("\n")[0]) | {"task": nasty, "recorded": False})
        + "\n",
        encoding="utf-8",
    )
    page = written(run)
    assert len(page.all("script")) == 1
    assert nasty in page.words


def test_the_first_cards_take_turns_over_tasks_and_outcomes():
    def result(task, episode, success):
        return Result(task, episode, 0, success, 10, 1.0, 1, True)

    rows = tuple(result(task, n, n < 8) for task in ("pull", "push") for n in range(10))
    first = {(row.task, row.success) for row in order(rows)[:4]}
    assert first == {("pull", True), ("pull", False), ("push", True), ("push", False)}
    assert sorted(order(rows), key=lambda r: (r.task, r.episode)) == list(rows)


def test_a_failing_report_leaves_the_earlier_one_and_nothing_else(run):
    earlier = write_report(run).read_bytes()
    assert write_report(run).read_bytes() == earlier
    before = sorted(path.name for path in run.iterdir())
    shutil.rmtree(run / "evaluation" / "recordings" / "push-1")
    with pytest.raises(UserError, match="push-1"):
        write_report(run)
    assert (run / "report.html").read_bytes() == earlier
    assert sorted(path.name for path in run.iterdir()) == before


def test_a_page_of_many_recordings_plays_the_first_and_measures_all(tmp_path, monkeypatch):
    monkeypatch.setattr(episodes, "MOST", 2)
    page = written(evaluation(tmp_path / "run", {"push": [True, False, True]}, recorded=3))
    assert len(page.all("video")) == 2
    assert "2 of 3 recorded episodes; all of them are measured below" in page.words
    monkeypatch.setattr(episodes, "MOST", 3)
    whole = written(tmp_path / "run")
    assert "recorded episodes; all" not in whole.words and len(whole.all("video")) == 3
    measured = [one.words.partition("Imagined against executed")[2] for one in (page, whole)]
    assert "PSNR" in measured[0] and measured[0] == measured[1]
