import json
from dataclasses import dataclass, replace

import pytest
from tests.small import MODEL, TRAINING

from videopolicy import registry
from videopolicy.configs import from_json, to_json
from videopolicy.errors import UserError
from videopolicy.models.video_action import Config
from videopolicy.training.config import Training

PRESETS = {name: registry.entry("presets", name) for name in registry.names("presets")}
CONFIGS = [(name, part, getattr(PRESETS[name], part)) for name in PRESETS for part in ("model", "training")]


@pytest.mark.parametrize(
    "config", [*(config for *_, config in CONFIGS), MODEL, TRAINING], ids=lambda config: type(config).__module__
)
def test_a_configuration_survives_json_text(config):
    assert from_json(type(config), json.loads(json.dumps(to_json(config)))) == config


def test_every_value_is_written_not_only_the_defaults():
    changed = replace(MODEL, size=48, pad=2, views=("a", "b"), backbone=replace(MODEL.backbone, ids=(1.0, 2.0)))
    back = from_json(Config, json.loads(json.dumps(to_json(changed))))
    assert back == changed != MODEL
    assert isinstance(back.views, tuple) and isinstance(back.backbone.ids, tuple)


def test_plugins_carry_the_name_of_their_file_and_plain_settings_do_not():
    written = to_json(MODEL)
    names = {part: written[part]["plugin"] for part in ("latents", "text", "backbone", "head")}
    assert names == {
        "latents": "latents/pca",
        "text": "text/hashed_words",
        "backbone": "backbones/unet",
        "head": "heads/unet1d",
    }
    assert "plugin" not in written and "plugin" not in written["window"]


def test_what_is_left_out_takes_its_default():
    assert from_json(Training, {"steps": 7}) == Training(steps=7)


def written(**changes):
    return {**to_json(MODEL), **changes}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (written(veiws=["top"]), "'veiws'; did you mean 'views'"),
        (written(window={"frames": 2, "stride": 2, "action": 8}), "'action'; did you mean 'actions'"),
        (written(window={"frames": 2, "stride": 2}), "lacks the field 'actions'"),
        (written(backbone={"plugin": "backbones/unett"}), "'unett'; did you mean 'unet'"),
        (written(backbone={"plugin": "backbone/unet"}), "'backbone'; did you mean 'backbones'"),
        (written(backbone={"plugin": "samplers/euler"}), "'samplers'"),
        (written(backbone={"plugin": "backbones/unet", "layers": "two"}), "layers takes int, not 'two'"),
        (written(head={"plugin": 3}), "'3'"),
        (written(size="64"), "size takes int, not '64'"),
        (written(window=3), "Window is a map of its fields, not 3"),
        ([1, 2], r"\[1, 2\]"),
    ],
)
def test_a_wrong_configuration_is_refused_by_the_name_of_what_is_wrong(values, message):
    with pytest.raises(UserError, match=message):
        from_json(Config, values)


def test_the_list_of_known_settings_is_shown():
    with pytest.raises(UserError, match="known: accumulate, batch, checkpoint_gradients"):
        from_json(Training, {"zzz": 1})


def test_a_plain_map_stays_a_map():
    @dataclass(frozen=True)
    class Notes:
        notes: dict

    assert from_json(Notes, {"notes": {"a": 1}}).notes == {"a": 1}
