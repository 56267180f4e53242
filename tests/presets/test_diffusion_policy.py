"""Diffusion Policy as presets: what they are beside their neighbours, and whole runs of the one that reads states."""

import pytest
from tests.small import write_data

from videopolicy import checkpoint, registry
from videopolicy.cli.main import main
from videopolicy.latents import pca

NAMES = ("diffusion_policy", "diffusion_policy_state", "small_diffusion_policy")


@pytest.mark.parametrize("name", NAMES)
def test_the_encoder_runs_once_a_plan_and_the_head_ten_times_at_levels_that_it_has_learnt(name):
    preset = registry.entry("presets", name)
    sampling = preset.model.sampling
    assert sampling.passes() == (1, 10)
    assert sampling.warnings(preset.training.noise) == ()
    levels = sampling.levels().actions[:-1]
    likely = [preset.training.noise.actions.quantile(share) for share in (0.001, 0.999)]
    assert likely[0] <= levels[-1] and levels[0] <= likely[1]


@pytest.mark.parametrize("name", NAMES)
def test_it_is_shown_whole_images_shifted_by_up_to_four_pixels(name):
    preset = registry.entry("presets", name)
    latents = preset.model.latents
    assert isinstance(latents, pca.Config) and not latents.still
    assert latents.channels == 3 * latents.patch**2, "an invertible map of the pixels"
    assert preset.training.random_shift * latents.patch == 4
    assert not preset.model.generates_video and preset.model.flat_frames == len(preset.model.views)


@pytest.mark.slow
def test_it_is_trained_and_evaluated_like_every_policy_and_reads_the_state(tmp_path, capsys):
    data = write_data(tmp_path / "dots", episodes=3, size=64, steps=36)
    command = ["train", "--data", str(data), "--out", str(tmp_path / "run"), "--preset", "diffusion_policy_state"]
    main([*command, "--views", "top", "--steps", "2", "--batch-size", "2", "--log-every", "1"])
    model, provenance = checkpoint.load(tmp_path / "run" / "checkpoint")
    assert model.config.state_width == 2 and len(model.state_normalizer.low) == 2
    assert provenance.stage == "end_to_end"
    where = ["--env", "pointmass", "--task", "reach-red", "--episodes", "1", "--workers", "1"]
    main(["evaluate", "--checkpoint", str(tmp_path / "run" / "checkpoint"), *where])
    assert "/1 (" in capsys.readouterr().out
