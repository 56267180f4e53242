from dataclasses import replace

import pytest
from tests.small import MODEL

from videopolicy.diffusion.guidance import LinearGuidance
from videopolicy.errors import UserError
from videopolicy.models.sampling import Sampling
from videopolicy.tuning.ways import NO_GUIDANCE, PAPER_GUIDANCE, candidates, reference, ways

EXACT = Sampling(steps=8, sigma_max=10.0)
FAST = Sampling("one_pass", 3, sigma_max=10.0)
CONFIG = replace(MODEL, sampling=EXACT, modes={"fast": FAST})


def names(modes=(), **settings):
    return [way.name for way in ways(CONFIG, modes, settings)]


def test_of_nothing_asked_for_it_is_every_mode():
    assert names() == names(steps=()) == ["exact", "fast"]
    assert [way.sampling for way in ways(CONFIG, ())] == [EXACT, FAST]


def test_modes_by_name_then_every_combination_of_the_rest():
    assert names(("fast",)) == ["fast"]
    assert names(sampler=("euler", "heun"), steps=(1, 2)) == ["euler 1", "euler 2", "heun 1", "heun 2"]
    assert names(("exact",), video_steps=(2,)) == ["exact", "euler 8, video 2"]
    assert names(reuse=(1, 3), warm_start=(2.0,)) == ["euler 8, warm 2", "euler 8, reuse 3, warm 2"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"modes": ("fats",)}, "no mode 'fats'; did you mean 'fast'?"),
        ({"sampler": ("eulr",)}, "no sampler 'eulr'"),
        ({"sampler": ("heun",), "video_steps": (2,)}, "for sampler 'euler', not 'heun'"),
        ({"steps": (2,), "video_steps": (5,)}, "5 noise levels for the video and 2 for the actions"),
    ],
)
def test_what_does_not_go_together_is_refused(asked, said):
    with pytest.raises(UserError, match=said.replace("?", r"\?")):
        names(**asked)


def test_the_reference_is_guided_over_the_checkpoints_own_noise_levels():
    sampling = reference(CONFIG, 30).sampling
    assert (sampling.steps, sampling.guidance, sampling.sigma_max) == (30, PAPER_GUIDANCE, EXACT.sigma_max)
    assert sampling.passes() == (60, 60)


def test_every_candidate_is_another_one_that_takes_fewer_passes_over_the_same_range():
    found = [way.sampling for way in candidates(EXACT)]
    assert len(set(found)) == len(found) > 10
    limit = EXACT.passes()
    for sampling in found:
        assert sampling.passes().video < limit.video or sampling.passes().head < limit.head
        assert (sampling.sigma_max, sampling.sigma_min) == (EXACT.sigma_max, EXACT.sigma_min)
        assert sampling.guidance == NO_GUIDANCE
    assert {sampling.sampler for sampling in found} == {"dpmpp", "euler", "heun", "one_pass"}
    assert any(sampling.video_steps for sampling in found)


def test_where_the_video_stops_it_does_so_in_other_numbers_of_steps_too():
    own = Sampling("cascade", 8, video_steps=5, video_until=0.7)
    found = [way.sampling for way in candidates(own)]
    stopping = [sampling for sampling in found if sampling.video_until is not None]
    assert {sampling.sampler for sampling in stopping} == {"cascade"}
    assert {sampling.video_until for sampling in stopping} == {0.7}
    assert len({(sampling.steps, sampling.video_steps) for sampling in stopping}) == len(stopping) > 3
    assert {sampling.sampler for sampling in found} == {"cascade", "dpmpp", "euler", "heun", "one_pass"}


def test_guidance_is_tried_and_left_out_where_the_checkpoint_is_guided():
    guided = replace(EXACT, guidance=LinearGuidance(1.0, 2.5))
    assert {way.sampling.guidance for way in candidates(guided)} == {guided.guidance, NO_GUIDANCE}


def test_deep_blocks_are_held_only_by_a_video_model_that_can_and_in_as_many_steps_too():
    assert {way.sampling.reuse for way in candidates(EXACT)} == {1}
    found = {(way.sampling.steps, way.sampling.reuse) for way in candidates(EXACT, holds_deep=True)}
    assert {(8, 2), (8, 3), (8, 5), (5, 3), (3, 2)} < found


def test_nothing_is_faster_than_one_step():
    assert candidates(Sampling(steps=1), holds_deep=True) == []
