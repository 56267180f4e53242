"""What an output may not be, nor lie in; and where it may lie all the same."""

import os

import pytest

from videopolicy.errors import UserError
from videopolicy.places import check_place

VERBS = [
    "train",
    "evaluate",
    "record",
    "convert",
    "demo",
    "import",
    "export",
    "report",
    "imagine",
    "diagnose",
    "check",
    "label",
]


@pytest.fixture
def folder(tmp_path):
    """One of everything, by the names of its files."""
    for file in (
        "data/meta/info.json",
        "model/config.json",
        "model/model.safetensors",
        "run/config.json",
        "run/losses.jsonl",
        "run/state/state-000010/facts.json",
        "run/checkpoint/config.json",
        "run/checkpoint/model.safetensors",
        "run/evaluation/settings.json",
        "run/evaluation/results.jsonl",
        "hdf5/demo.hdf5",
    ):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    return tmp_path


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("where", "said"),
    [
        ("data", "holds a data set"),
        ("data/new", "is inside the data set"),
        ("data/meta/deep/new", "is inside the data set"),
        ("model", "holds a checkpoint"),
        ("run/checkpoint", "holds a checkpoint"),
        ("run/checkpoint/evaluation", "is inside the checkpoint"),
        ("run/state", "is inside the run"),
        ("run/state/new", "is inside the run"),
        ("run/config.json", "is inside the run"),
        ("run/evaluation/results.jsonl", "is inside the evaluation"),
        ("run/evaluation/recordings/new", "is inside the evaluation"),
    ],
)
def test_no_verb_writes_into_what_is_something_else(verb, where, said, folder):
    with pytest.raises(UserError, match=said):
        check_place(folder / where, verb)


@pytest.mark.parametrize("verb", VERBS)
def test_a_run_and_an_evaluation_are_gone_on_with_by_their_own_verbs_alone(verb, folder):
    for where, own, said in (("run", "train", "holds a run"), ("run/evaluation", "evaluate", "holds an evaluation")):
        if verb == own:
            check_place(folder / where, verb)
        else:
            with pytest.raises(UserError, match=said):
                check_place(folder / where, verb)


def test_what_looks_at_a_run_may_write_beside_its_own_files_and_nothing_else_may(folder):
    for verb in ("evaluate", "diagnose", "imagine", "report", "check", "bench", "tune"):
        for where in ("run/second", "run/report.html", "run/evaluation/diagnosis"):
            check_place(folder / where, verb)
    for verb in ("train", "record", "convert", "demo", "import", "export"):
        with pytest.raises(UserError, match="is inside the run"):
            check_place(folder / "run" / "second", verb)
        check_place(folder / "beside", verb)


def test_a_file_where_a_folder_belongs_is_refused_and_the_other_way_round(folder):
    os.mkfifo(folder / "pipe")
    for verb, where, said in (
        ("train", "hdf5/demo.hdf5", "is a file; name a folder"),
        ("evaluate", "pipe", "is a device or a pipe; name a folder"),
        ("check", "pipe", "is a device or a pipe; name a file"),
        ("report", "hdf5", "is a folder; name a file"),
    ):
        with pytest.raises(UserError, match=said):
            check_place(folder / where, verb)


def test_what_is_read_is_never_written_whatever_it_is(folder):
    for where, said in (("hdf5", "hdf5 is what is read"), ("hdf5/new", "is inside .*, which is read")):
        with pytest.raises(UserError, match=said):
            check_place(folder / where, "convert", [folder / "hdf5"])
    (folder / "link").symlink_to(folder / "hdf5")
    with pytest.raises(UserError, match=r"is inside .*, which is read"):
        check_place(folder / "link" / "new", "convert", [folder / "hdf5"])
    with pytest.raises(UserError, match=r"holds .*/data, which is read"):
        check_place(folder, "train", [folder / "data"])
    check_place(folder / "hdf5" / "new", "import", ["a-name/on-the-hub", folder / "hdf5" / "demo.hdf5"])


def test_a_run_that_is_gone_on_with_may_hold_what_it_reads(folder):
    (folder / "run" / "data" / "meta").mkdir(parents=True)
    check_place(folder / "run", "train", [folder / "run" / "data"])
