"""What a checkpoint is told by: its contents, but neither its card nor its named ways to sample."""

import json

from tests.small import small_model

from videopolicy import checkpoint
from videopolicy.checkpoint import Provenance, add_mode, save
from videopolicy.models.sampling import Sampling
from videopolicy.rollout.fingerprint import fingerprint


def test_a_mode_that_is_added_leaves_it_the_same_policy(tmp_path):
    folder = tmp_path / "checkpoint"
    save(small_model(), Provenance("joint", 1), folder)
    before = fingerprint(folder)
    add_mode(folder, "fast", Sampling(steps=3))
    assert checkpoint.read_config(folder).modes and fingerprint(folder) == before
    add_mode(folder, "fast", Sampling(steps=5))
    assert fingerprint(folder) == before


def test_another_way_to_act_by_default_is_another_policy(tmp_path):
    folder = tmp_path / "checkpoint"
    save(small_model(), Provenance("joint", 1), folder)
    before, file = fingerprint(folder), folder / "config.json"
    described = json.loads(file.read_text(encoding="utf-8"))
    described["model"]["sampling"]["steps"] += 1
    file.write_text(json.dumps(described, indent=2) + "\n", encoding="utf-8")
    assert fingerprint(folder) != before
