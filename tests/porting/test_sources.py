"""Files of weights: damaged ones, and ones that hold more than weights, are refused in one line."""

import fractions
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from videopolicy.errors import UserError
from videopolicy.hub import locate
from videopolicy.porting.sources import read

WEIGHTS = {"a.weight": torch.arange(6.0).reshape(2, 3), "b": torch.ones(4, dtype=torch.float16)}


@pytest.fixture
def saved(tmp_path):
    """The same weights in every kind of file."""
    save_file(WEIGHTS, tmp_path / "x.safetensors")
    torch.save(WEIGHTS, tmp_path / "plain.bin")
    torch.save({"state_dict": WEIGHTS, "epoch": 1, "optimizer_states": [{"lr": 1e-5}]}, tmp_path / "lightning.ckpt")
    return tmp_path


@pytest.mark.parametrize("name", ["x.safetensors", "plain.bin", "lightning.ckpt"])
def test_every_kind_of_file_gives_its_weights(saved, name):
    found = read(saved / name)
    assert found.keys() == WEIGHTS.keys()
    assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in WEIGHTS.items())


@pytest.mark.parametrize("name", ["x.safetensors", "plain.bin", "lightning.ckpt"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_a_truncated_file_is_refused(saved, name, share):
    whole = (saved / name).read_bytes()
    (saved / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=rf"{name}: not a whole .*; download it again$"):
        read(saved / name)


def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path):
    marker = tmp_path / "ran"

    class Bomb:
        def __reduce__(self):
            return Path.touch, (marker,)

    torch.save({"state_dict": WEIGHTS, "callbacks": Bomb()}, tmp_path / "bomb.ckpt")
    with pytest.raises(UserError, match=r"bomb\.ckpt: holds a pickled \S+, which is no weight; .* refused"):
        read(tmp_path / "bomb.ckpt")
    assert not marker.exists()


def test_an_unexpected_object_is_named(tmp_path):
    torch.save({"state_dict": WEIGHTS, "hyper_parameters": fractions.Fraction(1, 3)}, tmp_path / "x.ckpt")
    with pytest.raises(UserError, match=r"holds a pickled fractions\.Fraction, which is no weight"):
        read(tmp_path / "x.ckpt")


@pytest.mark.parametrize(
    ("held", "message"),
    [
        ({"state_dict": {**WEIGHTS, "epoch": 3}}, "'epoch' is no weight but of type int"),
        ({"state_dict": {}}, "no weights by name"),
        ([1, 2], "no weights by name"),
    ],
)
def test_what_is_no_state_dict_is_refused(tmp_path, held, message):
    torch.save(held, tmp_path / "x.pt")
    with pytest.raises(UserError, match=message):
        read(tmp_path / "x.pt")


def test_other_files_are_refused(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        read(tmp_path / "x.ckpt")
    (tmp_path / "x.gguf").touch()
    with pytest.raises(UserError, match=r"end in \.safetensors, \.ckpt"):
        read(tmp_path / "x.gguf")


def test_a_name_is_looked_for_on_disk_before_the_hub(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("owner/name").mkdir(parents=True)
    assert locate("owner/name", ()) == Path("owner/name")
    with pytest.raises(UserError, match=r"no such file or folder$"):
        locate("/nowhere/at/all", ())


def test_a_hub_that_is_not_to_be_reached_is_one_line(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(UserError, match=r"https://huggingface\.co/nobody/nothing") as caught:
        locate("nobody/nothing", ("unet/*",))
    assert "\n" not in str(caught.value)


def test_a_revision_of_a_name_is_another_folder(tmp_path, monkeypatch):
    """As the hub's client keeps them: what a revision points to, and the files of that."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for revision, commit in (("main", "a" * 40), ("diffusers/base", "b" * 40)):
        kept = tmp_path / "models--owner--name"
        (kept / "refs" / revision).parent.mkdir(parents=True, exist_ok=True)
        (kept / "refs" / revision).write_text(commit, encoding="utf-8")
        (kept / "snapshots" / commit).mkdir(parents=True)
    assert locate("owner/name", ("vae/*",)).name == "a" * 40
    assert locate("owner/name@diffusers/base", ("vae/*",)).name == "b" * 40
    with pytest.raises(
        UserError, match=r"^owner/name@other: no such file .* from https://huggingface.co/owner/name \("
    ):
        locate("owner/name@other", ("vae/*",))
