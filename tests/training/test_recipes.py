"""The paper's stages and ablations, seen in the batches that are drawn and in the weights that move."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from tests.small import MODEL, TRAINING, Partly, same, write_data

from videopolicy import checkpoint, registry
from videopolicy.cli.main import main
from videopolicy.clips.dataset import ClipBatch, Clips
from videopolicy.clips.normalize import Normalizer
from videopolicy.datasets.mixture import Source
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.prepare import build
from videopolicy.training.stages import JOINT

pytestmark = pytest.mark.slow

HALF = "reach-red"
WHOLE = ("--validation-episodes", "0")


@pytest.fixture(scope="session")
def dots(tmp_path_factory):
    """Two episodes, one of either task, of the size of the preset."""
    return write_data(tmp_path_factory.mktemp("recipes") / "dots", episodes=2, size=64, steps=36)


@pytest.fixture
def drawn(monkeypatch):
    """Every batch that is drawn to train on, with the clips it is of and their numbers."""
    found: list[tuple[Clips, np.ndarray, ClipBatch]] = []
    batch = Clips.batch

    def spied(self, indices, rng):
        taken = batch(self, indices, rng)
        if rng is not None:
            found.append((self, indices, taken))
        return taken

    monkeypatch.setattr(Clips, "batch", spied)
    return found


def train(dots, out, *more):
    main(["train", "--data", str(dots), "--out", str(out), "--views", "top", "--log-every", "1", *more])


def lines(run):
    return [json.loads(line) for line in (run / "losses.jsonl").read_text(encoding="utf-8").splitlines()]


def test_half_tasks_give_actions_of_these_tasks_alone_and_video_of_all(dots, drawn, tmp_path):
    train(
        dots, tmp_path / "run", "--actions-for", HALF, "--batch-size", "3", "--steps", "3", "--validation-episodes", "0"
    )
    assert len(drawn) == 3
    every = [
        clip for _, _, batch in drawn for clip in zip(batch.instructions, batch.has_actions, batch.actions, strict=True)
    ]
    assert {instruction for instruction, _, _ in every} == {"reach the red disc", "reach the blue disc"}
    for instruction, has_actions, actions in every:
        assert has_actions == ("red" in instruction)
        assert actions.any() == has_actions
    shares = [float(batch.has_actions.mean()) for _, _, batch in drawn]
    assert [line["with_actions"] for line in lines(tmp_path / "run")] == pytest.approx(shares)


@pytest.mark.parametrize(("horizon", "offsets"), [(None, (8, 16)), (32, (8, 16, 24, 32)), (16, (8, 16)), (0, (0,))])
def test_the_video_looks_as_far_ahead_as_said_and_the_actions_stay(dots, drawn, tmp_path, horizon, offsets):
    more = [] if horizon is None else ["--video-horizon", str(horizon)]
    train(dots, tmp_path / "run", "--batch-size", "4", "--steps", "1", *more)
    ((clips, indices, batch),) = drawn
    latents = checkpoint.load(tmp_path / "run" / "checkpoint")[0].latents
    dataset = registry.build("datasets", "lerobot", dots)
    numbers = np.searchsorted(clips.episodes.starts, indices, side="right") - 1
    for clip, (number, index) in enumerate(zip(numbers, indices, strict=True)):
        episode = dataset.episode(int(clips.episodes.first[number]) // 36)
        start = index - clips.episodes.starts[number]
        shown = [min(start + offset, 35) for offset in offsets]
        codes = latents.encode(torch.from_numpy(episode.views["top"])).numpy()
        np.testing.assert_allclose(batch.future[clip, 0], codes[shown], atol=2e-2)
        np.testing.assert_allclose(batch.current[clip, 0], codes[start], atol=2e-2)
        steps = np.minimum(start + np.arange(16), 35)
        np.testing.assert_allclose(clips.normalizer.invert(batch.actions[clip]), episode.actions[steps], atol=1e-5)


def test_a_horizon_is_kept_by_the_stage_that_follows(dots, drawn, tmp_path):
    train(dots, tmp_path / "video", "--stage", "video", "--video-horizon", "0", "--batch-size", "2", "--steps", "1")
    init = ["--stage", "action", "--init", str(tmp_path / "video" / "checkpoint")]
    main(["train", "--data", str(dots), "--out", str(tmp_path / "action"), "--batch-size", "2", "--steps", "1", *init])
    assert [batch.future.shape[2] for _, _, batch in drawn] == [1, 1]
    assert checkpoint.load(tmp_path / "action" / "checkpoint")[0].config.window.first == 0


@pytest.mark.parametrize(
    ("stage", "moved"),
    [
        ("video", {"backbone", "text"}),
        ("action", {"head"}),
        ("joint", {"backbone", "text", "head"}),
        ("end_to_end", {"backbone", "text", "head"}),
    ],
)
def test_a_stage_moves_its_own_weights_and_no_others(trainer, stage, moved):
    run = trainer(stage=stage)
    policy = run.objective.model
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    run.train()
    assert {
        n.partition(".")[0] for n, value in policy.state_dict().items() if not torch.equal(value, before[n])
    } == moved


def test_the_second_stage_acts_through_the_video_model_of_the_first(trainer):
    first = trainer("first", stage="video")
    first.train()
    learnt = checkpoint.load(first.run / "checkpoint")[0]
    second = trainer("second", stage="action", init=learnt)
    fresh = trainer("untuned", stage="action")
    second.train()
    result = checkpoint.load(second.run / "checkpoint")[0]
    assert learnt.head is None and result.head is not None
    assert same(result.backbone, learnt.backbone) and same(result.text, learnt.text)
    assert not same(fresh.objective.model.backbone, learnt.backbone)


@pytest.mark.parametrize("through", [0.0, 0.5, 1.0])
def test_the_action_loss_reaches_the_video_model_only_if_attached(trainer, through):
    run = trainer(stage=replace(JOINT, through=through))
    policy, batch = run.objective.model, run.clips.batch(np.arange(3), None)
    run.objective(batch, draw_noise(policy, run.training, batch, generator_of(0, 0))).mean_actions.backward()
    reached = [weight.grad is not None and bool(weight.grad.any()) for weight in policy.backbone.parameters()]
    assert any(reached) == bool(through)
    assert any(weight.grad.any() for weight in policy.head.parameters())


def test_attached_features_change_what_the_video_model_learns(dots, tmp_path):
    """Preset `tiny` detaches them by itself."""
    learnt = {}
    for features in ("", "detached", "0", "0.5", "attached"):
        out = tmp_path / (features or "plain")
        more = ["--features", features] if features else []
        train(dots, out, "--preset", "tiny", "--batch-size", "2", "--steps", "1", *more)
        learnt[features] = checkpoint.load(out / "checkpoint")[0].backbone
    assert same(learnt[""], learnt["detached"]) and same(learnt[""], learnt["0"])
    different = [learnt[features] for features in ("", "0.5", "attached")]
    assert not any(same(one, other) for one, other in combinations(different, 2))


def test_clips_without_actions_teach_the_head_nothing(trainer, dataset):
    run = trainer(data=Partly(dataset, {1, 3}), stage="joint")
    has_actions = run.clips.batch(np.arange(len(run.clips)), None).has_actions
    acted, watched = np.nonzero(has_actions)[0][::9][:2], np.nonzero(~has_actions)[0][::9][:2]
    mixed, alone = (run.clips.batch(indices, None) for indices in (np.append(acted, watched), acted))
    policy = run.objective.model
    noise = draw_noise(policy, TRAINING, mixed, generator_of(0, 0))
    head = list(policy.head.parameters())
    of_mixed = torch.autograd.grad(run.objective(mixed, noise).mean_actions, head)
    of_alone = torch.autograd.grad(run.objective(alone, noise.rows(0, 2)).mean_actions, head)
    for first, second in zip(of_mixed, of_alone, strict=True):
        torch.testing.assert_close(first, second)
    assert any(gradient.any() for gradient in of_alone)


@pytest.mark.parametrize("stage", ["action", "end_to_end"])
def test_what_learns_by_actions_alone_sees_no_clip_without_them(trainer, dataset, drawn, stage):
    """Nor a data set without any, whatever its weight; the others' weights hold."""
    half = Partly(dataset, {1, 3})
    sources = (
        Source(half, "half", 1.0),
        Source(Partly(dataset, {0, 1, 2, 3}), "none", 5.0),
        Source(dataset, "all", 3.0),
    )
    run = trainer(data=sources, batch_size=8, steps=2, stage=stage)
    run.train()
    assert all(batch.has_actions.all() for _, _, batch in drawn)
    assert run.clips.shares == (0.25, 0.0, 0.75) and run.clips.share_with_actions == 1
    assert run.clips.episodes.number[run.clips.episodes.source == 0].tolist() == [0, 2]
    provenance = checkpoint.load(run.run / "checkpoint")[1]
    assert (provenance.episodes, provenance.without_actions, provenance.video_only) == (6, 0, ())


