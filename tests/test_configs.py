import json
import re
from collections.abc import Iterator
from dataclasses import MISSING, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st
from tests.contracts.plugins import example
from tests.small import MODEL, TRAINING

from videopolicy import registry
from videopolicy.configs import LIMITS, PLUGIN, check_limits, from_json, limited, to_json
from videopolicy.datasets.mixture import MixtureEntry
from videopolicy.diffusion.noise.base import LogNormal
from videopolicy.errors import UserError
from videopolicy.latents import pca
from videopolicy.models.base import ModelConfig
from videopolicy.models.sampling import Sampling
from videopolicy.models.video_action import Config
from videopolicy.rollout.protocols import ProtocolTask
from videopolicy.rollout.results import Result
from videopolicy.training.config import Training
from videopolicy.training.stages import ACTION

PRESETS = {name: registry.entry("presets", name) for name in registry.names("presets")}
CONFIGS = {(name, part): getattr(preset, part) for name, preset in PRESETS.items() for part in ("model", "training")}
CONFIGS |= {("test", "model"): MODEL, ("test", "training"): TRAINING}
EVERY_CONFIG = pytest.mark.parametrize("config", CONFIGS.values(), ids=[f"{name}-{part}" for name, part in CONFIGS])


def through_text(values: Any) -> Any:
    return json.loads(json.dumps(values))


# --- any configuration: it comes back, and nothing but it does ---------------------------------------------------


@EVERY_CONFIG
def test_a_configuration_survives_json_text(config):
    assert from_json(type(config), through_text(to_json(config))) == config


def any_of(hint: Any, limits: tuple[float, float] | None = None) -> st.SearchStrategy:
    """Values of a type, within its limits."""
    origin, options = get_origin(hint) or hint, get_args(hint)
    if is_dataclass(hint):
        return any_config(hint)
    if origin in (Union, UnionType):
        return st.one_of(*(any_of(option, limits) for option in options))
    if origin is Literal:
        return st.sampled_from(options)
    if origin is tuple:
        return st.lists(any_of(options[0], limits), min_size=1, max_size=3).map(tuple)
    if origin is dict:
        return st.dictionaries(st.text(max_size=3), any_of(options[1]), max_size=2)
    least, most = limits or (1, 2**31)
    if hint is int:
        return st.integers(int(least), int(min(most, 2**53)))
    if hint is float:
        return st.floats(least, most, allow_infinity=False)
    return {bool: st.booleans(), str: st.text(max_size=8), NoneType: st.none()}[hint]


@st.composite
def any_config(draw: st.DrawFn, cls: type) -> Any:
    """A dataclass with all fields drawn; of a plug-in's configuration, one of the examples and presets."""
    hints, values = get_type_hints(cls), {}
    for known in fields(cls):
        default = known.default if known.default_factory is MISSING else known.default_factory()
        if plugin := registry.plugin_of(type(default)):
            chosen = [example(plugin[0], name) for name in registry.names(plugin[0])]
            chosen += [getattr(config, known.name) for config in CONFIGS.values() if type(config) is cls]
            values[known.name] = draw(st.sampled_from(chosen))
        else:
            values[known.name] = draw(any_of(hints[known.name], known.metadata.get(LIMITS)))
    try:
        return cls(**values)
    except UserError:
        reject()


@pytest.mark.parametrize("cls", [Config, Training, MixtureEntry, ProtocolTask, Result])
@given(data=st.data())
def test_any_configuration_survives_json_text(cls, data):
    config = data.draw(any_config(cls))
    back = from_json(cls, through_text(to_json(config)))
    assert back == config and repr(back) == repr(config)


def leaves(values: Any, at: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    """The place and the value of everything in plain JSON values."""
    yield at, values
    items = values.items() if isinstance(values, dict) else enumerate(values) if isinstance(values, list) else ()
    for key, value in items:
        yield from leaves(value, (*at, key))


def put(values: Any, at: tuple, value: Any) -> Any:
    """The same values, with another one in that place."""
    if not at:
        return value
    copy = dict(values) if isinstance(values, dict) else list(values)
    copy[at[0]] = put(copy[at[0]], at[1:], value)
    return copy


def path_of(at: tuple) -> str:
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in ("model", *at)).removeprefix(".")


