import json

import numpy as np
import pytest
import torch
from tests.small import small_model, write_data

from videopolicy.datasets.formats import open_any
from videopolicy.diagnosis.given import Informed
from videopolicy.diagnosis.open_loop import ACTING, IMAGINED, KINDS, STILL, TRUE, OpenLoop, compare_readings
from videopolicy.diagnosis.oracle import Oracle
from videopolicy.diagnosis.oracle_text import text, verdict
from videopolicy.errors import UserError
from videopolicy.models.sampling import Sampling
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.rollout.comparison import PairedOutcomes


def read(acting=0.4, imagined=0.4, true=0.2, still=0.8, episodes=30):
    """Episodes of such errors in the mean, harder ones and easier ones."""
    rng = np.random.default_rng(0)
    hard = rng.uniform(0.5, 1.5, (episodes, 1))
    noise = rng.uniform(0.95, 1.05, (episodes, 4))
    return OpenLoop(hard * noise * [acting, imagined, true, still], 4 * episodes, 8)


def found(open_loop, pairs=None):
    return Oracle("nearly clean", open_loop, (), {} if pairs is None else {"push": pairs}, ())


VIDEO = PairedOutcomes(both=5, first=0, second=12, neither=3)
HEAD = PairedOutcomes(both=5, first=1, second=1, neither=13)
HARM = PairedOutcomes(both=2, first=12, second=0, neither=6)
DONE = PairedOutcomes(both=20, first=0, second=0, neither=0)


@pytest.mark.parametrize(
    ("open_loop", "pairs", "parts"),
    [
        (read(), VIDEO, ["off the error", "17 of 20", "5 with the imagined", "the video is at fault", "3 fail all"]),
        (read(true=0.4), HEAD, ["no better actions", "no difference shown", "14 of 20, is the head's"]),
        (read(true=0.8), HEAD, ["does not use the video", "as is to be expected"]),
        (read(), HARM, ["does the head harm"]),
        (read(), DONE, ["nothing is at fault"]),
        (read(), None, ["off the error"]),
    ],
)
def test_who_is_at_fault(open_loop, pairs, parts):
    paragraph = verdict(found(open_loop, pairs))
    for part in parts:
        assert part in paragraph
    assert ("In the env" in paragraph) == (pairs is not None)
    assert "\n" not in paragraph
    assert text(found(open_loop, pairs)).endswith(paragraph)


def test_the_interval_of_a_ratio_knows_that_an_episode_is_hard_for_both():
    """A ratio of what differs between episodes alone is the same in every episode, and so is its interval."""
    hard = np.random.default_rng(0).uniform(0.1, 3, (40, 1))
    both = OpenLoop(hard * [1.0, 1.0, 0.5, 2.0], 40, 8)
    ratio = both.ratio(TRUE, IMAGINED)
    assert ratio.value == pytest.approx(0.5) and ratio.high - ratio.low < 1e-9
    error = both.error(TRUE)
    assert error.low < error.value < error.high
    assert error.value == pytest.approx(float(hard.mean()) / 2)
    assert both.reads and both.gains


def test_what_one_episode_shows_is_no_certainty_of_many():
    few, many = read(episodes=10), read(episodes=1000)
    widths = [one.error(TRUE).high - one.error(TRUE).low for one in (few, many)]
    assert widths[1] < widths[0] / 4


def test_everything_is_in_the_json():
    values = json.loads(json.dumps(found(read(), VIDEO).to_json()))
    assert values["success_of_all_tasks"]["true"] == 17
    assert values["success"]["push"]["difference"] == 0.6
    assert set(values["recorded_steps"]["mean_absolute_error"]) == set(KINDS)
    assert found(read()).to_json()["success_of_all_tasks"] is None


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("oracle") / "discs", episodes=3)


@pytest.fixture(scope="module")
def policy():
    sampling = Sampling(steps=1, sigma_max=10.0)
    return CheckpointPolicy(small_model(sampling=sampling), sampling)


def test_recorded_steps_are_read_the_same_way_each_time(policy, data):
    dataset = open_any(data)
    first, second = (compare_readings(policy, Informed(policy), dataset, execute=4) for _ in range(2))
    np.testing.assert_array_equal(first.errors, second.errors)
    assert first.errors.shape == (3, len(KINDS)) and first.clips == 12
    # What the head is shown differs, and so does what it reads.
    assert len({first.error(kind).value for kind in (IMAGINED, TRUE, STILL)}) == 3
    assert first.error(ACTING).value > 0


def test_a_head_that_knows_makes_no_error(policy, data, monkeypatch):
    """One that does what the expert does if it is shown that, and else something else."""
    dataset, informed = open_any(data), Informed(policy)
    wanted = informed.normalized
    kept = {}

    def remember(actions, observation):
        kept["wanted"] = wanted(actions, observation)
        return kept["wanted"]

    def latents_of(frames):
        kept["true"] = original(frames)
        return kept["true"]

    def draw(observations, seeds, video):
        assert len(set(seeds)) == 1
        wrong = [not torch.equal(one, kept["true"][0]) for one in video]
        return torch.from_numpy(kept["wanted"]) + torch.tensor(wrong).float()[:, None, None]

    original = informed.latents_of
    monkeypatch.setattr(informed, "normalized", remember)
    monkeypatch.setattr(informed, "latents_of", latents_of)
    monkeypatch.setattr(informed, "draw", draw)
    found = compare_readings(policy, informed, dataset, execute=4)
    assert found.error(TRUE).value == 0
    assert found.error(IMAGINED).value == pytest.approx(1)
    assert found.error(STILL).value == pytest.approx(1)


def test_data_of_another_kind_are_refused_in_a_line(policy, data):
    class Other:
        def __init__(self, **changes):
            inner = open_any(data)
            for name in ("path", "views", "fps", "action_width"):
                setattr(self, name, changes.get(name, getattr(inner, name)))

    for changes, message in (
        ({"views": ("side",)}, "no view 'top'"),
        ({"action_width": None}, "no actions, but the policy's are 2 wide"),
        ({"action_width": 7}, "actions 7 wide, but the policy's are 2 wide"),
    ):
        with pytest.raises(UserError, match=message):
            compare_readings(policy, Informed(policy), Other(**changes), execute=4)