def test_batches_mix_clips_with_and_without_actions_as_weighted_and_the_log_says_so(trainer, dataset, drawn):
    weighted = (Source(dataset, "acted", 3.0), Source(Partly(dataset, {0, 1, 2, 3}), "watched", 1.0))
    run = trainer(data=weighted, batch_size=8, steps=4, model=replace(MODEL, views=("top",)))
    run.train()
    assert [int(batch.has_actions.sum()) for _, _, batch in drawn] == [6] * 4
    assert [line["with_actions"] for line in lines(run.run)] == [0.75] * 4


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--video-horizon", "12"], "8 control steps apart cannot reach 12 ahead; 8 or 16 would do"),
        (["--video-horizon", "-8"], "--video-horizon is -8"),
        (["--stage", "action", "--features", "attached"], "--features is about --stage joint"),
        (["--preset", "cloning", "--features", "attached"], "--features is about --stage joint"),
        (["--preset", "cloning", "--stage", "joint"], "generates no video, so stage 'joint' is not for it"),
        (["--preset", "cloning", "--video-horizon", "8"], "generates no video: leave --video-horizon out"),
    ],
)
def test_what_makes_no_sense_is_refused(dots, tmp_path, capsys, more, message):
    with pytest.raises(SystemExit) as ending:
        train(dots, tmp_path / "run", *more)
    assert ending.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_head_that_reads_other_frames_is_refused(dots, tmp_path, capsys):
    config = registry.entry("presets", "tiny").model
    built = build(replace(config, views=("top",)), Normalizer((-1.0, -1.0), (1.0, 1.0)), 0)
    checkpoint.save(built, checkpoint.Provenance("joint", 0), tmp_path / "acts")
    more = ["--init", str(tmp_path / "acts"), "--video-horizon", "0"]
    with pytest.raises(SystemExit):
        main(["train", "--data", str(dots), "--out", str(tmp_path / "run"), *more])
    assert "reads 2 frames a view, not 1; begin from a checkpoint of --stage video" in capsys.readouterr().err
