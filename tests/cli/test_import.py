"""`videopolicy import` and `videopolicy export` as a user runs them."""

import json
from dataclasses import replace
from importlib import import_module

import numpy as np
import pytest
import torch
from tests.cosmos import write_pipeline
from tests.porting.test_cosmos import TEMPLATE
from tests.porting.weights import ACTING, STATISTICS, VIDEO, head_weights, lightning, safe, svd_weights
from tests.small import Partly, write_data

from videopolicy import checkpoint, registry
from videopolicy.cli.main import main
from videopolicy.errors import UserError
from videopolicy.presets.base import preset

pytestmark = pytest.mark.slow

verb = import_module("videopolicy.cli.import")
FILES = {"config.json", "model.safetensors", "statistics.json", "README.md"}


@pytest.fixture(scope="module")
def weights():
    return svd_weights()


@pytest.fixture
def use(monkeypatch):
    """Gives the verb a small model to import for, in the place of the full-size one."""
    return lambda model: monkeypatch.setattr(verb, "preset", lambda name: replace(preset(name), model=model))


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as exit:
        main([str(argument) for argument in arguments])
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_a_video_model_in_and_out_again(weights, use, tmp_path, capsys):
    use(VIDEO)
    source, folder = safe(weights, tmp_path / "svd_xt.safetensors"), tmp_path / "checkpoint"
    main(["import", source, "--out", str(folder), "--precision", "float16"])
    lines = capsys.readouterr().out.splitlines()
    assert {file.name for file in folder.iterdir()} == FILES
    (row,) = (line.split() for line in lines if line.startswith("model.diffusion_model. "))
    assert row[1] == "1,428" and row[3] == "backbone"
    assert "without a head" in lines[-1]
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "license: other" in card and "svd_xt.safetensors" in card
    kept = checkpoint.load_file(folder / "model.safetensors")
    assert kept["backbone.net.conv_in.weight"].dtype == torch.float16
    assert kept["latents.vae.quant_conv.weight"].dtype == torch.float32
    main(["export", str(folder), "--out", str(tmp_path / "diffusers")])
    assert {file.name for file in (tmp_path / "diffusers").iterdir()} == {
        "unet",
        "vae",
        "scheduler",
        "model_index.json",
    }
    assert "holds a checkpoint" in refused(capsys, "import", source, "--out", folder)
    assert "exists" in refused(capsys, "export", folder, "--out", tmp_path / "diffusers")


def test_a_policy_takes_its_statistics_from_json_or_from_its_data(weights, use, tmp_path, capsys):
    data = write_data(tmp_path / "data", episodes=2)
    use(ACTING)
    source = lightning(weights | head_weights(), tmp_path / "three.ckpt")
    assert "--data, or the ranges themselves" in refused(capsys, "import", source, "--out", tmp_path / "no")
    given = tmp_path / "ranges.json"
    given.write_text(STATISTICS.to_json(), encoding="utf-8")
    both = ("--statistics", given, "--data", data)
    assert "exclude each other" in refused(capsys, "import", source, "--out", tmp_path / "no", *both)
    assert "actions 3 wide" in refused(capsys, "import", source, "--out", tmp_path / "no", "--data", data)
    main(["import", source, "--out", str(tmp_path / "json"), "--statistics", str(given)])
    policy, provenance = checkpoint.load(tmp_path / "json")
    assert policy.normalizer == STATISTICS and provenance.stage == "action"
    # The point-mass env has two actions.
    source = lightning(weights | head_weights(width=2), tmp_path / "two.ckpt")
    main(["import", source, "--out", str(tmp_path / "data-ranges"), "--data", str(data)])
    policy, _ = checkpoint.load(tmp_path / "data-ranges")
    actions = np.concatenate([registry.build("datasets", "lerobot", data).episode(i).actions for i in range(2)])
    np.testing.assert_allclose(policy.normalizer.low, actions.min(0))
    np.testing.assert_allclose(policy.normalizer.high, actions.max(0))


def test_data_without_actions_has_no_statistics(tmp_path, monkeypatch):
    dataset = registry.build("datasets", "lerobot", write_data(tmp_path / "data", episodes=2))
    monkeypatch.setattr(verb.registry, "build", lambda *_: Partly(dataset, {0, 1}))
    with pytest.raises(UserError, match="no episode has actions"):
        verb.fit(tmp_path / "data", "lerobot")


@pytest.mark.parametrize(
    ("ranges", "message"),
    [
        (None, "No such file"),
        ("not JSON", "JSON with ranges of actions"),
        ("null", "has no ranges of actions"),
        (json.dumps({"low": [0.0], "high": [1.0, 2.0]}), "1 numbers in low, 2 in high"),
    ],
)
def test_statistics_that_are_none_are_one_line(ranges, message, tmp_path, capsys):
    if ranges is not None:
        (tmp_path / "ranges.json").write_text(ranges, encoding="utf-8")
    arguments = ("import", "x.ckpt", "--out", tmp_path / "out", "--statistics", tmp_path / "ranges.json")
    line = refused(capsys, *arguments)
    assert message in line and "ranges.json" in line


def test_what_is_refused_leaves_nothing(weights, use, tmp_path, capsys):
    use(VIDEO)
    out = tmp_path / "out"
    whole = safe(weights, tmp_path / "svd_xt.safetensors")
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes((tmp_path / "svd_xt.safetensors").read_bytes()[:-1000])
    assert "not a whole safetensors file" in refused(capsys, "import", cut, "--out", out)
    strange = lightning(weights, tmp_path / "strange.ckpt", callbacks=tmp_path)
    assert "holds a pickled pathlib" in refused(capsys, "import", strange, "--out", out)
    (tmp_path / "svd.safetensors").write_bytes(cut.read_bytes())
    assert "14 frames" in refused(capsys, "import", tmp_path / "svd.safetensors", "--out", out)
    assert "no such file or folder" in refused(capsys, "import", tmp_path / "none.ckpt", "--out", out)
    use(replace(VIDEO, backbone=replace(VIDEO.backbone, head_channels=64)))
    assert "do not divide" in refused(capsys, "import", whole, "--out", out)
    assert not out.exists()


def test_a_video_transformer_in_and_out_again(use, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    use(TEMPLATE)
    folder = tmp_path / "checkpoint"
    published = write_pipeline(tmp_path / "published")
    main(["import", str(published), "--preset", "cosmos_2b", "--out", str(folder), "--precision", "bfloat16"])
    lines = capsys.readouterr().out.splitlines()
    became = {line.split()[0]: line.split(maxsplit=3)[3] for line in lines[1:-1]}
    assert became["transformer/"] == "backbone" and became["vae/"] == "latents"
    assert became[str(published)] == "text: read when an instruction is new"
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "license: other" in card and "NVIDIA Open Model License" in card
    kept = checkpoint.load_file(folder / "model.safetensors")
    assert kept["backbone.net.patch_embed.proj.weight"].dtype == torch.bfloat16
    assert kept["latents.vae.quant_conv.weight"].dtype == torch.float32
    main(["export", str(folder), "--out", str(tmp_path / "diffusers")])
    parts = {file.name for file in (tmp_path / "diffusers").iterdir()}
    assert parts == {"transformer", "vae", "scheduler", "model_index.json"}
