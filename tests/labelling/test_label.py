"""Labels: what is read of video, written, marked, and filtered."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.models.examples.unified import example
from tests.small import CLONING, MODEL, MOTION, NORMALIZER, fitted, relative_model, small_model, write_data

from videopolicy.checkpoint import Provenance, save
from videopolicy.cli.main import main
from videopolicy.datasets.conversion.convert import convert
from videopolicy.datasets.conversion.source import ConversionSource
from videopolicy.datasets.conversion.staging import staging_folder
from videopolicy.datasets.lerobot import open_dataset
from videopolicy.datasets.mixture import open_sources
from videopolicy.diffusion.joint import Joint
from videopolicy.diffusion.noise import independent, joint, pinned
from videopolicy.errors import UserError
from videopolicy.labelling.label import label
from videopolicy.labelling.reader import ActionReader
from videopolicy.models.sampling import Sampling
from videopolicy.policies.checkpoint import CheckpointPolicy

STEPS = Sampling(steps=2)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("label") / "data", episodes=3, steps=10)


@pytest.fixture
def listed(tmp_path, data):
    """A list that shows the data without the actions of any episode, or of some."""

    def write(line="actions = false"):
        file = tmp_path / "list.toml"
        file.write_text(f'[[data]]\npath = "{data}"\n{line}\n', encoding="utf-8")
        return file

    return write


def reader(model=None, draws=3, seed=0):
    return ActionReader(CheckpointPolicy(model or fitted(example), STEPS), draws, seed)


def labelled(source, target, **kwargs):
    return label(source, None, reader(**kwargs), "run/checkpoint 0123", target, 1, ("videopolicy", "label"))


def test_every_step_of_video_has_an_action_within_reach_and_a_mark(listed, data, tmp_path):
    done = labelled(listed(), tmp_path / "out")
    written, source = open_dataset(tmp_path / "out"), open_dataset(data)
    assert len(written) == 3 and written.action_width == 2 and written.views == source.views
    for index in range(3):
        one, recorded = written.episode(index), source.episode(index)
        assert one.actions.shape == recorded.actions.shape and not np.allclose(one.actions, recorded.actions)
        assert (one.actions >= np.array(NORMALIZER.low) - 1e-5).all()
        assert (one.actions <= np.array(NORMALIZER.high) + 1e-5).all()
        assert one.labelled_by == "run/checkpoint 0123" and 0 < one.confidence <= 1
        assert one.confidence == done.confidences[index]
        assert (one.instruction, one.task, one.success, one.seed) == (
            recorded.instruction,
            recorded.task,
            recorded.success,
            recorded.seed,
        )
    assert any("read from the video" in str(note) and "episodes 0-2" in str(note) for note in written.notes)
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "run/checkpoint 0123" in card and "videopolicy label" in card
    assert not staging_folder(tmp_path / "out", "label").exists()


def test_recorded_actions_stay_to_the_bit(listed, data, tmp_path):
    labelled(listed("actions_of = [1]"), tmp_path / "out")
    written, source = open_dataset(tmp_path / "out"), open_dataset(data)
    assert written.episode(1).actions.tobytes() == source.episode(1).actions.tobytes()
    marks = [(bool(one.labelled_by), one.confidence is None) for one in map(written.episode, range(3))]
    assert marks == [(True, False), (False, True), (True, False)]


def test_an_episode_is_read_the_same_whatever_is_read_beside_it_and_otherwise_by_another_seed(data):
    every, one = open_dataset(data), reader()
    alone = one.read(every, 2)
    one.read(every, 0)
    again, other = one.read(every, 2), reader(seed=1).read(every, 2)
    assert alone.confidence == again.confidence and np.array_equal(alone.actions, again.actions)
    assert not np.array_equal(alone.actions, other.actions)


class Known:
    """In place of a model's predictions: draws of a known mean and spread around what the video shows."""

    def __init__(self, model, spread):
        self.model, self.spread = model, spread

    def __call__(self, condition, noise, sampling, clocks, given):
        step = torch.arange(noise.actions.shape[1])[None, :, None] / 100
        shown = given.video.mean((1, 2, 3, 4))[:, None, None]
        return Joint(given.video, 0.01 * shown + step + self.spread * noise.actions)