# What is no value of another's type, by the name of a type in JSON. A whole number does where any number does.
OTHERS = {
    bool: ["no", 1, 0.5, [], {}],
    int: ["ten", True, [3], {}],
    float: ["ten", True, [0.5], {}],
    str: [3, 0.5, False, ["a"], {}],
    list: ["ab", 3, True, {}],
    dict: ["ab", 3, True, []],
}


@EVERY_CONFIG
@given(data=st.data())
def test_a_value_of_another_type_is_refused_by_its_path(config, data):
    values = through_text(to_json(config))
    places = [(at, value) for at, value in leaves(values) if value is not None]
    at, value = data.draw(st.sampled_from(places))
    wrong = data.draw(st.sampled_from(OTHERS[type(value)]))
    with pytest.raises(UserError) as refusal:
        from_json(type(config), put(values, at, wrong), "model")
    message = str(refusal.value)
    assert message.startswith(path_of(at)) and "; " in message and "\n" not in message


# --- one mistake each ----------------------------------------------------------------------------------------------


def test_every_value_is_written_not_only_the_defaults():
    changed = replace(MODEL, size=48, pad=2, views=("a", "b"), backbone=replace(MODEL.backbone, ids=(1.0, 2.0)))
    back = from_json(Config, through_text(to_json(changed)))
    assert back == changed != MODEL
    assert isinstance(back.views, tuple) and isinstance(back.backbone.ids, tuple)


def test_plugins_carry_their_name_and_plain_settings_do_not():
    written = to_json(MODEL)
    assert written["plugin"] == "models/video_action"
    names = {part: written[part]["plugin"] for part in ("latents", "text", "backbone", "head")}
    assert names == {
        "latents": "latents/pca",
        "text": "text/hashed_words",
        "backbone": "backbones/unet",
        "head": "heads/unet1d",
    }
    assert "plugin" not in written["window"] and "plugin" not in to_json(TRAINING)


def test_the_base_of_all_models_stands_for_any_of_them():
    written = through_text(to_json(MODEL))
    assert from_json(ModelConfig, written) == MODEL
    del written["plugin"]
    assert from_json(Config, written) == MODEL
    with pytest.raises(UserError, match=r'^model\.plugin is missing; it takes a name such as "models/NAME"'):
        from_json(ModelConfig, written, "model")
    with pytest.raises(UserError, match=r"^model\.plugin: no kind of plug-in here 'heads'; known: models"):
        from_json(ModelConfig, {"plugin": "heads/unet1d"}, "model")


def test_what_is_left_out_takes_its_default():
    assert from_json(Training, {"steps": 7}) == Training(steps=7)


def written(**changes):
    return {**to_json(MODEL), **changes}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (written(veiws=["top"]), "model: no field 'veiws'; did you mean 'views'\\? known: .*backbone"),
        (written(window={"frames": 2, "stride": 2, "action": 8}), "model.window: no field 'action'; .* 'actions'"),
        (written(window={"frames": 2, "stride": 2}), "model.window.actions is missing; it takes a whole number"),
        (written(window={"frames": 0, "stride": 2, "actions": 8}), "model.window: .*frames"),
        (written(backbone={"plugin": "backbones/unett"}), "model.backbone.plugin: .*'unett'; did you mean 'unet'"),
        (
            written(backbone={"plugin": "backbone/unet"}),
            "model.backbone.plugin: .*'backbone'; did you mean 'backbones'",
        ),
        (written(backbone={"plugin": "heads/unet1d"}), "model.backbone.plugin: .*'heads'; known: backbones"),
        (written(backbone={"plugin": "samplers/euler"}), "'samplers'"),
        (written(backbone={"channels": [32, 32]}), "model.backbone.plugin is missing"),
        (written(backbone=None), "model.backbone is null; it takes a map such as"),
        (written(backbone={"plugin": "backbones/unet", "layers": "two"}), 'model.backbone.layers is "two"; .* whole'),
        (
            written(backbone={"plugin": "backbones/unet", "attention": [1, 0]}),
            r"model.backbone.attention\[0\] is 1; .*true",
        ),
        (written(head={"plugin": 3}), "model.head.plugin is 3; it takes a name"),
        (written(size="64"), 'model.size is "64"; it takes a whole number'),
        (written(size=64.0), "model.size is 64.0; it takes a whole number"),
        (written(views=3), "model.views is 3; it takes a list, each item a text"),
        (written(views="top"), 'model.views is "top"; it takes a list'),
        (written(views=["top", 3]), r"model.views\[1\] is 3; it takes a text"),
        (written(window=3), "model.window is 3; it takes a map of its fields"),
        (written(fps="fast"), 'model.fps is "fast"; it takes a number'),
        (written(fps=10**400), "model.fps is too large"),
        ([1, 2], r"model is \[1, 2\]; it takes a map of its fields"),
    ],
)
def test_a_wrong_model_is_refused_by_the_path_of_what_is_wrong(values, message):
    with pytest.raises(UserError, match=message):
        from_json(Config, values, "model")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"decay": "no"}, 'run.json: training.decay is "no"; it takes true or false'),
        ({"steps": True}, "run.json: training.steps is true; it takes a whole number"),
        ({"minutes": "ten"}, 'run.json: training.minutes is "ten"; it takes a number'),
        ({"precision": "f16"}, 'run.json: training.precision is "f16"; it takes one of "no", "bf16", "fp16"'),
        ({"seed": None}, "run.json: training.seed is null; it takes a whole number"),
        ({"seed": "x" * 999}, 'run.json: training.seed is "x{50,60}...; it takes'),
        ({"stage": to_json(ACTION), "lora": 4}, "run.json: training: .*lora"),
        ({"lora": 2000}, "run.json: training.lora is 2000; it must be from 0 to 1024"),
        ({"noise": {"plugin": "noise/joint", "levels": {"mean": 1.0}}}, "training.noise.levels.std is missing"),
        ({"noise": {"plugin": "noise/pined"}}, "training.noise.plugin: no noise law 'pined'; did you mean 'pinned'"),
        ({"zzz": 1}, "run.json: training: no field 'zzz'; known: .*gradient_checkpointing"),
    ],
)
def test_a_wrong_recipe_is_refused_by_file_and_path(values, message):
    with pytest.raises(UserError, match=message):
        from_json(Training, values, "training", Path("run.json"))


INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("at", "value", "right"),
    [
        (("size",), -3, "from 1 to 16384"),
        (("pad",), -1, "from 0 to 1024"),
        (("execute",), 0, "from 1 to 1000000"),
        (("fps",), 0, "from 0.001 to 1000000"),
        (("fps",), INF, "from 0.001 to 1000000"),
        (("sampling", "steps"), 0, "from 1 to 1000"),
        (("sampling", "steps"), 1001, "from 1 to 1000"),
        (("sampling", "sigma_max"), -1, "from 1e-06 to 1000000.0"),
        (("sampling", "sigma_min"), 0, "from 1e-06 to 1000000.0"),
        (("sampling", "guidance", "last"), NAN, "from 0 to 1000"),
        (("latents", "patch"), 0, "from 1 to 1024"),
        (("latents", "channels"), 0, "from 1 to 65536"),
        (("text", "buckets"), 0, "from 1 to 16777216"),
        (("backbone", "layers"), -1, "from 1 to 64"),
        (("backbone", "ids", 1), INF, "from 0 to 1000000"),
        (("head", "time_width"), 0, "from 1 to 65536"),
        (("head", "adapter", "size"), 0, "from 1 to 1024"),
    ],
)
def test_a_model_is_held_to_its_ranges(at, value, right):
    values = put(through_text(to_json(MODEL)), at, value)
    told = float(value) if type(leaf(to_json(MODEL), at)) is float or at == ("fps",) else value
    with pytest.raises(UserError, match=rf"^{re.escape(path_of(at))} is {told}; it must be {right}$"):
        from_json(Config, values, "model")


def leaf(values: Any, at: tuple) -> Any:
    return leaf(values[at[0]], at[1:]) if at else values


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": INF}, "training.lr is inf; it must be from 0 to 1e"),
        ({"head_lr": NAN}, "training.head_lr is nan; it must be from 0 to 1e"),
        ({"weight_decay": -1}, "training.weight_decay is -1.0; it must be from 0 to 1e"),
        ({"jitter": {"hue": 2}}, "training.jitter.hue is 2.0; it must be from 0 to 0.5"),
        *(
            ({"noise": {"plugin": f"noise/{law}", part: {"mean": 0, "std": -1}}}, f"training.noise.{part}.std is -1.0")
            for law, part in (("joint", "levels"), ("independent", "actions"), ("pinned", "video"))
        ),
        ({"noise": {"plugin": "noise/joint", "levels": {"mean": INF, "std": 1}}}, "training.noise.levels.mean is inf"),
        ({"noise": {"plugin": "noise/pinned", "sigma": INF}}, "training.noise.sigma is inf; it takes a finite number"),
    ],
)
def test_a_recipe_is_held_to_its_ranges(values, message):
    with pytest.raises(UserError, match=f"^{message}"):
        from_json(Training, values, "training")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: replace(MODEL, size=-3), "model.size is -3; it must be from 1 to"),
        (lambda: Sampling(steps=0), "sampling.steps is 0; it must be from 1 to 1000"),
        (lambda: LogNormal(0.0, -1.0), "levels.std is -1.0; it must be from 0 to 50"),
        (lambda: Training(lr=INF), "--lr is inf; it must be from 0 to 1e"),
    ],
)
def test_a_range_holds_without_a_file_too(make, message):
    with pytest.raises(UserError, match=f"^{message}"):
        make()


