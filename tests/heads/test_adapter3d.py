from dataclasses import replace

import pytest
import torch
from tests.small import MODEL, TRAINING, batch, small_model

from videopolicy.clips.normalize import Normalizer
from videopolicy.clips.windows import Window
from videopolicy.configs import from_json, to_json
from videopolicy.diffusion.joint import Joint
from videopolicy.errors import UserError
from videopolicy.heads import conv3d
from videopolicy.heads.adapter3d import Adapter3d, Adapter3dConfig, ResidualStage
from videopolicy.training.noise import draw_noise, generator_of
from videopolicy.training.objective import Objective, total

CONFIG = Adapter3dConfig(
    levels=(ResidualStage(16, 2, 1, stride=2), ResidualStage(16, 2, 1)),
    joins=(ResidualStage(8, 2, 1),),
    view=(),
    joint=(ResidualStage(16, 2, 1, pace=2), ResidualStage(16, 2, 2, squeeze=2, pace=2)),
    groups=4,
    side=2,
)
TAPS, TIME = (8, 12), 16


def draw(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def taps(batch=2, views=2, frames=4, sides=(4, 2)):
    pairs = enumerate(zip(TAPS, sides, strict=True))
    return tuple(draw(batch, views, frames, channels, side, side, seed=i) for i, (channels, side) in pairs)


def built(config=CONFIG, views=2, frames=4) -> Adapter3d:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return config.build(TAPS, TIME, views, frames).eval()


@pytest.mark.parametrize("views", [1, 2, 3])
@pytest.mark.parametrize(("frames", "left"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3)])
@torch.no_grad()
def test_the_length_of_the_vector_is_known_before_it_is_computed(views, frames, left):
    adapter = built(views=views, frames=frames)
    vector = adapter(taps(views=views, frames=frames), draw(2, TIME))
    assert vector.shape == (2, adapter.width) == (2, 16 * left * 2 * 2)


@torch.no_grad()
def test_every_view_frame_and_tap_counts_and_so_does_the_noise_level():
    adapter, given, time = built(), taps(), draw(2, TIME)
    before = adapter(given, time)
    for tap in range(len(given)):
        for view in range(2):
            for frame in range(4):
                changed = tuple(part.clone() for part in given)
                changed[tap][:, view, frame] += draw(*changed[tap][:, view, frame].shape, seed=9)
                assert (adapter(changed, time) - before).abs().max() > 1e-5, (tap, view, frame)
    assert (adapter(given, time + 1) - before).abs().max() > 1e-5


@torch.no_grad()
def test_views_have_nets_of_the_same_shape_and_weights_of_their_own():
    adapter = built()
    first, second = (view.state_dict() for view in adapter.views)
    assert {k: v.shape for k, v in first.items()} == {k: v.shape for k, v in second.items()}
    given, time = taps(), draw(2, TIME)
    swapped = tuple(tap.flip(1) for tap in given)
    assert not torch.allclose(adapter(swapped, time), adapter(given, time), atol=1e-3)


@torch.no_grad()
def test_all_blocks_of_a_stage_keep_the_size_but_the_first():
    adapter = built(replace(CONFIG, joint=(ResidualStage(16, 2, blocks=3, pace=2),)))
    steps = [block.mix[0].stride for block in adapter.joint[0]]
    assert steps == [(2, 1, 1), (1, 1, 1), (1, 1, 1)]


@pytest.mark.parametrize(("sides", "message"), [((4, 4), "4 x 4 cannot join features of 2 x 2"), ((8, 4), "set side")])
def test_sizes_that_do_not_fit_are_refused(sides, message):
    with pytest.raises(UserError, match=message):
        built()(taps(sides=sides), draw(2, TIME))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joins": ()}, "one fewer than levels"),
        ({"groups": 3}, "groups"),
        ({"joint": ()}, "joint"),
    ],
)
def test_a_table_that_cannot_be_is_refused(change, message):
    with pytest.raises(UserError, match=message):
        replace(CONFIG, **change)


@pytest.mark.parametrize("stage", [{"width": 20, "groups": 3}, {"width": 16, "groups": 2, "stride": 0}])
def test_a_stage_that_cannot_be_is_refused(stage):
    with pytest.raises(UserError, match="stage"):
        ResidualStage(**stage)


def test_another_number_of_taps_is_refused_when_the_head_is_built():
    with pytest.raises(UserError, match="levels for 2 taps; the backbone gives 3"):
        CONFIG.build((8, 12, 4), TIME, 1, 4)


def test_the_table_survives_a_checkpoints_json():
    for config in (conv3d.Config(), conv3d.PAPER):
        written = to_json(config)
        assert written["plugin"] == "heads/conv3d"
        assert from_json(conv3d.Config, written) == config


def test_two_views_of_four_frames_and_fourteen_actions_train_and_sample():
    model = small_model(
        Normalizer((-1.0,) * 14, (1.0,) * 14),
        views=("top", "close"),
        window=Window(frames=4, stride=2, actions=8),
        backbone=replace(MODEL.backbone, taps=("up_blocks.1", "mid_block")),
        head=conv3d.Config(channels=(16, 32), kernel=3, time_width=16, adapter=CONFIG),
    )
    objective = Objective(model, TRAINING)
    clips = batch(model)
    noise = draw_noise(model, TRAINING, clips, generator_of(0, 0))
    losses = objective(clips, noise)
    assert losses.actions.shape == (3, 8)
    total(losses).backward()
    assert not [name for name, weight in model.head.named_parameters() if weight.grad is None or not weight.grad.any()]
    torch.optim.AdamW(objective.parameter_groups()).step()
    assert total(objective(clips, noise)) < total(losses)

    condition = model.condition(draw(2, 2, 6, 4, 4), ["reach", "press"])
    drawn = model.sample(
        condition, Joint.randn_like(model.blank(2), torch.Generator().manual_seed(1)), model.config.sampling
    )
    assert drawn.actions.shape == (2, 8, 14) and drawn.actions.isfinite().all()
    assert drawn.video.shape == (2, 8, 6, 4, 4)
