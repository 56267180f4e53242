"""The robot's state on its way from the data into the actions, in training and in acting."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from tests.small import CLONING, MODEL, TRAINING, Partly, batch, observation, same, small_model, write_data

from videopolicy import checkpoint
from videopolicy.checkpoint import Provenance
from videopolicy.clips.normalize import Normalizer
from videopolicy.clips.statistics import Statistics
from videopolicy.datasets.mixture import Source, open_sources
from videopolicy.diffusion.joint import Levels
from videopolicy.durable import sha256
from videopolicy.errors import UserError
from videopolicy.models.sampling import Sampling
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.training import state
from videopolicy.training.distributed import ProcessGroup
from videopolicy.training.noise import draw_noise
from videopolicy.training.objective import Objective, total
from videopolicy.training.prepare import prepare, suited
from videopolicy.training.run import train
from videopolicy.training.stages import END_TO_END, VIDEO

READING = {"proprioception": True, "state_width": 2}
STATES = Normalizer((-1.0, 0.0), (1.0, 4.0))
SAMPLING = Sampling(steps=2)


class Stateless:
    """A data set of which nobody recorded the states, or others of this width."""

    def __init__(self, inner, width=None):
        self._inner, self.state_width = inner, width

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def __len__(self):
        return len(self._inner)


def reading_model(**changes):
    model = small_model(**READING, **changes)
    model.state_normalizer = STATES
    # What ends in zeros, as fresh weights do, heeds no state.
    for weight in model.state.parameters():
        torch.nn.init.normal_(weight, std=0.3, generator=torch.Generator().manual_seed(weight.numel()))
    return model


def of(model, **changes):
    return replace(observation(size=model.config.size), **changes)


def plan(model, seen):
    return CheckpointPolicy(model, SAMPLING).plan([seen], [1], False)[0].actions


def test_a_clip_has_the_state_of_its_first_step_of_unit_size(dataset, tmp_path):
    model, clips = prepare(dataset, replace(MODEL, proprioception=True), TRAINING, tmp_path)
    states = np.concatenate([dataset.episode(index).states for index in range(len(dataset))])
    assert model.config.state_width == 2 and model.state_normalizer == Normalizer.fit(states)
    chosen = np.array([0, 3, 40])
    read = clips.batch(chosen, None).state
    assert np.abs(read).max() <= 1 + 1e-6
    np.testing.assert_allclose(model.state_normalizer.invert(read), states[chosen], atol=1e-5)
    for part in clips.split(1):
        assert part.state_normalizer == model.state_normalizer


@pytest.mark.parametrize("method", ["quantile", "std"])
def test_states_are_normalised_as_actions_are(dataset, tmp_path, method):
    config = replace(MODEL, proprioception=True)
    model, clips = prepare(dataset, config, replace(TRAINING, normalize=method), tmp_path)
    assert model.state_normalizer.method == model.normalizer.method == method
    read = clips.batch(np.arange(len(clips)), None).state
    if method == "std":
        np.testing.assert_allclose((read.mean(0), read.std(0)), ([0, 0], [1, 1]), atol=1e-4)
    else:
        assert np.abs(read).max() == 1


def test_without_it_nothing_of_the_states_is_read(dataset, tmp_path):
    model, clips = prepare(dataset, MODEL, TRAINING, tmp_path)
    assert clips.batch(np.array([0]), None).state is None and model.state_normalizer is None
    assert model.condition(torch.zeros(1, 1, 6, 4, 4), ["go"]).state is None
    assert len(model.action_modules) == 1


def test_data_that_have_no_states_or_others_are_refused(dataset):
    reading = replace(MODEL, proprioception=True)
    with pytest.raises(UserError, match=r"needs states, but none are recorded here; train .* without proprioception$"):
        suited(Stateless(dataset), reading, TRAINING)
    init = reading_model()
    with pytest.raises(UserError, match="its states are 5 wide, the checkpoint's 2; choose the same ones"):
        suited(Stateless(dataset, 5), init.config, TRAINING, init)
    two = [Source(dataset, "one"), Source(Stateless(dataset, 5), "two")]
    with pytest.raises(UserError, match=r"its states are 5 wide, those of .* 2; choose the same ones"):
        suited(two, reading, TRAINING)


def test_video_alone_beside_it_needs_no_states(dataset, tmp_path):
    watched = Partly(Stateless(dataset), set(range(len(dataset))))
    sources = [Source(dataset, "one"), Source(watched, "two")]
    assert suited(sources, replace(MODEL, proprioception=True), TRAINING)[1].state_width == 2
    # A head that does not learn yet reads nothing.
    config = replace(MODEL, proprioception=True)
    model, clips = prepare(Stateless(dataset), config, replace(TRAINING, stage=VIDEO), tmp_path)
    assert model.state is None and clips.state_normalizer is None


def test_so_many_clips_are_shown_without_their_state():
    model = reading_model()
    clips = batch(model)
    clips = replace(clips, state=np.ones((3, 2), np.float32))
    training = replace(TRAINING, state_dropout=0.3)
    loss = Objective(model, training)
    draws = [draw_noise(model, training, clips, torch.Generator().manual_seed(seed)).no_state for seed in range(400)]
    share = torch.stack(draws).float()
    assert share.shape == (400, 3) and share.mean().item() == pytest.approx(0.3, abs=0.04)
    hidden = loss.condition(clips).hide_state(torch.tensor([True, False, False]))
    assert hidden.state.tolist() == [[0, 0, 0], [1, 1, 1], [1, 1, 1]]
    noise = draw_noise(model, training, clips, torch.Generator().manual_seed(0))
    marked = [loss(clips, replace(noise, no_state=torch.full((3,), hide))).actions for hide in (True, False)]
    other = loss(replace(clips, state=-clips.state), replace(noise, no_state=torch.full((3,), True))).actions
    assert not torch.allclose(*marked) and torch.equal(marked[0], other)


def test_a_state_that_nobody_reads_is_not_hidden():
    with pytest.raises(UserError, match="does not read; add --proprioception"):
        Objective(small_model(), replace(TRAINING, state_dropout=0.1))


def test_what_only_the_state_tells_is_learnt_from_it():
    """The image and the noise say nothing of these actions; whoever reads the state can know them."""
    losses = {}
    for reads in (False, True):
        model = small_model(**CLONING, **(READING if reads else {})).train()
        clips = replace(batch(model), current=np.zeros_like(batch(model).current))
        loss = Objective(model, replace(TRAINING, stage=END_TO_END, conditioning_noise=0.0))
        optimizer = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], lr=3e-3)
        for step in range(60):
            generator = torch.Generator().manual_seed(step)
            state = torch.randn(3, 2, generator=generator).numpy()
            shown = replace(clips, state=state, actions=np.repeat(state[:, None], 8, 1))
            noise = draw_noise(model, loss.training_config, shown, generator)
            noise = replace(noise, levels=Levels.same(torch.full((3,), 20.0)))
            optimizer.zero_grad()
            found = total(loss(shown, noise))
            found.backward()
            optimizer.step()
            losses.setdefault(reads, []).append(found.item())
    last = {reads: np.mean(values[-15:]) for reads, values in losses.items()}
    assert last[True] < 0.5 * last[False]


def test_acting_reads_the_state_that_is_observed():
    model = reading_model()
    one, other = (plan(model, of(model, state=np.float32(values))) for values in ([0, 1], [0.5, 3]))
    assert np.abs(one - other).max() > 1e-4
    policy = CheckpointPolicy(model, SAMPLING)
    np.testing.assert_array_equal(policy.origin, [0, 2])
    assert policy.spec.state_layout == ""
    assert CheckpointPolicy(reading_model(state_layout="other:2"), SAMPLING).spec.state_layout == "other:2"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (None, "the policy acts from the state, 2 wide, but is given none"),
        (np.zeros(3, np.float32), r"the policy acts from the state, 2 wide, but is given one of shape \(3,\)"),
        (np.float32([0, np.nan]), "the state in an observation is not finite"),
    ],
)
def test_a_state_that_is_missing_or_another_is_refused(given, said):
    model = reading_model()
    with pytest.raises(UserError, match=said):
        plan(model, of(model, state=given))


def test_a_checkpoint_keeps_what_the_states_were(tmp_path):
    model = reading_model()
    checkpoint.save(model, Provenance("joint", 1), tmp_path / "checkpoint")
    loaded, _ = checkpoint.load(tmp_path / "checkpoint")
    assert loaded.state_normalizer == STATES and same(loaded, model)
    seen = of(model, state=np.float32([0.5, 3]))
    np.testing.assert_array_equal(plan(loaded, seen), plan(model, seen))
    card = (tmp_path / "checkpoint" / "README.md").read_text(encoding="utf-8")
    assert "and an instruction, and the robot's state, 2 numbers; images" in card


def test_a_checkpoint_from_before_it_reads_no_state(tmp_path):
    model, folder = small_model(), tmp_path / "checkpoint"
    checkpoint.save(model, Provenance("joint", 1), folder)
    described = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    statistics = json.loads((folder / "statistics.json").read_text(encoding="utf-8"))
    for name in ("proprioception", "state_width"):
        del described["model"][name]
    del statistics["states"]
    (folder / "statistics.json").write_text(json.dumps(statistics), encoding="utf-8")
    described["sha256"]["statistics.json"] = sha256(folder / "statistics.json")
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    loaded, _ = checkpoint.load(folder)
    assert same(loaded, model) and loaded.config == model.config and loaded.state_normalizer is None
    np.testing.assert_array_equal(plan(loaded, of(model, state=None)), plan(model, of(model)))


def test_a_head_that_learnt_without_the_state_does_not_begin_to_read_it(data, tmp_path):
    checkpoint.save(small_model(), Provenance("joint", 1), tmp_path / "checkpoint")
    reading = replace(MODEL, proprioception=True)
    with pytest.raises(UserError, match="learnt without the robot's state; leave --proprioception out"):
        train(data, reading, TRAINING, tmp_path / "run", init=tmp_path / "checkpoint")


@pytest.mark.slow
def test_a_run_learns_goes_on_and_acts_with_it(tmp_path):
    data = write_data(tmp_path / "dots")
    config = replace(MODEL, **CLONING, proprioception=True)
    training = replace(TRAINING, stage=END_TO_END, state_dropout=0.1, random_shift=2, validation_episodes=0)
    whole = train(data, config, training, tmp_path / "whole")
    train(data, config, replace(training, steps=2, decay=False), tmp_path / "parts")
    (begun,) = [state.newest(tmp_path / "parts" / state.STATE, ProcessGroup())]
    facts = state.facts_of(begun)
    model, _ = checkpoint.load(whole)
    assert Normalizer.from_json(facts["state_normalizer"]) == model.state_normalizer
    assert (
        Statistics.from_json((whole / "statistics.json").read_text(encoding="utf-8")).states == model.state_normalizer
    )
    (source,) = open_sources([data])
    again, clips = prepare(source.dataset, model.config, training, tmp_path / "parts", begun=begun)
    assert again.state_normalizer == clips.state_normalizer == model.state_normalizer
    assert plan(model, of(model)).shape == (8, 2)
