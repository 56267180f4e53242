"""Cosmos-Reason1: tokens are those of diffusers' pipeline, kept as they are, and what is wrong is told in a line."""

import json
from dataclasses import replace

import pytest
import torch
from diffusers import Cosmos2_5_PredictBasePipeline
from safetensors.torch import load_file, save_file
from tests.text.reason1_folder import LENGTH, WIDTH, write
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from videopolicy.errors import UserError
from videopolicy.text import encoder, reason1

pytestmark = pytest.mark.usefixtures("cache")
SENTENCE = "press the red button"


@pytest.fixture
def folder(tmp_path):
    return write(tmp_path / "model")


@pytest.fixture
def config(folder):
    return reason1.Config(str(folder), width=WIDTH, length=LENGTH)


@torch.no_grad()
def direct(folder, sentences, length=LENGTH):
    """Tokens by the pipeline's own code, which asks nothing else of the pipeline than these."""
    pipeline = Cosmos2_5_PredictBasePipeline.__new__(Cosmos2_5_PredictBasePipeline)
    whole = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder / "text_encoder", dtype="auto").eval()
    pipeline.__dict__.update(text_encoder=whole, tokenizer=AutoTokenizer.from_pretrained(folder / "tokenizer"))
    return pipeline._get_prompt_embeds(sentences, length, torch.device("cpu"))


def test_tokens_are_those_of_the_pipeline(folder, config):
    expected = direct(folder, [SENTENCE, "open"])
    assert expected.shape == (2, LENGTH, WIDTH)
    torch.testing.assert_close(config.build()([SENTENCE, "open"]), expected, rtol=0, atol=1e-5)
    # The padding, too, differs with what stands before it.
    assert (expected[0, -1] - expected[1, -1]).abs().max() > 0.01


def test_weights_that_are_named_as_newer_versions_name_them_are_read(folder, config):
    file = folder / "text_encoder" / "model.safetensors"
    before = config.build()([SENTENCE])
    weights = {name.replace("model.", "model.language_model.", 1): value for name, value in load_file(file).items()}
    assert "model.language_model.norm.weight" in weights
    save_file(weights, file, {"format": "pt"})
    assert torch.equal(config.build()([SENTENCE]), before)


def test_what_is_kept_is_in_the_encoders_precision(folder, config, cache):
    file = folder / "text_encoder" / "model.safetensors"
    save_file({name: value.bfloat16() for name, value in load_file(file).items()}, file, {"format": "pt"})
    told = json.loads((folder / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    told["dtype"] = told["text_config"]["dtype"] = "bfloat16"
    (folder / "text_encoder" / "config.json").write_text(json.dumps(told), encoding="utf-8")
    first = config.build()([SENTENCE])
    (kept,) = cache.rglob("*.safetensors")
    assert first.dtype == load_file(kept)["tokens"].dtype == torch.bfloat16
    assert torch.equal(first, direct(folder, [SENTENCE]))


def test_what_was_encoded_once_needs_the_encoder_no_more_but_for_another_length(config, monkeypatch):
    first, longer = (replace(config, length=length).build()([SENTENCE]) for length in (LENGTH, LENGTH + 8))
    torch.testing.assert_close(longer[:, :LENGTH], first, rtol=0, atol=1e-5)
    assert longer[:, LENGTH:].abs().amin(1).any()

    def fail(_config, _kind):
        raise AssertionError("the encoder is opened again")

    monkeypatch.setattr(encoder, "open_encoder", fail)
    assert torch.equal(config.build()([SENTENCE]), first)
    assert not config.build()(["", "  "]).any()


def test_what_is_wrong_is_told_in_one_line(folder, config, monkeypatch):
    with pytest.raises(UserError, match=r"has 1\d\d tokens, but the text holds 100; shorten it$"):
        replace(config, length=100).build()([SENTENCE])
    with pytest.raises(UserError, match=rf"its tokens are {WIDTH} wide, the model's text is 100352$"):
        replace(config, width=100_352).build()(["open"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        UserError, match=r"^nvidia/Cosmos-Predict2.5-2B@diffusers/base/post-trained: no such file.*login"
    ):
        reason1.Config().build()(["open"])
    told = json.loads((folder / "text_encoder" / "config.json").read_text(encoding="utf-8"))
    (folder / "text_encoder" / "config.json").write_text(json.dumps({**told, "model_type": "t5"}), encoding="utf-8")
    with pytest.raises(UserError, match=r"describes a 't5', but text 'reason1' reads qwen2_5_vl$"):
        config.build()(["open"])


def test_a_tower_that_lacks_a_weight_or_a_tokenizer_without_its_template_is_refused(folder, config):
    file, name = folder / "text_encoder" / "model.safetensors", "model.layers.1.mlp.up_proj.weight"
    whole = load_file(file)
    save_file({key: value for key, value in whole.items() if key != name}, file, {"format": "pt"})
    with pytest.raises(UserError, match=r"layers\.1\.mlp\.up_proj\.weight is missing$"):
        config.build()([SENTENCE])
    save_file(whole, file, {"format": "pt"})
    (folder / "tokenizer" / "chat_template.jinja").unlink()
    with pytest.raises(UserError, match=r"its tokenizer has no chat template.*; take that of Qwen2\.5-VL"):
        config.build()([SENTENCE])


def test_older_descriptions_tell_the_width_among_all_else(folder, config):
    path = folder / "text_encoder" / "config.json"
    told = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**told, **told.pop("text_config"), "model_type": "qwen2_5_vl"}), encoding="utf-8")
    assert config.build()([SENTENCE]).shape == (1, LENGTH, WIDTH)


def test_the_width_is_that_of_the_published_tower():
    qwen = {"model_type": "qwen2_5_vl", "hidden_size": 3584, "num_hidden_layers": 28}
    assert reason1.Reason1.kind.width(qwen) == reason1.Config().width
