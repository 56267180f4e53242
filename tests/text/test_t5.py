"""T5's family: tokens are transformers' own, each instruction is encoded once, and what is wrong is told in a line."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.text.t5_folder import KINDS, write
from transformers import AutoTokenizer

from videopolicy.errors import UserError
from videopolicy.text import base, encoder, t5

pytestmark = pytest.mark.usefixtures("cache")
SENTENCE = "press the red button"


@pytest.fixture
def config(tmp_path):
    return t5.Config(str(write(tmp_path / "model")), width=16, length=8)


@torch.no_grad()
def direct(folder, kind, sentences, length):
    """Tokens as diffusers' pipelines compute them: padded, with a mask, and zeros in the end."""
    told = AutoTokenizer.from_pretrained(folder / "tokenizer")(
        sentences, padding="max_length", max_length=length, return_tensors="pt"
    )
    whole = KINDS[kind][1].from_pretrained(folder / "text_encoder").eval()
    hidden = whole(told.input_ids, attention_mask=told.attention_mask).last_hidden_state
    return hidden * told.attention_mask[..., None]


@pytest.mark.parametrize("kind", ["t5", "umt5"])
def test_tokens_are_those_of_the_pipelines(tmp_path, kind):
    folder = write(tmp_path / kind, kind)
    text = t5.Config(str(folder), width=16, length=8).build()
    expected = direct(folder, kind, [SENTENCE, "open", ""], 8)
    torch.testing.assert_close(text([SENTENCE, "open"]), expected[:2], rtol=0, atol=1e-5)
    torch.testing.assert_close(text.empty_prompt(), expected[2, 0], rtol=0, atol=1e-5)
    assert not expected[2, 1:].any()


def test_an_encoder_alone_is_a_folder_too(tmp_path, config):
    whole = tmp_path / "whole"
    write(tmp_path / "model").joinpath("text_encoder").rename(whole)
    for file in (tmp_path / "model" / "tokenizer").iterdir():
        file.rename(whole / file.name)
    assert t5.Config(str(whole), width=16, length=8).build()([SENTENCE]).any()


def test_what_was_encoded_once_needs_the_encoder_no_more(config, cache, monkeypatch):
    first = config.build()([SENTENCE, "open"])
    assert len(list(cache.rglob("*.safetensors"))) == 2

    def fail(_config, _kind):
        raise AssertionError("the encoder is opened again")

    monkeypatch.setattr(encoder, "open_encoder", fail)
    again = config.build()
    assert torch.equal(again(["open", SENTENCE]), first.flip(0))
    assert torch.equal(again([SENTENCE]), first[:1])
    assert not again(["", "  "]).any()


def test_a_damaged_file_of_the_cache_is_written_anew(config, cache):
    first = config.build()([SENTENCE])
    (kept,) = cache.rglob("*.safetensors")
    kept.write_bytes(kept.read_bytes()[:40])
    assert torch.equal(config.build()([SENTENCE]), first)
    assert torch.equal(load_file(kept)["tokens"], first[0, : len(load_file(kept)["tokens"])])


def test_other_weights_in_the_same_place_are_not_taken_for_the_first(config, tmp_path):
    first = config.build()([SENTENCE])
    write(tmp_path / "model", seed=1)
    assert not torch.equal(config.build()([SENTENCE]), first)


def test_clips_that_share_an_instruction_are_told_the_same(config):
    text, told = config.build(), [SENTENCE, "open", "", SENTENCE, ""]
    assert torch.equal(text.tell(told, torch.device("cpu")), text(told))


def test_where_nothing_can_be_kept_it_encodes_all_the_same(config, monkeypatch):
    expected = config.build()([SENTENCE])
    monkeypatch.setattr(encoder, "at_home", lambda: None)
    assert torch.equal(config.build()([SENTENCE]), expected)


def test_what_is_wrong_is_told_in_one_line(config, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"'press the red button press the red button' has 9 tokens.* holds 8; shorten"):
        config.build()([f"{SENTENCE} {SENTENCE}"])
    with pytest.raises(UserError, match=r"its tokens are 16 wide, the model's text is 24$"):
        replace(config, width=24).build()(["open"])
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"nobody/nothing: no such file.*`hf auth login` first$"):
        replace(config, source="nobody/nothing").build()(["open"])
    with pytest.raises(UserError, match=r"config\.json: does not describe a text encoder"):
        replace(config, source=str(tmp_path / "cache")).build()(["open"])


def test_a_damaged_encoder_or_one_of_another_kind_is_refused(config, tmp_path):
    part = tmp_path / "model" / "text_encoder"
    weights, told = part / "model.safetensors", json.loads((part / "config.json").read_text(encoding="utf-8"))
    whole = load_file(weights)
    name = "encoder.block.1.layer.0.SelfAttention.q.weight"
    save_file({key: value for key, value in whole.items() if key != name}, weights, {"format": "pt"})
    with pytest.raises(UserError, match=f"{name} is missing"):
        config.build()([SENTENCE])
    weights.write_bytes(b"no weights")
    with pytest.raises(UserError, match=r"no whole text encoder in it .*; download it again$"):
        config.build()([SENTENCE])
    (part / "config.json").write_text(json.dumps({**told, "model_type": "qwen2_5_vl"}), encoding="utf-8")
    with pytest.raises(UserError, match=r"describes a 'qwen2_5_vl', but text 't5' reads t5 or umt5$"):
        config.build()([SENTENCE])


def test_where_anybody_says_what_to_do_it_stays_open_and_keeps_little(config, cache, monkeypatch):
    text, opened = config.build(), []
    real = encoder.open_encoder
    monkeypatch.setattr(encoder, "open_encoder", lambda *given: opened.append(1) or real(*given))
    monkeypatch.setattr(base, "MOST_REMEMBERED", 2)
    text.stay_open()
    told = [text([sentence]) for sentence in (SENTENCE, "open", "a", "the", SENTENCE)]
    assert torch.equal(told[0], told[-1])
    assert len(opened) == 1 and len(text._known) <= 3
    assert not list(cache.rglob("*.safetensors"))
