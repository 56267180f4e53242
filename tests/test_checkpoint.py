import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.disk import full_disk, modes, umask
from tests.small import ARM, CLONING, NORMALIZER, observation, relative_model, same, small_model

from videopolicy.checkpoint import HASHED, Provenance, add_mode, load, read_config, save
from videopolicy.clips.statistics import FrameStatistics
from videopolicy.durable import sha256
from videopolicy.errors import UserError
from videopolicy.models.sampling import Sampling
from videopolicy.policies.checkpoint import CheckpointPolicy

PROVENANCE = Provenance("joint", 12, ("reach-red",), ("reach the red disc",), 4, {"data": "dots", "seed": 3})
FILES = ("config.json", "model.safetensors", "statistics.json")


@pytest.fixture(scope="module")
def model():
    return small_model()


@pytest.fixture(scope="module")
def saved(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("saved") / "checkpoint"
    save(model, PROVENANCE, folder)
    return folder


@pytest.fixture
def folder(saved, tmp_path):
    """A copy to damage."""
    return shutil.copytree(saved, tmp_path / "checkpoint")


@pytest.mark.parametrize(
    ("statistics", "said"),
    [
        ('{"low": [-1, NaN], "high": [1, 2]}', r"low\[1\] is nan; it takes a finite number"),
        ('{"low": [-1, 0], "high": [Infinity, 2]}', r"high\[0\] is inf; it takes a finite number"),
        ('{"low": [-1, 3], "high": [1, 2]}', r"low\[1\] is 3, above high\[1\], which is 2"),
        ('{"low": [-1, 0], "high": [1]}', "2 numbers in low, 1 in high"),
    ],
)
def test_ranges_that_make_no_sense_are_refused_though_the_hash_is_right(statistics, said, folder):
    (folder / "statistics.json").write_text(statistics, encoding="utf-8")
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    described["sha256"]["statistics.json"] = sha256(folder / "statistics.json")
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    with pytest.raises(UserError, match=f"{re.escape(str(folder / 'statistics.json'))}: .*{said}"):
        load(folder)


def plan(model):
    return CheckpointPolicy(model, model.config.sampling).plan([observation()], [7], True)[0]


def test_it_comes_back_to_the_bit_and_plans_the_same(model, saved):
    loaded, provenance = load(saved)
    assert same(loaded, model)
    assert (loaded.config, loaded.normalizer, provenance) == (model.config, NORMALIZER, PROVENANCE)
    assert not loaded.training
    first, second = plan(model), plan(loaded)
    np.testing.assert_array_equal(first.actions, second.actions)
    np.testing.assert_array_equal(first.imagined["top"], second.imagined["top"])


def test_a_model_of_video_alone_comes_back_without_a_head(tmp_path):
    save(small_model(None), replace(PROVENANCE, stage="video"), tmp_path / "checkpoint")
    loaded, _ = load(tmp_path / "checkpoint")
    assert loaded.head is None and loaded.normalizer is None


@pytest.mark.parametrize(("mask", "right"), [(0o022, ({0o644}, {0o755})), (0o007, ({0o660}, {0o770}))])
def test_its_files_have_the_modes_that_the_umask_gives(model, tmp_path, mask, right):
    with umask(mask):
        save(model, PROVENANCE, tmp_path / "checkpoint")
    assert modes(tmp_path / "checkpoint") == right


def test_it_knows_what_its_training_frames_look_like(tmp_path):
    model = small_model()
    model.frame_statistics = {"top": FrameStatistics.of(observation().images["top"][None])}
    save(model, PROVENANCE, tmp_path / "checkpoint")
    loaded, _ = load(tmp_path / "checkpoint")
    assert loaded.frame_statistics == model.frame_statistics and loaded.normalizer == NORMALIZER
    assert CheckpointPolicy(loaded, loaded.config.sampling).spec.frames == model.frame_statistics


@pytest.mark.parametrize("normalizer", [NORMALIZER, None])
def test_one_from_before_it_knew_of_frames_opens(folder, normalizer):
    save(small_model(normalizer), PROVENANCE, folder)
    (folder / "statistics.json").write_text(normalizer.to_json() if normalizer else "null", encoding="utf-8")
    description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    description["sha256"]["statistics.json"] = sha256(folder / "statistics.json")
    (folder / "config.json").write_text(json.dumps(description), encoding="utf-8")
    loaded, _ = load(folder)
    assert loaded.normalizer == normalizer and loaded.frame_statistics == {}


def test_half_precision_takes_half_the_room_and_plans_nearly_the_same(model, saved, tmp_path):
    folder = tmp_path / "checkpoint"
    save(model, PROVENANCE, folder, dtype=torch.float16)
    sizes = [(where / "model.safetensors").stat().st_size for where in (folder, saved)]
    assert sizes[0] < 0.6 * sizes[1]
    loaded, _ = load(folder)
    assert next(loaded.backbone.parameters()).dtype == torch.float32
    np.testing.assert_allclose(plan(loaded).actions, plan(model).actions, atol=0.02)


def test_in_bfloat16_it_plans_nearly_the_same_and_leaves_torch_as_it_was(model, saved):
    loaded, _ = load(saved, dtype=torch.bfloat16)
    assert loaded.dtype == torch.bfloat16 and torch.get_default_dtype() == torch.float32
    assert torch.equal(loaded.latents.scale, model.latents.scale)
    whole, half = plan(model), plan(loaded)
    assert 0 < np.abs(whole.actions - half.actions).max() < 0.1


def test_the_card_tells_what_it_was_trained_on(saved):
    card = (saved / "README.md").read_text(encoding="utf-8")
    for fact in (
        "reach the red disc",
        "12 steps",
        "4 demonstrations",
        "data: dots",
        "32 x 32",
        "8 x 2 actions",
        "middle square",
    ):
        assert fact in card, fact
    assert "An action is" not in card and "on video only" not in card


def test_the_card_tells_what_was_seen_on_video_only(model, tmp_path):
    shown = replace(PROVENANCE, instructions=("close", "open", "push"), video_only=("open",), without_actions=3)
    save(model, shown, tmp_path / "checkpoint")
    card = (tmp_path / "checkpoint" / "README.md").read_text(encoding="utf-8")
    done, seen = card.split("Seen on video only")
    assert "4 demonstrations, 1 of them with actions" in done
    assert done.endswith("Trained to do, with actions:\n- close\n- push\n\n") and seen.count("\n- ") == 1
    assert "\n- open\n" in seen
    assert load(tmp_path / "checkpoint")[1] == shown
    save(model, replace(shown, video_only=shown.instructions), tmp_path / "watched")
    assert "Trained to do" not in (tmp_path / "watched" / "README.md").read_text(encoding="utf-8")


def test_the_card_calls_nothing_a_video_model_that_learnt_no_video(model, tmp_path):
    end_to_end = replace(PROVENANCE, stage="end_to_end", video_by_actions=True)
    cloning = small_model(**CLONING)
    save(cloning, end_to_end, tmp_path / "cloning")
    card = (tmp_path / "cloning" / "README.md").read_text(encoding="utf-8")
    assert "behaviour cloning, without video" in card and "# A cloning policy" in card
    assert "diffusion model" not in card and "magine" not in card
    save(model, end_to_end, tmp_path / "ablation")
    assert "what it draws need not mean anything" in (tmp_path / "ablation" / "README.md").read_text(encoding="utf-8")
    assert same(load(tmp_path / "cloning")[0], cloning)


def test_ranges_by_quantiles_come_back_and_the_card_names_them(model, saved, tmp_path):
    fitted = replace(NORMALIZER, method="quantile")
    save(small_model(fitted), PROVENANCE, tmp_path / "checkpoint")
    assert load(tmp_path / "checkpoint")[0].normalizer == fitted
    statistics = json.loads((tmp_path / "checkpoint" / "statistics.json").read_text(encoding="utf-8"))
    assert statistics["actions"]["method"] == "quantile"
    assert "its 1% and 99% quantiles in the data" in (tmp_path / "checkpoint" / "README.md").read_text(encoding="utf-8")
    assert "its smallest and largest value in the data" in (saved / "README.md").read_text(encoding="utf-8")
    assert plan(load(tmp_path / "checkpoint")[0]).actions.tolist() == plan(model).actions.tolist()


def test_statistics_that_do_not_say_how_they_were_found_are_of_the_whole_range(folder):
    old = json.dumps({"low": NORMALIZER.low, "high": NORMALIZER.high})
    (folder / "statistics.json").write_text(old, encoding="utf-8")
    told = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    told["sha256"]["statistics.json"] = sha256(folder / "statistics.json")
    (folder / "config.json").write_text(json.dumps(told), encoding="utf-8")
    assert load(folder)[0].normalizer == NORMALIZER


def test_the_card_names_the_action_space(tmp_path):
    save(small_model(action_layout="other:2"), PROVENANCE, tmp_path / "checkpoint")
    assert "- An action is `other:2`.\n" in (tmp_path / "checkpoint" / "README.md").read_text(encoding="utf-8")
    save(relative_model(), PROVENANCE, tmp_path / "relative")
    card = (tmp_path / "relative" / "README.md").read_text(encoding="utf-8")
    assert f"`{ARM['action_layout']}`, learnt as `relative_position relative_rotation_6d gripper[-1,1]`" in card
    loaded, _ = load(tmp_path / "relative")
    assert loaded.config.relative and loaded.config.relative_transform == relative_model().config.relative_transform


def test_a_checkpoint_from_before_action_layouts_has_none(folder):
    description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    for name in ("action_layout", "state_layout", "relative"):
        del description["model"][name]
    (folder / "config.json").write_text(json.dumps(description), encoding="utf-8")
    loaded, _ = load(folder)
    assert (loaded.config.action_layout, loaded.config.state_layout, loaded.config.relative) == ("", "", False)


def test_a_checkpoint_from_before_models_were_plugins_is_a_video_action_model(folder, model):
    description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    assert description["model"].pop("plugin") == "models/video_action"
    description["format"] = 1
    (folder / "config.json").write_text(json.dumps(description), encoding="utf-8")
    assert same(load(folder)[0], model)


def test_the_folder_may_be_moved_and_its_card_lost(folder, model, tmp_path):
    (folder / "README.md").unlink()
    assert same(load(folder.rename(tmp_path / "elsewhere"))[0], model)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"checkpoint.*{name}"):
        load(folder)


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(folder, name, share):
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=rf"checkpoint.*{name}"):
        load(folder)


