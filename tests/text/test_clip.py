"""CLIP's text tower: OpenCLIP's numbers, token by token; frozen, remembered, refused when too long."""

import copy

import pytest
import torch
import torch.nn.functional as F
from tests.golden.fill import fill

from videopolicy.errors import UserError
from videopolicy.text import base, clip
from videopolicy.text.clip_keys import from_openclip, to_openclip
from videopolicy.text.clip_tokens import END, START, VOCABULARY, tokenize

SMALL = clip.Config(width=24, hidden=32, layers=2, heads=4)
INSTRUCTIONS = ["open the drawer", "Press the red button, then don't move 12 cm."]


def openclip_weights(config=SMALL):
    """What OpenCLIP's text tower stores, each drawn from its own name."""
    width = config.hidden
    shapes: dict[str, tuple[int, ...]] = {
        "positional_embedding": (77, width),
        "text_projection": (width, config.width),
        "token_embedding.weight": (VOCABULARY, width),
        "ln_final.weight": (width,),
        "ln_final.bias": (width,),
    }
    block = {
        "ln_1.weight": (width,),
        "ln_1.bias": (width,),
        "attn.in_proj_weight": (3 * width, width),
        "attn.in_proj_bias": (3 * width,),
        "attn.out_proj.weight": (width, width),
        "attn.out_proj.bias": (width,),
        "ln_2.weight": (width,),
        "ln_2.bias": (width,),
        "mlp.c_fc.weight": (4 * width, width),
        "mlp.c_fc.bias": (4 * width,),
        "mlp.c_proj.weight": (width, 4 * width),
        "mlp.c_proj.bias": (width,),
    }
    for layer in range(config.layers):
        shapes |= {f"transformer.resblocks.{layer}.{name}": shape for name, shape in block.items()}
    return {name: fill(name, shape) for name, shape in shapes.items()}


def openclip_token(weights, tokens, heads):
    """OpenCLIP's forward pass, written out: padded to 77, causal, read at the end-of-text token."""

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"])

    x = weights["token_embedding.weight"][torch.tensor(tokens + [0] * (77 - len(tokens)))]
    x = x + weights["positional_embedding"]
    later = torch.full((77, 77), float("-inf")).triu(1)
    for layer in range(1 + max(int(name.split(".")[2]) for name in weights if "resblocks" in name)):
        block = f"transformer.resblocks.{layer}"
        part = {name.removeprefix(f"{block}."): value for name, value in weights.items() if name.startswith(block)}
        projected = F.linear(norm(f"{block}.ln_1", x), part["attn.in_proj_weight"], part["attn.in_proj_bias"])
        q, k, v = (p.unflatten(1, (heads, -1)).transpose(0, 1) for p in projected.chunk(3, 1))
        seen = torch.softmax(q @ k.mT / q.shape[-1] ** 0.5 + later, -1) @ v
        x = x + F.linear(seen.transpose(0, 1).flatten(1), part["attn.out_proj.weight"], part["attn.out_proj.bias"])
        wide = F.gelu(F.linear(norm(f"{block}.ln_2", x), part["mlp.c_fc.weight"], part["mlp.c_fc.bias"]))
        x = x + F.linear(wide, part["mlp.c_proj.weight"], part["mlp.c_proj.bias"])
    return norm("ln_final", x)[len(tokens) - 1] @ weights["text_projection"]


@pytest.fixture(scope="module")
def weights():
    return openclip_weights()


@pytest.fixture
def text(weights):
    built = SMALL.build()
    built.tower.load_state_dict(from_openclip(weights))
    return built


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_the_token_is_openclips(text, weights, instruction):
    expected = openclip_token(weights, tokenize(instruction), SMALL.heads)
    assert expected.abs().max() > 0.5
    torch.testing.assert_close(text([instruction])[0, 0], expected, rtol=0, atol=1e-5)


def test_every_weight_comes_back(weights):
    back = to_openclip(from_openclip(weights))
    assert back.keys() == weights.keys()
    assert all(torch.equal(back[name], value) for name, value in weights.items())