@pytest.mark.parametrize("spread", [0.0, 0.3, 3.0])
def test_confidence_is_one_over_one_plus_the_variance_of_the_draws(data, monkeypatch, spread):
    model = fitted(example)
    monkeypatch.setattr(model, "predict", Known(model, spread))
    found = reader(model, draws=64).read(open_dataset(data), 0)
    assert found.confidence == pytest.approx(1 / (1 + spread**2), rel=0.1)


def test_each_window_gives_its_first_actions_in_order(data, monkeypatch):
    model = fitted(example)
    monkeypatch.setattr(model, "predict", Known(model, 0.0))
    actions = NORMALIZER.apply(reader(model).read(open_dataset(data), 0).actions)
    rises = np.diff(actions[:, 0])
    execute = model.config.execute
    inside = [step for step in range(len(rises)) if (step + 1) % execute]
    np.testing.assert_allclose(rises[inside], 0.01, atol=1e-5)
    assert (rises[execute - 1 :: execute] < 0.01).all()


def test_a_stopped_reading_goes_on_where_it_was(listed, tmp_path, monkeypatch):
    whole = labelled(listed(), tmp_path / "whole")
    read, done = ActionReader.read, []

    def stops(self, dataset, index):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(index)
        return read(self, dataset, index)

    monkeypatch.setattr(ActionReader, "read", stops)
    with pytest.raises(KeyboardInterrupt):
        labelled(listed(), tmp_path / "out")
    assert not (tmp_path / "out").exists() and staging_folder(tmp_path / "out", "label").exists()
    with pytest.raises(UserError, match="another seed"):
        labelled(listed(), tmp_path / "out", seed=5)
    half = fitted(example).to(torch.bfloat16)
    with pytest.raises(UserError, match="precision"):
        labelled(listed(), tmp_path / "out", model=half)
    done[:] = [None]
    assert labelled(listed(), tmp_path / "out").confidences == whole.confidences
    assert done == [None, 2]
    assert not staging_folder(tmp_path / "out", "label").exists()
    one, other = (open_dataset(tmp_path / name).episode(2).actions for name in ("whole", "out"))
    assert np.array_equal(one, other)


def test_marks_survive_conversion_and_the_unsure_become_video_again(listed, tmp_path):
    done = labelled(listed("actions_of = [1]"), tmp_path / "out")
    convert(ConversionSource(tmp_path / "out", size=16), tmp_path / "small", 1)
    again = open_dataset(tmp_path / "small").episode(2)
    assert again.labelled_by == "run/checkpoint 0123" and again.confidence == done.confidences[2]
    least = max(done.confidences.values())
    file = tmp_path / "sure.toml"
    file.write_text(f'[[data]]\npath = "{tmp_path / "out"}"\nmin_confidence = {least!r}\n', encoding="utf-8")
    (source,) = open_sources([file])
    kept = [source.dataset.episode(index, ()).actions is not None for index in range(3)]
    assert kept == [done.confidences[0] >= least, True, done.confidences[2] >= least] and not all(kept)
    assert source.dataset.fingerprint != open_dataset(tmp_path / "out").fingerprint


@pytest.mark.parametrize(
    ("line", "said"), [("min_confidence = 1.5", "from 0 to 1"), ("actions = false\nmin_confidence = 0.5", "exclude")]
)
def test_a_confidence_that_makes_no_sense_is_refused(listed, line, said):
    with pytest.raises(UserError, match=said):
        open_sources([listed(line)])


