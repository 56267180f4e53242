import json
import shutil

import pytest
from tests.report.samples import evaluation

from videopolicy.errors import UserError
from videopolicy.report.run import read


def test_everything_is_read(run):
    found = read(run)
    assert [r.success for r in found.results] == [True, False, True]
    assert sorted(found.recordings) == [("push", 0), ("push", 1)]
    assert found.recordings["push", 1].is_dir()
    assert set(found.losses) == {"video", "action"}
    assert found.losses["video"][0][:2] == [10, 20]


def test_a_run_that_was_not_trained_has_no_losses(run):
    (run / "losses.jsonl").unlink()
    assert read(run).losses == {}


def test_a_resumed_training_overwrites_the_steps_it_repeated(run):
    lines = [(10, 0.9), (20, 0.8), (30, 0.7), (20, 0.5), (30, 0.4)]
    (run / "losses.jsonl").write_text(
        "".join(json.dumps({"step": s, "video": v}) + "\n" for s, v in lines), encoding="utf-8"
    )
    assert read(run).losses == {"video": ([10, 20, 30], [0.9, 0.5, 0.4])}


def test_what_is_logged_at_some_steps_only_keeps_its_own_steps(run):
    rows = [{"step": 1, "video": 3, "seconds": 1}, {"step": 2, "video": 2, "video_low": 1}, {"step": 3, "video": None}]
    (run / "losses.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (run / "validation.jsonl").write_text('{"step": 2, "psnr": 20.5}\n', encoding="utf-8")
    found = read(run)
    assert found.losses == {"video": ([1, 2], [3, 2]), "video_low": ([2], [1])}
    assert found.validation == {"psnr": ([2], [20.5])} and found.throughput == {}


@pytest.mark.parametrize("name", ["evaluation/results.jsonl", "losses.jsonl"])
def test_a_line_that_is_still_being_written_waits(run, name):
    before = read(run)
    with (run / name).open("a", encoding="utf-8") as file:
        file.write('{"task": "pu')
    assert read(run) == before


@pytest.mark.parametrize("name", ["evaluation/results.jsonl", "losses.jsonl"])
@pytest.mark.parametrize("line", ['{"task": "pu', "[]", '{"step": 3, "video": "high", "task": 1}', '{"step": true}'])
def test_a_torn_line_is_named_by_file_and_number(run, name, line):
    path = run / name
    first, rest = path.read_text(encoding="utf-8").split("\n", 1)
    path.write_text(f"{first}\n{line}\n{rest}", encoding="utf-8")
    with pytest.raises(UserError, match=f"{path.name}, line 2"):
        read(run)


@pytest.mark.parametrize("name", ["evaluation", "evaluation/settings.json", "evaluation/results.jsonl"])
def test_a_run_without_an_evaluation_is_refused_with_the_command_that_makes_it(run, name):
    path = run / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(UserError, match=rf"{run}: holds no evaluation.*videopolicy evaluate"):
        read(run)


def test_the_folder_of_an_evaluation_is_read_as_the_run_that_holds_it(run):
    whole, alone = read(run), read(run / "evaluation")
    assert (whole.results, whole.settings, whole.recordings) == (alone.results, alone.settings, alone.recordings)
    assert whole.evaluation == alone.evaluation == alone.folder == run / "evaluation"
    assert whole.losses and not alone.losses


def test_no_folder_no_episode_and_torn_settings_are_refused(run, tmp_path):
    with pytest.raises(UserError, match="nowhere: holds no evaluation"):
        read(tmp_path / "nowhere")
    (run / "evaluation" / "settings.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"settings\.json holds no settings"):
        read(run)
    empty = evaluation(tmp_path / "empty", {"push": []})
    with pytest.raises(UserError, match="no episode has ended"):
        read(empty)
