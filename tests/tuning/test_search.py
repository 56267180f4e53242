import numpy as np
import pytest
from tests.small import small_model

from videopolicy.models.sampling import Sampling
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.progress import progress_bar
from videopolicy.rollout.comparison import PairedOutcomes
from videopolicy.rollout.results import Result
from videopolicy.rollout.sequential import Standing
from videopolicy.tuning import search as searching
from videopolicy.tuning.closeness import DrawnActions
from videopolicy.tuning.success import Starts, rounds
from videopolicy.tuning.text import conclusion, search_table

BOUND = 0.05
# Seconds of a plan and distance from mode exact; whatever is not named here is slower than that.
FIGURES = {"euler 1": (0.1, 0.5), "one_pass 2": (0.2, 0.04), "euler 2": (0.4, 0.01), "one_pass 3": (0.3, 0.02)}


@pytest.fixture
def find(monkeypatch, tmp_path):
    """Searches with these figures; in the env, this share of mode exact's starts is lost by each way."""
    model = small_model(sampling=Sampling(steps=4))
    policy = CheckpointPolicy(model, model.config.sampling)

    def draw(policies, observations, bar):
        pairs = [(1.0, 0.0), *(FIGURES.get(str(one.sampling), (2.0, 0.0)) for one in policies[1:])]
        seconds = np.array([[second] * 3 for second, _ in pairs])
        return DrawnActions(np.array([[off] * 3 for _, off in pairs])[..., None, None], seconds, 0.1)

    played = []

    def play(self, policy, name, episodes, bar):
        played.append((name, episodes))
        lost = losses.get(name, 0)
        return [Result("reach-red", n, n, n >= lost * episodes, 9, 1.0, 2, False) for n in range(episodes)]

    losses = {}
    monkeypatch.setattr(searching, "draw", draw)
    monkeypatch.setattr(Starts, "play", play)

    def run(lost=None):
        losses.update(lost or {})
        starts = None if lost is None else Starts("pointmass", ("reach-red",), tmp_path, tmp_path)
        return searching.search(policy, [], BOUND, starts, 100, progress_bar(leave=False)), played

    return run


def chosen(found):
    return found.chosen and str(found.chosen.sampling)


def test_the_fastest_within_the_bound_is_taken(find):
    found, _ = find()
    assert chosen(found) == "one_pass 2"
    assert found.chosen.times_faster == pytest.approx(5)
    times = [one.milliseconds for one in found.tried]
    assert times == sorted(times)
    line = conclusion(found, "fast", BOUND)
    assert line.startswith("mode 'fast' is one_pass 2") and "success was not measured" in line


def test_one_that_succeeds_less_is_passed_over_and_no_slower_one_acts(find):
    found, played = find({"one_pass 2": 0.5})
    assert chosen(found) == "one_pass 3"
    by_name = {str(one.sampling): one for one in found.tried}
    assert by_name["one_pass 2"].standing is Standing.WORSE
    assert by_name["one_pass 2"].pairs == PairedOutcomes(10, 10, 0, 0)
    assert by_name["euler 2"].standing is None
    # A look at 10 and at 20 starts was enough of the one, 40 of the other.
    assert [episodes for name, episodes in played if name.startswith("one_pass")] == [10, 20, 10, 20, 40]
    assert {name for name, _ in played} == {"exact", "one_pass 2", "one_pass 3"}
    verdicts = {line.split("  ")[0]: line.split("  ")[-1].strip() for line in search_table(found, BOUND).splitlines()}
    assert verdicts["one_pass 2"] == "worse" and verdicts["one_pass 3"] == "chosen"
    assert verdicts["euler 1"] == "too far off" and verdicts["euler 2"] == "slower"


def test_nothing_is_taken_where_none_passes(find):
    found, _ = find(dict.fromkeys(FIGURES, 0.5))
    assert found.chosen is None
    assert "nothing is written" in conclusion(found, "fast", BOUND)


@pytest.mark.parametrize(("episodes", "expected"), [(5, [5]), (10, [10]), (100, [10, 20, 40, 80, 100])])
def test_each_look_doubles_what_is_known(episodes, expected):
    assert list(rounds(episodes)) == expected
