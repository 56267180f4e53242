"""Adapters beside a frozen video model, on the small policy of the other tests."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tests.small import CLONING, MODEL, TRAINING, same, small_model, write_data
from tests.training import children

from videopolicy import checkpoint, registry
from videopolicy.backbones.unet import UNet
from videopolicy.cli.main import main
from videopolicy.errors import UserError
from videopolicy.models.video_action import VideoActionModel
from videopolicy.training import lora
from videopolicy.training.config import Training
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.objective import Objective
from videopolicy.training.prepare import build
from videopolicy.training.stages import ACTION

pytestmark = pytest.mark.slow

RANK = 4
MODEL_TARGETS = UNet.lora_targets
FAST = {"lora": RANK, "lr": 1e-2, "head_lr": 1e-2, "steps": 6}
ADAPTED = tuple(f".{name}.weight" for name in MODEL_TARGETS)


@pytest.fixture(scope="module")
def init() -> VideoActionModel:
    return small_model(seed=3)


@pytest.fixture(scope="module")
def dots(tmp_path_factory):
    """One episode of the size of the preset."""
    return write_data(tmp_path_factory.mktemp("lora") / "dots", episodes=1, size=64, steps=36)


@pytest.fixture(scope="module")
def init_on_disk(tmp_path_factory):
    """A video model of the preset."""
    model = replace(registry.entry("presets", "tiny").model, views=("top",))
    built = build(model, None, seed=0)
    built.latents.fit(np.random.default_rng(0).integers(0, 256, (8, 64, 64, 3), dtype=np.uint8))
    folder = tmp_path_factory.mktemp("init") / "checkpoint"
    checkpoint.save(built, checkpoint.Provenance("video", 0), folder)
    return folder


def losses(model, clips):
    """Over the same clips and noise at every call."""
    objective = model if isinstance(model, Objective) else Objective(model, TRAINING)
    batch = clips.batch(np.arange(0, len(clips), 2), np.random.default_rng(0))
    with torch.no_grad():
        found = objective(batch, draw_noise(objective.model, objective.training_config, batch, generator_of(0, 0)))
    return torch.cat((found.video, found.actions), 1)


def weights_of(run):
    return {name: value.clone() for name, value in run.objective.model.state_dict().items()}


def is_adapter(name):
    return ".lora_" in name


@pytest.mark.parametrize("stage", ["joint", "video"])
def test_adapters_and_head_move_and_the_base_stays_to_the_bit(trainer, init, stage):
    run = trainer(init=init, stage=stage, **FAST)
    begun = weights_of(run)
    run.train()
    moved = {name for name, value in weights_of(run).items() if not torch.equal(value, begun[name])}
    assert moved == {name for name in begun if is_adapter(name) or name.startswith("head.")}
    assert moved == run.ema.weights.keys() and any(map(is_adapter, moved))
    bases, whole = init.state_dict(), lora.merged(begun)
    assert all(torch.equal(whole[name], bases[name]) for name in whole if not name.startswith("head."))
    # All attentions of the backbone: over space, over time, and to the text.
    attentions = [name for name, _ in init.backbone.named_modules() if name.endswith("to_q")]
    assert sum(map(is_adapter, moved)) == 2 * len(MODEL_TARGETS) * len(attentions) > 0


def test_a_run_begins_as_what_it_adapts(trainer, init):
    run = trainer(init=init, **FAST)
    torch.testing.assert_close(losses(run.objective, run.clips), losses(init, run.clips))


def test_adapters_alone_learn(trainer, init):
    run = trainer(init=init, stage="video", **(FAST | {"steps": 60, "batch_size": 8, "head_lr": 3e-2}))
    before = losses(run.objective, run.clips)[:, : MODEL.flat_frames].mean()
    run.train()
    after = losses(run.objective, run.clips)[:, : MODEL.flat_frames].mean()
    assert after < 0.95 * before


def test_what_is_saved_is_an_ordinary_checkpoint_that_computes_the_same(trainer, init):
    run = trainer(init=init, save_every=3, **FAST)
    run.train()
    saved, provenance = checkpoint.load(run.run / "checkpoint")
    assert saved.state_dict().keys() == init.state_dict().keys()
    changed = {n for n, v in saved.backbone.state_dict().items() if not torch.equal(v, init.backbone.state_dict()[n])}
    assert changed == {name for name in init.backbone.state_dict() if name.endswith(ADAPTED)}
    with run.averaged():
        expected = losses(run.objective, run.clips)
    torch.testing.assert_close(losses(saved, run.clips), expected, rtol=0, atol=1e-5)
    assert (expected - losses(init, run.clips)).abs().max() > 1e-2
    card = (run.run / "checkpoint" / "README.md").read_text(encoding="utf-8")
    millions = sum(parameter.numel() for parameter in saved.parameters()) / 1e6
    assert f"LoRA rank: {RANK}" in card and f"{millions:.1f} million" in card
    assert provenance.notes["LoRA rank"] == RANK


def test_it_trains_further_as_a_whole(trainer, init):
    run = trainer(init=init, **FAST)
    run.train()
    adapted, _ = checkpoint.load(run.run / "checkpoint")
    head = trainer("head", init=adapted, stage="action")
    head.train()
    again, _ = checkpoint.load(head.run / "checkpoint")
    assert same(again.backbone, adapted.backbone) and not same(again.head, adapted.head)


def test_a_resumed_run_equals_an_uninterrupted_one_to_the_bit(trainer, init):
    # The rate depends on how far the run is, so that a run of three steps is not the first half of one of six.
    whole = trainer("whole", init=init, save_every=3, decay=False, **FAST)
    whole.train()
    trainer("parts", init=init, decay=False, **(FAST | {"steps": 3})).train()
    resumed = trainer("parts", init=init, decay=False, **FAST)
    resumed.resume()
    assert resumed.step == 3
    resumed.train()
    assert same(resumed.objective.model, whole.objective.model)
    names = ("weights", "average", "optimizer", "recent")
    for name in names:
        first, second = (load_file(run.run / "state/step-000006" / f"{name}.safetensors") for run in (whole, resumed))
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
    assert same(*(checkpoint.load(run.run / "checkpoint")[0] for run in (whole, resumed)))


def test_a_run_is_not_resumed_with_other_adapters(trainer, init):
    trainer(init=init, **FAST).train()
    for other in (0, RANK + 1):
        with pytest.raises(UserError, match="trained another model"):
            trainer(init=init, **(FAST | {"lora": other})).resume()


@pytest.mark.parametrize("changes", [{"gradient_checkpointing": True}, {"accumulate": 2}])
def test_less_memory_and_the_same_gradient(trainer, init, changes):
    gradients = []
    for more in ({}, changes):
        run = trainer(init=init, max_grad_norm=1e9, **FAST, **more)
        with torch.no_grad():
            for name, weight in run.objective.named_parameters():
                # At first B is zero, and so is the gradient of A.
                weight.add_(0.1 * is_adapter(name))
        batch = run.clips.batch(run.batch_indices(0), None)
        noise = draw_noise(run.objective.model, run.training, batch, generator_of(0, 0))
        run.train_step.gradient(batch, noise)
        gradients.append({n: p.grad for n, p in run.objective.named_parameters() if p.requires_grad})
    first, second = gradients
    assert all(value is not None for value in first.values())
    torch.testing.assert_close(second, first, rtol=1e-3, atol=1e-5)


@pytest.fixture(scope="module")
def runs(data, init, tmp_path_factory):
    """The same run in one process, in two with all weights each, in two with half of them each, and in bfloat16."""
    folder, more = tmp_path_factory.mktemp("runs"), FAST | {"lr": 1e-3, "head_lr": 1e-3, "batch_size": 8}
    checkpoint.save(init, checkpoint.Provenance("joint", 0), folder / "init")
    for name, begin, changes, environment in (
        ("one", children.start, {}, {}),
        ("bf16", children.start, {"precision": "bf16"}, {}),
        ("ddp", children.start_pair, {}, {}),
        ("fsdp2", children.start_pair, {}, children.SHARDED),
    ):
        begun = begin(children.train, data, folder / name, False, more | changes, folder / "init", **environment)
        processes = begun if isinstance(begun, list) else [begun]
        assert children.wait(*processes) == [0] * len(processes), name
    return folder


@pytest.mark.parametrize(("kind", "atol"), [("ddp", 1e-5), ("fsdp2", 1e-5), ("bf16", 0.05)])
def test_two_processes_are_one_run_and_bfloat16_nearly(runs, kind, atol):
    first, second = (
        [json.loads(line) for line in (runs / name / "losses.jsonl").read_text(encoding="utf-8").splitlines()]
        for name in ("one", kind)
    )
    for part in ("video", "action"):
        found = [[line[part] for line in lines] for lines in (second, first)]
        np.testing.assert_allclose(*found, rtol=0, atol=atol)
    state = load_file(runs / kind / "state" / "step-000006" / "weights.safetensors")
    assert {value.dtype for name, value in state.items() if is_adapter(name)} == {torch.float32}
    saved, (init, _) = checkpoint.load(runs / kind / "checkpoint")[0], checkpoint.load(runs / "init")
    assert saved.state_dict().keys() == init.state_dict().keys() and not same(saved.backbone, init.backbone)


def test_it_needs_a_trained_video_model(trainer):
    with pytest.raises(UserError, match="fresh weights must learn whole: give --init"):
        trainer(**FAST)


def test_it_needs_a_video_model_that_learns():
    with pytest.raises(UserError, match="--lora is about the video model, which stage 'action' leaves as it is"):
        Training(stage=ACTION, lora=RANK)


def test_it_names_the_package_that_is_not_installed(trainer, init, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(UserError, match=r"pip install 'videopolicy\[lora\]'"):
        trainer(init=init, **FAST)


@pytest.mark.parametrize(
    ("targets", "message"), [((), "names no layers that can be adapted"), (("to_x",), "has no layers called to_x")]
)
def test_a_backbone_that_cannot_be_adapted_is_named(targets, message):
    backbone = CLONING["backbone"].build(4, 8)
    backbone.lora_targets = targets
    with pytest.raises(UserError, match=f"--lora: the backbone Images {message}"):
        lora.adapt(backbone, RANK, 0)


def test_from_the_command_line(init_on_disk, dots, tmp_path):
    line = ["train", "--data", str(dots), "--out", str(tmp_path / "run"), "--batch-size", "2", "--lora", "2"]
    line += ["--init", str(init_on_disk), "--stage", "video"]
    main([*line, "--steps", "1"])
    main([*line, "--steps", "2", "--resume"])
    saved, provenance = checkpoint.load(tmp_path / "run" / "checkpoint")
    assert (provenance.steps, provenance.notes["LoRA rank"]) == (2, 2)
    before = checkpoint.load(init_on_disk)[0]
    assert same(saved.text, before.text) and not same(saved.backbone, before.backbone)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--lora", "16"], "give --init"),
        (["--lora", "16", "--stage", "action"], "which stage 'action' leaves as it is"),
        (["--lora", "-1"], "--lora is -1"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(dots, tmp_path, capsys, more, message):
    with pytest.raises(SystemExit) as ending:
        main(["train", "--data", str(dots), "--out", str(tmp_path / "run"), "--views", "top", *more])
    assert ending.value.code == 2
    assert message in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