# --- types that no configuration of ours has yet, and limits --------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A nested part."""

    width: int = limited(8, 1, 64)
    shares: tuple[float, ...] = limited((), 0, 1)

    def __post_init__(self) -> None:
        check_limits(self)


@dataclass(frozen=True)
class Everything:
    """One field a type."""

    needed: int = limited(MISSING, 0, 10)
    pair: tuple[str, float] = ("a", 1.0)
    either: int | str = 3
    number: float | int = 3
    perhaps: Part | None = None
    parts: tuple[Part, ...] = ()
    named: dict[str, Part] = field(default_factory=dict)
    listed: list[int] = field(default_factory=list)
    notes: dict = field(default_factory=dict)
    anything: Any = None


@pytest.mark.parametrize(
    "config",
    [
        Everything(3),
        Everything(3, ("b", 0.5), "four", 1.5, Part(9), (Part(1), Part(2)), {"x": Part(3)}, [4, 5]),
        Everything(3, notes={"a": 1, "b": [1, {"c": None}]}, anything=[1, "a"]),
        Everything(3, anything=pca.Config(patch=4)),
    ],
)
def test_every_type_comes_back(config):
    back = from_json(Everything, through_text(to_json(config)))
    assert back == config and repr(back) == repr(config)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "needed is missing; it takes a whole number"),
        ({"needed": 11}, "needed is 11; it must be from 0 to 10"),
        ({"needed": 1, "pair": ["a"]}, r'pair is \["a"\]; it takes a list of 2 values'),
        ({"needed": 1, "pair": ["a", "b"]}, r'pair\[1\] is "b"; it takes a number'),
        ({"needed": 1, "either": 0.5}, "either is 0.5; it takes a whole number or a text"),
        ({"needed": 1, "perhaps": {"width": "x"}}, 'perhaps.width is "x"; it takes a whole number'),
        ({"needed": 1, "parts": [{}, {"width": 65}]}, r"parts\[1\].width is 65; it must be from 1 to 64"),
        ({"needed": 1, "parts": [{"shares": [0.5, 2]}]}, r"parts\[0\].shares\[1\] is 2.0; it must be from 0 to 1"),
        ({"needed": 1, "named": {"x": 3}}, "named.x is 3; it takes a map of its fields"),
        ({"needed": 1, "listed": [True]}, r"listed\[0\] is true; it takes a whole number"),
        ({"needed": 1, "notes": []}, r"notes is \[\]; it takes a map"),
        ({"needed": 1, "anything": {PLUGIN: "latents/pac"}}, "anything.plugin: no latents 'pac'; did you mean 'pca'"),
    ],
)
def test_every_type_is_held_to(values, message):
    with pytest.raises(UserError, match=f"^{message}"):
        from_json(Everything, values)


def test_a_whole_number_becomes_any_number_and_stays_whole_where_either_would_do():
    read = from_json(Everything, {"needed": 1, "pair": ["a", 2], "number": 2})
    assert (type(read.pair[1]), type(read.number)) == (float, int)


def test_a_limit_names_the_option_where_no_file_is_read():
    with pytest.raises(UserError, match="--width is 0; it must be from 1 to 64"):
        Part(0)


def test_what_nobody_could_read_again_is_not_written():
    @dataclass(frozen=True)
    class Config:
        """As a plug-in's, but of a module that nothing finds."""

    with pytest.raises(UserError, match=r"the configuration of no backbone .*videopolicy\.backbones"):
        to_json(replace(MODEL, backbone=Config()))