@pytest.mark.parametrize("place", [0, 0.3, 0.7, -1])
@pytest.mark.parametrize("name", HASHED)
def test_one_altered_byte_is_noticed(folder, name, place):
    alter(folder / name, place if place == -1 else int(place * (folder / name).stat().st_size))
    with pytest.raises(UserError, match=rf"{name}.*hash"):
        load(folder)


def test_a_byte_altered_in_the_description_is_a_setting_of_its_own_or_refused_in_a_line(folder):
    """The description is there to be read and edited; what it must never do is end in a traceback."""
    whole = (folder / "config.json").read_bytes()
    refused = 0
    for place in np.random.default_rng(0).choice(len(whole), 40, replace=False):
        (folder / "config.json").write_bytes(whole)
        alter(folder / "config.json", int(place))
        try:
            load(folder)
        except UserError as error:
            assert "\n" not in str(error) and str(folder) in str(error)
            refused += 1
    assert refused > 20


def alter(file: Path, place: int) -> None:
    content = bytearray(file.read_bytes())
    content[place] ^= 1
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format": 3},
            "checkpoint format 3, but this version reads 1 to 2; a newer videopolicy .*: update videopolicy",
        ),
        ({"format": 0}, "checkpoint format 0, .*; give a checkpoint folder that `videopolicy train`"),
        ({"format": "theirs"}, "checkpoint format 'theirs', .*; give a checkpoint folder that `videopolicy train`"),
        ({"sha256": {}}, "hash"),
        ({"sha256": 3}, r"config\.json: sha256 is 3; it takes a map, each value a text"),
        ({"model": {"plugin": "models/unifed"}}, r"model\.plugin: no model 'unifed'"),
        ({"model": {"plugin": "heads/unet1d"}}, r"model\.plugin: no kind of plug-in here 'heads'"),
        ({"model": {"plugin": "models/video_action", "veiws": ["top"]}}, "'veiws'; did you mean 'views'"),
        ({"model": []}, r"config\.json: model is \[\]; it takes a map such as"),
        ({"model": {"plugin": "models/video_action"}}, "does not describe the weights"),
        ({"format": 1, "model": []}, "not the description of a checkpoint"),
        ({"provenance": {"stage": "joint"}}, r"config\.json: provenance\.steps is missing; it takes a whole number"),
        ({"provenance": {"stage": "joint", "steps": True}}, r"provenance\.steps is true; it takes a whole number"),
        ({"provenance": {"stage": "joint", "steps": -1}}, r"provenance\.steps is -1; it must be from 0 to"),
        ({"provenance": {"stage": "", "steps": 1, "noise": 3}}, r"provenance\.noise is 3; it takes a map such as"),
        ({"provenance": {"stage": "", "steps": 1, "noise": {}}}, r"provenance\.noise\.plugin is missing"),
        (
            {"provenance": {"stage": "", "steps": 1, "noise": {"plugin": "backbones/unet"}}},
            r"provenance\.noise\.plugin: no kind of plug-in here 'backbones'; known: noise",
        ),
    ],
)
def test_a_description_of_something_else_is_refused(folder, change, message):
    description = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(description | change), encoding="utf-8")
    with pytest.raises(UserError, match=message) as refusal:
        load(folder)
    assert str(folder) in str(refusal.value)


