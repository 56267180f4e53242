import json
from dataclasses import asdict, replace
from shutil import copytree

import numpy as np
import pytest

from videopolicy.cli.main import main
from videopolicy.datasets.formats import open_any
from videopolicy.diagnosis import demonstrations
from videopolicy.diagnosis.association import Group, associate
from videopolicy.diagnosis.diagnosis import MEASURES, SHARED, WHOLE, conclude, diagnose
from videopolicy.diagnosis.goal import Goal
from videopolicy.diagnosis.measures import Instruments, measure, summary
from videopolicy.diagnosis.sorting import (
    ACTIONS,
    DEPARTS,
    DISAGREE,
    FEWEST,
    LOOKS_DONE,
    NOT_THERE,
    UNREMARKABLE,
    VIDEO,
    done,
    sort,
)
from videopolicy.diagnosis.text import text
from videopolicy.errors import UserError
from videopolicy.rollout.recordings import Imagined, load

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def instruments(shown, fitted):
    (space, demonstrated), (reader, trust) = shown, fitted
    return Instruments(space, reader, trust.readable, Goal(demonstrations.of_task(demonstrated, "reach-red", "")))


@pytest.fixture(scope="module")
def diagnosed(evaluated, demonstrated):
    folder, rows = evaluated
    return diagnose(folder, rows, open_any(demonstrated))


def come_true(recording):
    """The same episode, had every plan's video and actions come true to the bit."""
    plans = []
    for plan in recording.plans:
        targets = tuple(target for target in plan.targets if target < recording.length)
        frames = {view: executed[list(targets)] for view, executed in recording.executed.items()}
        if targets:
            plans.append(Imagined(plan.step, targets, frames, recording.actions[plan.step :]))
    return replace(recording, plans=tuple(plans))


def test_a_perfect_prediction_has_skill_1_and_disagrees_no_more_than_the_reading_errs(evaluated, instruments):
    recording = come_true(load(evaluated[0] / "recordings" / "reach-red-0"))
    found = summary(measure(recording, instruments).parts)
    assert found.skill == 1 and found.ssim == pytest.approx(1)
    assert found.disagreement == found.floor


def test_a_video_in_which_nothing_moves_has_no_skill(evaluated, instruments):
    recording = come_true(load(evaluated[0] / "recordings" / "reach-red-0"))
    still = [
        replace(plan, frames={view: recording.executed[view][[plan.step] * len(plan.targets)] for view in plan.frames})
        for plan in recording.plans
    ]
    assert summary(measure(replace(recording, plans=tuple(still)), instruments).parts).skill == 0


def test_failures_are_sorted_by_what_was_wrong(diagnosed):
    by_task = {
        task: [diagnosed.sorted(one) for one in diagnosed.episodes if one.task == task and not one.success]
        for task in ("reach-red", "reach-blue")
    }
    assert all(len(found) >= 2 for found in by_task.values())
    for task, expected in (("reach-red", (ACTIONS, DISAGREE)), ("reach-blue", (VIDEO, NOT_THERE))):
        kinds = [(found.kind, found.reason) for found in by_task[task]]
        # A limit that one success in ten misses may miss a failure, too.
        assert kinds.count(expected) >= len(kinds) - 1, kinds
    assert all(diagnosed.sorted(one) is None for one in diagnosed.episodes if one.success)


def test_success_goes_with_agreement_only_where_actions_are_wrong(diagnosed):
    ties = diagnosed.associations[SHARED]
    assert ties["disagreement"]["reach-red"].auc < 0.1 and ties["disagreement"]["reach-red"].p < 0.05
    # There the actions follow the video in every episode: only its goal is wrong.
    assert ties["disagreement"]["reach-blue"].p > 0.05


def test_with_outcomes_dealt_out_anew_nothing_is_tied(diagnosed):
    # The median over many deals, as any one of them may be extreme.
    rng, found = np.random.default_rng(0), []
    for _ in range(20):
        groups = []
        for task in ("reach-red", "reach-blue"):
            episodes = [one for one in diagnosed.episodes if one.task == task]
            values = np.array([diagnosed.summary(one, SHARED).disagreement for one in episodes])
            groups.append(Group(values, rng.permutation([one.success for one in episodes])))
        found.append(associate(groups, rng))
    assert np.median([one.auc for one in found]) == pytest.approx(0.5, abs=0.15)
    assert np.median([one.p for one in found]) > 0.2