def test_what_does_not_suit_the_policy_is_refused(listed, data, tmp_path):
    def refused(said, source, **kwargs):
        with pytest.raises(UserError, match=said):
            labelled(source, tmp_path / "out", **kwargs)
        assert not (tmp_path / "out").exists()

    refused("each of its 3 episodes has actions already.*actions = false", data)
    refused("view 'front'", listed(), model=small_model(views=("front",)))
    refused("20 steps a second.*acts at 5.*--fps 5", listed(), model=small_model(fps=5.0))
    refused("relative to the state", listed(), model=relative_model())
    refused(
        "own actions are 'unspecified'", listed("actions_of = [0]"), model=small_model(action_layout="delta_joints:2")
    )
    several = tmp_path / "several.toml"
    several.write_text(f'[[data]]\npath = "{data}"\n' * 2, encoding="utf-8")
    refused("lists 2 data sets", several)


def command(*arguments):
    main(["label", *map(str, arguments), "--workers", "1"])


def refused_line(capsys, *arguments):
    with pytest.raises(SystemExit) as ending:
        command(*arguments)
    assert ending.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.slow
def test_the_verb_names_the_checkpoint_and_says_what_it_wrote(listed, tmp_path, capsys):
    (tmp_path / "arm").mkdir()
    checkpoint = tmp_path / "arm" / "checkpoint"
    save(fitted(example), Provenance("joint", 1, noise=independent.Config()), checkpoint)
    command(listed(), "--checkpoint", checkpoint, "--out", tmp_path / "out", "--draws", "2", "--steps", "2")
    said = capsys.readouterr().out
    assert "labelled 3 episodes: confidence " in said and "note:" not in said
    hashed = json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))["sha256"]["model.safetensors"]
    assert open_dataset(tmp_path / "out").episode(0).labelled_by == f"arm/checkpoint {hashed[:12]}"
    assert "--draws 2 --steps 2" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "holds a data set" in refused_line(capsys, listed(), "--checkpoint", checkpoint, "--out", tmp_path / "out")


@pytest.mark.slow
def test_the_verb_refuses_what_cannot_label_and_warns_of_a_law_that_does_not_cover_it(listed, data, tmp_path, capsys):
    save(fitted(example, None), Provenance("video", 1), tmp_path / "video")
    save(small_model(), Provenance("joint", 1, noise=joint.Config()), tmp_path / "joint")
    save(small_model(**CLONING), Provenance("end_to_end", 1), tmp_path / "cloning")
    out = ("--out", tmp_path / "out")
    assert str(tmp_path / "nowhere") in refused_line(capsys, listed(), "--checkpoint", tmp_path / "nowhere", *out)
    assert "video alone" in refused_line(capsys, listed(), "--checkpoint", tmp_path / "video", *out)
    assert "reads no actions" in refused_line(capsys, listed(), "--checkpoint", tmp_path / "cloning", *out)
    assert "--draws" in refused_line(capsys, listed(), "--checkpoint", tmp_path / "joint", *out, "--draws", "1")
    assert "actions already" in refused_line(capsys, data, "--checkpoint", tmp_path / "joint", *out)
    capsys.readouterr()
    command(listed(), "--checkpoint", tmp_path / "joint", *out)
    assert "note: noise law 'joint' never shows the model video as clean" in capsys.readouterr().out


@pytest.mark.slow
def test_the_verb_labels_by_what_reads_motion_at_the_level_that_it_learnt(listed, data, tmp_path, capsys):
    law = pinned.Config(Sampling().sigma_min)
    save(fitted(replace(MODEL, **MOTION)), Provenance("end_to_end", 1, noise=law), tmp_path / "motion")
    command(listed("actions_of = [1]"), "--checkpoint", tmp_path / "motion", "--out", tmp_path / "out", "--steps", "1")
    said = capsys.readouterr().out
    assert "labelled 2 episodes: confidence " in said
    assert [line for line in said.splitlines() if line.startswith("note:")] == [
        "note: draws of one step hardly differ, so that their confidence says little; --steps 10 says more"
    ]
    recorded = [open_dataset(folder).episode(1).actions for folder in (data, tmp_path / "out")]
    assert np.array_equal(*recorded)