@pytest.mark.parametrize("text", ["[]", "{}", "null", "not json"])
def test_what_is_no_description_is_refused(folder, text):
    (folder / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.json: not the description"):
        load(folder)


def test_no_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="nonesuch: no such checkpoint folder"):
        load(tmp_path / "nonesuch")


def test_a_new_one_takes_the_old_ones_place_and_nothing_is_left_beside_it(folder):
    other = small_model(seed=1)
    save(other, replace(PROVENANCE, steps=13), folder)
    loaded, provenance = load(folder)
    assert same(loaded, other) and provenance.steps == 13
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_full_disk_leaves_the_old_one(folder, model):
    with full_disk(50_000), pytest.raises(UserError, match=r"checkpoint: cannot be written \(.+\)"):
        save(small_model(seed=1), replace(PROVENANCE, steps=13), folder)
    loaded, provenance = load(folder)
    assert same(loaded, model) and provenance.steps == 12
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_an_interrupt_between_the_two_renames_puts_the_old_one_back(folder, model, monkeypatch):
    rename = Path.rename

    def interrupted(self, target):
        if self.name.endswith(".partial"):
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(small_model(seed=1), PROVENANCE, folder)
    assert same(load(folder)[0], model)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_what_a_killed_process_left_does_not_stand_in_the_way(folder, model):
    for name in (".checkpoint.partial", ".checkpoint.old"):
        shutil.copytree(folder, folder.with_name(name))
    assert same(load(folder)[0], model)
    other = small_model(seed=1)
    save(other, PROVENANCE, folder)
    assert same(load(folder)[0], other)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_killed_between_the_two_renames_the_old_one_is_found(folder, model):
    left = folder.rename(folder.with_name(".checkpoint.old"))
    assert same(load(folder)[0], model)
    other = small_model(seed=1)
    save(other, PROVENANCE, folder)
    assert same(load(folder)[0], other)
    assert not left.exists()


def test_a_mode_is_added_beside_the_same_weights(folder, model):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    fast = Sampling("one_pass", 3)
    add_mode(folder, "fast", replace(fast, steps=2))
    add_mode(folder, "fast", fast)
    config = read_config(folder)
    assert config.modes == {"fast": fast}
    assert config.sampling == model.config.sampling
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in after if after[name] != before.get(name)} == {"config.json"}
    loaded, _ = load(folder)
    assert loaded.config.mode("fast") == fast


@pytest.mark.parametrize("name", ["exact", "", "so fast", "1"])
def test_a_mode_needs_a_name_of_its_own(name, folder):
    before = (folder / "config.json").read_bytes()
    with pytest.raises(UserError, match="name"):
        add_mode(folder, name, Sampling())
    assert (folder / "config.json").read_bytes() == before


def test_a_full_disk_leaves_the_modes_as_they_were(folder):
    before = (folder / "config.json").read_bytes()
    with full_disk(100), pytest.raises(UserError, match="it is as it was"):
        add_mode(folder, "fast", Sampling())
    assert (folder / "config.json").read_bytes() == before
    assert len(list(folder.iterdir())) == 4
