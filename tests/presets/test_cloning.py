"""The baseline without video, by the same commands as every policy: trained, evaluated, reported."""

import json

import pytest
from tests.small import observation, write_data

from videopolicy import checkpoint
from videopolicy.cli.main import main
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.presets.cloning import PRESET

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cloning")
    data = write_data(folder / "dots", episodes=2, size=64, steps=36)
    model, often = ["--preset", "cloning", "--views", "top"], ["--log-every", "1", "--validate-every", "1"]
    main(
        [
            "train",
            "--data",
            str(data),
            "--out",
            str(folder / "run"),
            *model,
            *often,
            "--steps",
            "2",
            "--batch-size",
            "2",
        ]
    )
    return folder / "run"


def test_it_learns_from_actions_alone_and_shows_no_video(run):
    model, provenance = checkpoint.load(run / "checkpoint")
    assert provenance.stage == "end_to_end" and not model.config.generates_video
    assert not (run / "samples").exists()
    logged = [json.loads(line) for line in (run / "losses.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(logged) == 2
    assert all("action" in line and not any(name.startswith("video") for name in line) for line in logged)


def test_it_is_evaluated_and_reported_like_every_policy(run, capsys):
    where = ["--env", "pointmass", "--task", "reach-red", "--episodes", "1", "--workers", "1"]
    main(["evaluate", "--checkpoint", str(run / "checkpoint"), *where, "--steps", "2", "--sampler", "one_pass"])
    assert "/1 (" in capsys.readouterr().out
    (recorded,) = (run / "evaluation" / "recordings").iterdir()
    assert (recorded / "executed_top.mp4").exists() and not list(recorded.glob("imagined_*"))
    main(["report", str(run)])
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "imagined no frames" in page and "executed</span>" in page


def test_a_view_is_looked_at_once_and_every_pixel_counts(run):
    """As many numbers of each patch as it has pixels: what the encoder is given can be decoded again."""
    model, _ = checkpoint.load(run / "checkpoint")
    assert PRESET.model.flat_frames == len(PRESET.model.views)
    codes = CheckpointPolicy(model, model.config.sampling).encode([observation(size=64)])
    again = model.latents.decode(model.latents.condition(codes[0])).numpy().astype(int)
    assert abs(again[0] - observation(size=64).images["top"]).max() <= 1
