"""What is wrong with a published transformer, its autoencoder or its text encoder is told in one line, by name."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.cosmos import write_pipeline
from tests.porting.test_cosmos import TEMPLATE, WEIGHTS, authors_files

from videopolicy.cli.main import main
from videopolicy.clips.normalize import Normalizer
from videopolicy.errors import UserError
from videopolicy.latents import wan
from videopolicy.latents.wan_keys import original_names
from videopolicy.porting import wan_vae
from videopolicy.porting.convert import convert
from videopolicy.porting.export import export
from videopolicy.presets.base import preset

OF_2_2 = replace(wan.EXAMPLE, levels=(1, 1, 2, 2), decoder_width=8, patch=2, averages=True)


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return write_pipeline(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def published(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "published")


def refused(source, template=TEMPLATE, **others):
    with pytest.raises(UserError) as caught:
        convert(str(source), template, **others)
    message = str(caught.value)
    assert "\n" not in message
    return message


def change(part, **facts):
    told = json.loads((part / "config.json").read_text(encoding="utf-8"))
    (part / "config.json").write_text(json.dumps({**told, **facts}), encoding="utf-8")


def rewrite(file, change):
    weights = load_file(file)
    change(weights)
    save_file(weights, file)


def save_vae(config, folder):
    torch.manual_seed(0)
    config.build().vae.save_pretrained(folder)
    return folder


def test_a_weight_that_is_missing_one_too_many_or_of_another_shape_is_named(published):
    file, name = published / "transformer" / WEIGHTS, "transformer_blocks.1.attn2.to_k.weight"
    rewrite(file, lambda weights: weights.update(extra=torch.zeros(2)))
    assert "extra does not belong there" in refused(published)
    rewrite(file, lambda weights: (weights.pop("extra"), weights.update({name: torch.zeros(24, 5)})))
    assert f"{name} is 24 x 5, but must be 24 x 16" in refused(published)
    rewrite(file, lambda weights: weights.pop(name))
    assert f"{name} is missing" in refused(published)


def test_so_it_is_in_the_authors_files_by_the_authors_names(published, tmp_path):
    authors_files(published, tmp_path)
    given = {"template": replace(TEMPLATE, latents=wan.EXAMPLE), "text": str(published)}
    net, vae = tmp_path / "transformer.safetensors", tmp_path / "vae.safetensors"
    assert "has no autoencoder; add --vae" in refused(net, **given)
    rewrite(vae, lambda weights: weights.pop("encoder.downsamples.1.residual.0.gamma"))
    assert "vae.safetensors: encoder.downsamples.1.residual.0.gamma is missing" in refused(net, vae=str(vae), **given)
    rewrite(net, lambda weights: weights.pop("net.blocks.1.mlp.layer2.weight"))
    assert "transformer.safetensors: net.blocks.1.mlp.layer2.weight is missing" in refused(net, vae=str(vae), **given)


def test_an_autoencoder_of_the_other_generation_is_refused(published, tmp_path):
    """By its channels, and, in its authors' file, by its names."""
    other = save_vae(replace(OF_2_2, mean=(0.0,) * 6, deviation=(1.0,) * 6), tmp_path / "vae")
    assert "for latents of 4 channels, but the autoencoder's have 6; it is of another generation" in refused(
        published, vae=str(other)
    )
    weights = load_file(other / WEIGHTS)
    names = original_names(weights, averages=True, blocks=wan.BLOCKS)
    save_file({names[name]: value for name, value in weights.items()}, tmp_path / "Wan2.2_VAE.safetensors")
    assert "the autoencoder of Wan 2.2, but this model denoises latents of Wan 2.1" in refused(
        published, vae=str(tmp_path / "Wan2.2_VAE.safetensors")
    )