def unskilled(part, **changes):
    """A plan whose video errs ten times as much as "nothing moves"."""
    return replace(part, error=10.0, change=1.0, **changes)


def test_a_longer_life_alone_does_not_make_the_video_wrong(diagnosed):
    limit, shared = diagnosed.limits["reach-red"], diagnosed.shared["reach-red"]
    # A failure that was a success, but for its last frame.
    undone = [
        replace(one, success=False, distance=limit.executed + 1, episode=100)
        for one in diagnosed.episodes
        if one.success and one.task == "reach-red"
    ]
    compared = 0
    for short in undone:
        found, last = sort(short, limit, diagnosed.telling), short.parts[-1]
        lasting = [unskilled(last, step=step, until=step + 6) for step in range(shared, limit.steps)]
        longer = replace(short, steps=short.steps + 60, parts=(*short.parts, *lasting))
        assert summary(longer.before(limit.steps)).skill < limit.skill
        assert sort(longer, limit, diagnosed.telling) == found
        worse = replace(short, parts=tuple(unskilled(part) for part in short.parts))
        if found.reason == UNREMARKABLE:
            assert sort(worse, limit, diagnosed.telling).reason == DEPARTS
            compared += 1
    assert compared >= 3


def test_a_task_with_too_few_successes_is_not_sorted_by_the_others(diagnosed):
    red = [one for one in diagnosed.episodes if one.task == "reach-red" and one.success]
    lost = [replace(one, success=False) if one in red[FEWEST - 1 :] else one for one in diagnosed.episodes]
    found = conclude(lost, diagnosed.trust)
    failures = [one for one in found.episodes if not one.success]
    assert all((found.sorted(one) is None) == (one.task == "reach-red") for one in failures)
    count = sum(one.task == "reach-red" for one in failures)
    assert found.to_json()["failures_not_sorted"] == count
    assert f"{count}  fewer than 5 successes of the task" in text(found)


def test_a_judge_that_lets_all_pass_decides_nothing(diagnosed):
    assert done in diagnosed.telling
    alike = conclude([replace(one, distance=0.0) for one in diagnosed.episodes], diagnosed.trust)
    assert done not in alike.telling
    assert not any(found.reason == LOOKS_DONE for one in alike.episodes if (found := alike.sorted(one)))
    (line,) = (line for line in text(alike).splitlines() if "looks done: 100 %" in line)
    assert "tells nothing here" in line


def test_the_verb_writes_numbers_and_pictures_and_says_what_is_missing(evaluated, demonstrated, tmp_path, capsys):
    run = copytree(evaluated[0], tmp_path / "run" / "evaluation").parent
    last = next(row for row in reversed(evaluated[1]) if row.success)
    rows = [replace(row, recorded=row != last) for row in evaluated[1]]
    (run / "evaluation" / "results.jsonl").write_text(
        "".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8"
    )
    main(["diagnose", str(run), "--data", str(demonstrated)])
    said = capsys.readouterr().out
    assert "note: 1 successes were not recorded" in said
    assert "Is success tied to the video?" in said and "video wrong" in said
    out = run / "evaluation" / "diagnosis"
    written = json.loads((out / "diagnosis.json").read_text(encoding="utf-8"))
    assert len(written["episodes"]) == len(rows) - 1
    assert set(written["associations"]) == {SHARED, WHOLE} and set(written["associations"][WHOLE]) == set(MEASURES)
    for name in ("episodes.png", "failures.png"):
        assert (out / name).read_bytes().startswith(b"\x89PNG")


def test_demonstrations_at_another_rate_are_refused(evaluated, demonstrated, tmp_path):
    folder = copytree(evaluated[0], tmp_path / "evaluation")
    for path in folder.rglob("plans.json"):
        about = json.loads(path.read_text(encoding="utf-8"))
        path.write_text(json.dumps(about | {"fps": about["fps"] / 2}), encoding="utf-8")
    with pytest.raises(UserError, match="20 control steps a second, but 10 in"):
        diagnose(folder, evaluated[1], open_any(demonstrated))


def test_without_recordings_there_is_nothing_to_diagnose(evaluated, demonstrated):
    folder, rows = evaluated
    with pytest.raises(UserError, match="no episode was recorded"):
        diagnose(folder, [replace(row, recorded=False) for row in rows], open_any(demonstrated))
