import json

import pytest
import torch
from safetensors.torch import save_file
from tests.disk import full_disk, modes, umask
from torch import nn

from videopolicy.diffusion.joint import Levels
from videopolicy.diffusion.loss import Counts, Losses
from videopolicy.diffusion.noise import joint
from videopolicy.errors import UserError
from videopolicy.training.distributed import ProcessGroup
from videopolicy.training.ema import Ema
from videopolicy.training.monitoring.divergence import DivergenceGuard
from videopolicy.training.monitoring.loss_stats import LossStats
from videopolicy.training.state import RunState, exists, facts_of, load_state, newest, save_state, weights_of

PARTS = ("weights", "average", "optimizer", "recent")
FILES = {*(f"{part}.safetensors" for part in PARTS), "facts.json"}


def recent(seed):
    """Statistics and a guard that have seen some steps."""
    stats, guard = LossStats(("video", "action"), joint.Config()), DivergenceGuard()
    rng = torch.Generator().manual_seed(seed)
    for _ in range(seed):
        video, actions = torch.rand(2, 3, generator=rng), torch.rand(2, 4, generator=rng)
        counts = Counts(torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool))
        stats.add(Losses(video, actions, counts, Levels.same(torch.rand(2, generator=rng))), video.sum())
        guard.problem(video.mean().item(), 1.0)
    return {"loss_stats": stats, "divergence": guard}


def learning(seed, steps=3):
    """A module, its average and its optimiser, after some steps."""
    generator = torch.Generator().manual_seed(seed)
    module = nn.Linear(3, 2)
    ema, optimizer = Ema(module, 0.9), torch.optim.AdamW(module.parameters())
    for step in range(steps):
        module(torch.randn(4, 3, generator=generator)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update(step)
    return RunState(module, ema.weights, optimizer, recent(seed))


def values(found):
    return {(part, name): value.clone() for part, tensors in found.parts().items() for name, value in tensors.items()}


def equal(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.fixture
def group():
    return ProcessGroup()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "state"


@pytest.fixture
def saved(folder, group):
    """What states 1 and 2 hold."""
    found = {}
    for step in (1, 2):
        done = learning(step)
        save_state(folder, done, {"step": step, "seconds": 1.5 * step}, group)
        found[step] = values(done)
    return found


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_everything_comes_back_into_other_objects(folder, saved, group):
    other = learning(7, steps=0)
    assert load_state(newest(folder, group), other) == {"step": 2, "seconds": 3.0}
    assert equal(values(other), saved[2])
    assert len(saved[2]) == 2 + 2 + 6 + 3
    assert torch.equal(weights_of(newest(folder, group), "wei")["ght"], saved[2]["weights", "weight"])


def test_a_run_of_an_earlier_version_says_how_to_go_on_from_its_weights(folder, saved, group):
    """Its noise came from one generator, whose state it kept."""
    state = newest(folder, group)
    save_file({"generator": torch.Generator().get_state()}, state / "random.safetensors")
    with pytest.raises(UserError, match=r"an earlier version began this run.* --init RUN/checkpoint, without --resume"):
        load_state(state, learning(7, steps=0))


def test_the_last_two_stay_and_nothing_else(folder, saved, group):
    (folder / ".step-000001.partial").mkdir()
    save_state(folder, learning(3), {"step": 10}, group)
    assert names(folder) == ["step-000002", "step-000010"]
    assert {path.name for path in (folder / "step-000010").iterdir()} == FILES
    # A run that went on from an earlier state has another future.
    save_state(folder, learning(3), {"step": 4}, group)
    assert names(folder) == ["step-000002", "step-000004"]


def test_a_state_of_the_same_step_takes_the_old_ones_place(folder, saved, group):
    done = learning(5)
    save_state(folder, done, {"step": 2}, group)
    other = learning(7, steps=0)
    load_state(newest(folder, group), other)
    assert equal(values(other), values(done)) and names(folder) == ["step-000001", "step-000002"]


@pytest.mark.parametrize("name", sorted(FILES))
@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_a_damaged_state_is_noticed_and_the_one_before_is_used(folder, saved, group, capsys, name, harm):
    file = folder / "step-000002" / name
    content = file.read_bytes()
    if harm == "gone":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(content[: len(content) // 2])
    else:
        place = content.index(b'"step": 2') + 8 if name == "facts.json" else -1
        file.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place:][1:])
    found = newest(folder, group)
    other = learning(7, steps=0)
    assert load_state(found, other)["step"] == 1 and equal(values(other), saved[1])
    told = capsys.readouterr().err
    assert "step-000002" in told and "damaged" in told and told.count("\n") == 1
    assert names(folder) == ["damaged-step-000002", "step-000001"]


@pytest.mark.parametrize(
    "text", ["[]", "3", '{"facts": 3, "sha256": {}}', '{"facts": {}, "sha256": {"facts.json": 3}}']
)
def test_facts_of_another_shape_are_damaged(folder, saved, group, text):
    (folder / "step-000002" / "facts.json").write_text(text, encoding="utf-8")
    assert newest(folder, group).name == "step-000001"
    assert names(folder) == ["damaged-step-000002", "step-000001"]


def test_states_all_of_which_are_damaged_are_refused(folder, saved, group):
    for state in folder.iterdir():
        (state / "facts.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match="every state is damaged"):
        newest(folder, group)
    assert not exists(folder)


def test_nothing_to_resume(folder, group):
    with pytest.raises(UserError, match="nothing to resume"):
        newest(folder, group)


@pytest.mark.parametrize("size", [100, 300])
def test_a_full_disk_leaves_what_was_there(folder, saved, group, size):
    with full_disk(size), pytest.raises(UserError, match=r"cannot be written \(.+\); make room.*with --resume"):
        save_state(folder, learning(3), {"step": 3, "seconds": 1.0}, group)
    other = learning(7, steps=0)
    load_state(newest(folder, group), other)
    assert equal(values(other), saved[2]) and names(folder) == ["step-000001", "step-000002"]


def test_a_disk_that_is_full_at_the_first_save_is_not_a_run_to_go_on_with(tmp_path, group):
    with full_disk(100), pytest.raises(UserError, match="make room there, then give the same command again"):
        save_state(tmp_path / "state", learning(3), {"step": 3}, group)
    assert not exists(tmp_path / "state")


def test_a_folder_that_cannot_be_written_is_named(tmp_path, group):
    (tmp_path / "state").write_text("a file in its place", encoding="utf-8")
    with pytest.raises(UserError, match="state: cannot be written"):
        save_state(tmp_path / "state", learning(0), {"step": 1}, group)


def test_another_models_state_is_refused(folder, saved, group):
    other = nn.Linear(4, 2)
    wider = RunState(other, Ema(other, 0.9).weights, torch.optim.AdamW(other.parameters()), recent(0))
    with pytest.raises(UserError, match="trained another model"):
        load_state(newest(folder, group), wider)


def test_the_facts_are_plain_json(folder, saved, group):
    state = newest(folder, group)
    assert facts_of(state) == {"step": 2, "seconds": 3.0}
    assert set(json.loads((state / "facts.json").read_text(encoding="utf-8"))["sha256"]) == FILES


@pytest.mark.parametrize(("mask", "right"), [(0o022, ({0o644}, {0o755})), (0o007, ({0o660}, {0o770}))])
def test_its_files_have_the_modes_that_the_umask_gives(folder, group, mask, right):
    with umask(mask):
        save_state(folder, learning(0), {"step": 3}, group)
    assert modes(folder) == right