def test_foreign_and_missing_names_are_refused_by_name(weights):
    for name in ("visual.proj", "transformer.resblocks.0.mlp.c_gate.weight"):
        with pytest.raises(UserError, match=name):
            from_openclip({**weights, name: torch.ones(1)})
    renamed = from_openclip(weights)
    with pytest.raises(UserError, match="logit_scale"):
        to_openclip({**renamed, "logit_scale": torch.ones(1)})
    lacking = "text_model.encoder.layers.1.self_attn.k_proj.bias"
    with pytest.raises(UserError, match=lacking):
        to_openclip({name: value for name, value in renamed.items() if name != lacking})


# What open_clip_torch 3.3.0 makes of these.
@pytest.mark.parametrize(
    ("instruction", "numbers"),
    [
        ("a photo of a cat", [320, 1125, 539, 320, 2368]),
        ("", []),
        (
            "Pick the Apple's 12 don't-care mug, then go!",
            [3142, 518, 3055, 568, 272, 273, 847, 713, 268, 1776, 9722, 267, 1594, 861, 256],
        ),
        ("naïve café ☕", [1097, 35689, 563, 15304, 26561]),
        ("don’t", [847, 713]),
        ("a <|endoftext|> b", [320, 27, 347, 40786, 4160, 91, 285, 321]),
        ("salt &amp;amp; pepper", [6611, 261, 8253]),
    ],
)
def test_tokens_are_clips(instruction, numbers):
    assert tokenize(instruction) == [START, *numbers, END]


def test_case_and_white_space_do_not_matter(text):
    assert torch.equal(text(["  Open THE\n drawer "]), text(["open the drawer"]))


def test_an_instruction_goes_through_the_tower_once(text):
    passes = []
    text.tower.register_forward_hook(lambda *_: passes.append(1))
    first = text(INSTRUCTIONS)
    assert len(passes) == 2
    assert torch.equal(text([*INSTRUCTIONS, "", INSTRUCTIONS[0]])[:2], first)
    assert len(passes) == 2


def test_new_weights_give_new_tokens(text):
    before = text(INSTRUCTIONS)
    other = copy.deepcopy(text)
    state = {name: value + 0.1 if value.dim() > 1 else value for name, value in text.state_dict().items()}
    other.load_state_dict(state)
    assert not torch.allclose(other(INSTRUCTIONS), before, atol=1e-3)
    assert torch.equal(text(INSTRUCTIONS), before)
    low = text.to(torch.bfloat16)(INSTRUCTIONS)
    assert low.dtype == torch.float32
    assert 0 < (low - before).abs().max() < 0.1


def test_what_inference_remembers_training_can_use(text):
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        text(INSTRUCTIONS)
    tokens = text(INSTRUCTIONS)
    assert torch.equal(tokens, copy.deepcopy(text).float()(INSTRUCTIONS)), "autocast changed what is remembered"
    scale = torch.ones(24, requires_grad=True)
    (tokens * scale).sum().backward()
    assert torch.equal(scale.grad, tokens.sum((0, 1)))


def test_it_is_frozen(text):
    assert not any(weight.requires_grad for weight in text.parameters())
    assert not text(INSTRUCTIONS).requires_grad


def test_what_clip_would_cut_is_refused(text):
    assert text(["go " * 75]).isfinite().all()
    with pytest.raises(UserError, match="76 tokens"):
        text(["go " * 76])


def test_the_full_size_is_vit_h_14s():
    with torch.device("meta"):
        full = clip.Config().build()
    # 49,408 + 77 embeddings, 24 blocks, the last norm, the projection.
    block = 4 * 1024 * (1024 + 1) + 2 * 1024 * 4096 + 4096 + 1024 + 4 * 1024
    assert sum(w.numel() for w in full.parameters()) == (49_408 + 77) * 1024 + 24 * block + 2 * 1024 + 1024**2


def test_impossible_heads_are_refused():
    with pytest.raises(UserError, match="heads"):
        clip.Config(hidden=64, heads=3)


def test_where_anybody_says_what_to_do_it_remembers_little(text, monkeypatch):
    monkeypatch.setattr(base, "MOST_REMEMBERED", 2)
    text.stay_open()
    first = text(["open"])
    for letter in "abcd":
        text([letter])
    assert torch.equal(text(["open"]), first) and len(text._known) <= 3