@pytest.mark.parametrize("config", [replace(wan.EXAMPLE, levels=(1, 1, 2, 2)), OF_2_2], ids=["2.1", "2.2"])
def test_both_generations_are_read_from_folders_and_from_their_authors_files(config, tmp_path):
    folder = save_vae(config, tmp_path / "vae")
    expected = load_file(folder / WEIGHTS)
    names = original_names(expected, config.averages, wan.BLOCKS)
    save_file({names[name]: value for name, value in expected.items()}, tmp_path / "vae.safetensors")
    plain = replace(config, mean=wan.MEAN_2_1, deviation=wan.DEVIATION_2_1)
    # What a folder describes is taken from there; a file describes nothing.
    for path, template in ((folder, plain), (tmp_path / "vae.safetensors", config)):
        piece, row = wan_vae.latents(path, template)
        assert piece.config == config and row.tensors == len(expected)
        assert all(torch.equal(piece.state[f"latents.vae.{name}"], value) for name, value in expected.items())


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"in_channels": 4}, "no channel that marks the current images; take Video2World"),
        ({"extra_pos_embed_type": "learnable"}, "of Cosmos 1, with learnt positions"),
        ({"concat_padding_mask": False}, "without a mask of padded pixels"),
        ({"patch_size": [2, 2, 2]}, r"patches of \[2, 2, 2\]"),
        ({"num_layers": 1}, "taps of backbone 'cosmos' are different blocks, 0 to 0"),
        ({"num_layers": "two"}, "does not describe a part of Cosmos-Predict2"),
        ({"_class_name": "WanTransformer3DModel"}, "a WanTransformer3DModel, but .* import it for another --preset"),
    ],
)
def test_a_transformer_of_another_kind_is_refused(published, facts, told):
    change(published / "transformer", **facts)
    with pytest.raises(UserError, match=told):
        convert(str(published), TEMPLATE)


def test_an_autoencoder_of_another_kind_is_refused(published):
    change(published / "vae", temperal_downsample=[True, False])
    assert "temperal_downsample [True, False], but latents 'wan' have [True, True]" in refused(published)
    change(published / "vae", temperal_downsample=[True, True], latents_mean=[0.0])
    assert "1 means and 4 deviations" in refused(published)


def test_a_text_encoder_that_is_missing_is_said_so(published):
    shutil.rmtree(published / "text_encoder")
    message = refused(published)
    assert "https://huggingface.co/nvidia/Cosmos-Predict2-2B-Video2World" in message
    assert message.endswith("a repository with a licence to accept needs `hf auth login` first")
    change(published / "transformer", text_embed_dim=24)
    assert "attn2.to_k.weight is 24 x 16, but must be 24 x 24" in refused(published)


def test_what_a_model_cannot_take_is_refused(published):
    assert "do not divide into patches of 2, as backbone 'cosmos' wants" in refused(
        published, replace(TEMPLATE, size=36)
    )
    assert "set the model's pad to 0" in refused(published, replace(TEMPLATE, pad=1))
    assert "stands on no published video model" in refused(published, preset("tiny").model)
    ranges = Normalizer((-1.0,), (1.0,))
    assert "weights of video alone, without a head" in refused(published, statistics=ranges)
    assert "--vae is for a video transformer" in refused(published, preset("svd").model, vae="somewhere")


def test_what_no_pipeline_draws_is_not_exported(published, tmp_path):
    model = convert(str(published), TEMPLATE).model
    with pytest.raises(UserError, match="--image-encoder is for Stable Video Diffusion; Cosmos2VideoToWorldPipeline"):
        export(model, tmp_path / "out", published)
    tiny = preset("tiny").model.build(None)
    with pytest.raises(UserError, match="such as cosmos_2b, is one that diffusers knows"):
        export(tiny, tmp_path / "out")


def test_the_verb_names_the_preset(capsys, tmp_path):
    with pytest.raises(SystemExit):
        main(["import", str(tmp_path / "x.safetensors"), "--preset", "cosmos_3b", "--out", str(tmp_path / "out")])
    assert "no preset 'cosmos_3b'" in capsys.readouterr().err
