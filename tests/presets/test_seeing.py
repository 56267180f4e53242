"""The rivals that differ in what the head sees differ from their neighbours in that alone."""

from dataclasses import fields

import pytest

from videopolicy import registry

SEEING = {
    "vpp_former": ({"head", "sampling"}, {"noise"}),
    "fast_wam": ({"reads", "sampling"}, {"noise", "stage"}),
    "cotrained": ({"reads", "sampling", "latents", "backbone"}, {"video_share", "stage"}),
}


def preset(name):
    return registry.entry("presets", name)


def differing(one, other):
    return {field.name for field in fields(one) if getattr(one, field.name) != getattr(other, field.name)}


@pytest.mark.parametrize("name", SEEING)
@pytest.mark.parametrize(("prefix", "neighbour"), [("", "tiny"), ("small_", "small")])
def test_a_rival_differs_from_its_neighbour_in_its_seams_alone(name, prefix, neighbour):
    rival, beside = preset(prefix + name), preset(neighbour)
    assert (differing(rival.model, beside.model), differing(rival.training, beside.training)) == SEEING[name]


@pytest.mark.parametrize("name", [prefix + name for name in SEEING for prefix in ("", "small_")])
def test_it_acts_at_levels_that_its_law_shows_the_head_in_one_pass_of_the_video_model(name):
    rival = preset(name)
    sampling = rival.model.sampling
    assert not sampling.warnings(rival.training.resolve(sampling.sigma_max).noise)
    assert sampling.passes() == (1, 1 if "cotrained" in name else 10)


def test_the_control_of_fast_wam_is_chosen_by_its_stage():
    training = preset("fast_wam").training
    assert training.own_stage("attached") is training.stage
    control = training.own_stage("end_to_end")
    assert control.losses == ("action",) and control.through == 1 and training.stage.losses == ("video", "action")
