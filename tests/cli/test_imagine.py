import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.models.examples.unified import example
from tests.small import ARM, CLONING, NORMALIZER, SIZE, fitted, relative_model, small_model

from videopolicy.checkpoint import Provenance, save
from videopolicy.cli.imagine import assign, read_image
from videopolicy.cli.main import main
from videopolicy.diffusion.noise import independent
from videopolicy.media import read_mp4
from videopolicy.policies.checkpoint import make
from videopolicy.types import Observation

pytestmark = pytest.mark.slow

FRAMES, OFFSETS, ACTIONS = 2, [2, 4], (8, 2)
FACTOR = 256 // SIZE
INSTRUCTION = "reach the red disc"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Checkpoints of one view, of two, and without a head; and an image for each of two views."""
    folder = tmp_path_factory.mktemp("imagine")
    seen = Provenance("joint", steps=1, instructions=(INSTRUCTION,))
    save(small_model(views=("front",)), seen, folder / "one")
    save(small_model(views=("front", "side")), seen, folder / "two")
    save(small_model(None, views=("front",)), seen, folder / "video")
    save(relative_model(views=("front",)), seen, folder / "relative")
    save(small_model(views=("front",), **CLONING), seen, folder / "cloning")
    ramp = np.linspace(0, 255, SIZE).astype(np.uint8)
    draw(folder / "front.png", np.stack(np.broadcast_arrays(ramp[:, None], ramp, 128), 2))
    draw(folder / "side.png", np.stack(np.broadcast_arrays(30, ramp, ramp[::-1, None]), 2))
    return folder


def draw(path, pixels):
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


def imagine(folder, checkpoint, *images, out="out", instruction=INSTRUCTION, more=()):
    images = [part for image in images for part in ("--image", image)]
    arguments = ["--checkpoint", str(folder / checkpoint), "--instruction", instruction, "--out", str(folder / out)]
    main(["imagine", *arguments, *images, *more])
    return folder / out


def refused(capsys, *args, **kwargs):
    with pytest.raises(SystemExit) as ending:
        imagine(*args, **kwargs)
    assert ending.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_writes_a_video_that_begins_with_what_is_seen_and_a_plan(folder):
    out = imagine(folder, "two", f"side={folder / 'side.png'}", f"front={folder / 'front.png'}", more=("--seed", "5"))
    assert {path.name for path in out.iterdir()} == {"imagined.mp4", "plan.json"}
    video = read_mp4(out / "imagined.mp4")
    assert video.shape == (1 + FRAMES, 256, 512, 3)
    seen = [np.asarray(Image.open(folder / name)) for name in ("front.png", "side.png")]
    now = video[0].reshape(SIZE, FACTOR, 2 * SIZE, FACTOR, 3).mean((1, 3))
    assert np.abs(now - np.concatenate(seen, axis=1)).mean() < 5

    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    assert (plan["views"], plan["offsets"], plan["instruction"]) == (["front", "side"], OFFSETS, INSTRUCTION)
    assert (plan["seed"], plan["steps"], plan["sampler"]) == (5, 1, "euler")
    assert Path(plan["checkpoint"]) == folder / "two"
    actions = np.array(plan["actions"])
    assert actions.shape == ACTIONS
    low, high = NORMALIZER.low, NORMALIZER.high
    assert (actions >= np.array(low) - 1e-5).all() and (actions <= np.array(high) + 1e-5).all()


def test_the_plan_is_what_the_policy_would_do(folder):
    out = imagine(folder, "one", str(folder / "front.png"), more=("--steps", "3", "--sampler", "heun", "--seed", "2"))
    policy = make(folder / "one", sampler="heun", steps=3)
    images = {"front": np.asarray(Image.open(folder / "front.png"))}
    expected = policy.plan([Observation(images, INSTRUCTION)], [2], imagine=True)[0]
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    np.testing.assert_allclose(plan["actions"], expected.actions, rtol=1e-5)
    assert plan["steps"] == 3
    future = read_mp4(out / "imagined.mp4")[1:].reshape(FRAMES, SIZE, FACTOR, SIZE, FACTOR, 3).mean((2, 4))
    assert np.abs(future - expected.imagined["front"]).mean() < 8


def test_without_a_state_relative_actions_are_relative_to_the_gripper(folder):
    plan = json.loads(
        (imagine(folder, "relative", str(folder / "front.png"), out="arm") / "plan.json").read_text(encoding="utf-8")
    )
    assert (plan["action_layout"], plan["relative_to_gripper"]) == (ARM["action_layout"], True)
    assert np.array(plan["actions"]).shape == (8, 7)


def test_another_seed_is_another_future(folder):
    def actions(seed):
        out = imagine(folder, "one", str(folder / "front.png"), more=("--seed", str(seed)))
        return json.loads((out / "plan.json").read_text(encoding="utf-8"))["actions"]

    assert actions(0) == actions(0) != actions(1)


def test_video_alone_imagines_without_actions(folder):
    out = imagine(folder, "video", f"front={folder / 'front.png'}", out="silent")
    assert len(read_mp4(out / "imagined.mp4")) == 1 + FRAMES
    plan = json.loads((out / "plan.json").read_text(encoding="utf-8"))
    assert "actions" not in plan and plan["offsets"] == OFFSETS


def test_a_head_takes_nothing_from_the_video(folder, tmp_path):
    """A model that drops its head imagines what it imagined before; the noise of both is the same."""
    headless = small_model(None, views=("front",))
    weights = small_model(views=("front",)).state_dict()
    headless.load_state_dict({name: tensor for name, tensor in weights.items() if not name.startswith("head.")})
    save(headless, Provenance("video", steps=1), tmp_path / "video")
    (tmp_path / "front.png").write_bytes((folder / "front.png").read_bytes())
    with_head = imagine(folder, "one", str(folder / "front.png"))
    without = imagine(tmp_path, "video", str(tmp_path / "front.png"))
    np.testing.assert_array_equal(read_mp4(with_head / "imagined.mp4"), read_mp4(without / "imagined.mp4"))


def test_an_instruction_it_never_saw_is_pointed_out(folder, capsys):
    imagine(folder, "one", str(folder / "front.png"), instruction="open the drawer")
    assert "not trained with this instruction, but with: reach the red disc" in capsys.readouterr().out
    imagine(folder, "one", str(folder / "front.png"), instruction="Reach the red disc")
    assert "not trained" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (["fornt=front.png"], "no view 'fornt'; did you mean 'front'? known: front, side"),
        (["front=front.png"], "no image of side; the checkpoint needs one of every view: add --image side=FILE"),
        (["front.png"], "of which view? Give VIEW="),
        (["front=front.png", "front=side.png"], "view 'front' is given twice"),
        (["front=front.png", "side=gone.png"], "view 'side': no image file"),
        (["front=front.png", "side=one/README.md"], "README.md is not a readable image"),
    ],
)
def test_images_that_do_not_fit_the_checkpoint_are_refused(images, said, folder, capsys, monkeypatch):
    monkeypatch.chdir(folder)
    assert said in refused(capsys, folder, "two", *images, out="refused")
    assert not (folder / "refused").exists()


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"instruction": "  "}, "--instruction is empty"),
        ({"more": ("--seed", "-1")}, "--seed is -1; it must be from 0"),
        ({"more": ("--sampler", "eulr")}, "no sampler 'eulr'; did you mean 'euler'?"),
        ({"more": ("--steps", "0")}, "sampling.steps is 0; it must be from 1"),
        ({"out": "front.png"}, "is a file; name a folder"),
    ],
)
def test_bad_settings_are_refused(settings, said, folder, capsys):
    assert said in refused(capsys, folder, "one", str(folder / "front.png"), **settings)


def test_a_file_alone_may_hold_an_equals_sign(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draw(tmp_path / "a=b.png", np.zeros((4, 4, 3)))
    assert assign(["a=b.png"], ["front"]) == {"front": Path("a=b.png")}
    assert assign(["front=a=b.png"], ["front"]) == {"front": Path("a=b.png")}


@pytest.mark.parametrize(("width", "height"), [(96, 64), (64, 96)])
def test_what_is_not_square_is_cropped_around_its_centre(width, height, tmp_path, capsys):
    pixels = np.zeros((height, width, 3), np.uint8)
    top, left = (height - 64) // 2, (width - 64) // 2
    pixels[top : top + 64, left : left + 64] = 200
    image = read_image(draw(tmp_path / "wide.png", pixels), 32, "front")
    assert image.shape == (32, 32, 3) and (image == 200).all()
    said = capsys.readouterr().out
    assert f"{width}x{height} pixels; cropped around its centre to 64x64 and resized to 32x32" in said


def test_shrinking_averages_and_the_right_size_is_left_alone(tmp_path, capsys):
    fine = np.random.default_rng(0).integers(0, 256, (64, 64, 3))
    image = read_image(draw(tmp_path / "fine.png", fine), 32, "front")
    assert np.abs(image - fine.reshape(32, 2, 32, 2, 3).mean((1, 3))).max() <= 1
    assert "resized to 32x32" in capsys.readouterr().out
    exact = read_image(tmp_path / "fine.png", 64, "front")
    np.testing.assert_array_equal(exact, fine)
    assert capsys.readouterr().out == ""


def test_a_cut_or_a_deep_image_is_refused(tmp_path, folder, capsys):
    whole = (folder / "front.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(np.full((32, 32), 40_000, np.uint16)).save(tmp_path / "deep.png")
    assert "not a readable image" in refused(capsys, folder, "one", str(tmp_path / "cut.png"))
    assert "save it with 8 bits a colour" in refused(capsys, folder, "one", str(tmp_path / "deep.png"))


def test_a_policy_without_video_imagines_nothing(folder, capsys):
    line = refused(capsys, folder, "cloning", str(folder / "front.png"), out="nothing")
    assert "this policy draws no video" in line and not (folder / "nothing").exists()


@pytest.fixture(scope="module")
def unified(folder):
    save(
        fitted(replace(example, views=("front",))),
        Provenance("joint", 1, noise=independent.Config()),
        folder / "unified",
    )
    return folder


def given(folder, name, rows):
    file = folder / name
    if file.suffix == ".npy":
        np.save(file, np.array(rows, np.float32))
    else:
        file.write_text(json.dumps(rows), encoding="utf-8")
    return file


def test_given_actions_change_what_is_imagined_and_are_the_plan(unified, capsys):
    first = imagine(unified, "unified", str(unified / "front.png"), out="free", more=("--steps", "3"))
    planned = json.loads((first / "plan.json").read_text(encoding="utf-8"))["actions"]
    other = (np.array(planned) * -1).clip(NORMALIZER.low, NORMALIZER.high)
    films = {}
    for name, file in {
        "plan": first / "plan.json",
        "rows": given(unified, "rows.json", planned),
        "array": given(unified, "array.npy", planned),
        "other": given(unified, "other.npy", other),
    }.items():
        more = ("--steps", "3", "--actions", str(file))
        out = imagine(unified, "unified", str(unified / "front.png"), out=f"from_{name}", more=more)
        films[name] = read_mp4(out / "imagined.mp4")
        kept = json.loads((out / "plan.json").read_text(encoding="utf-8"))
        np.testing.assert_allclose(kept["actions"], other if name == "other" else planned, rtol=1e-5)
        assert kept["given_actions"] == str(file)
    assert np.array_equal(films["plan"], films["rows"]) and np.array_equal(films["plan"], films["array"])
    assert not np.array_equal(films["plan"], films["other"])
    assert "note: noise law" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "rows", "said"),
    [
        ("a.npy", np.zeros((8, 3)), "actions are (8, 3), but a chunk of this policy's is (8, 2)"),
        ("b.json", {"actions": [[0, 0]] * 7}, "actions are (7, 2)"),
        ("c.npy", np.full((8, 2), np.nan), "row 0, number 0 is not finite"),
        ("d.json", [[0, 0]] * 7 + [[0, 90]], "actions[7][1] is 90, but those that the policy was trained on are from"),
        ("e.json", {"moves": []}, 'rows of numbers as "actions"'),
        ("f.json", [[0, 0], [0]], 'rows of numbers as "actions"'),
        ("g.npy", np.zeros(4), "this is of shape (4,)"),
        ("h.json", [[10**400, 0]] * 8, 'rows of numbers as "actions"'),
    ],
)
def test_actions_that_cannot_be_the_policys_are_refused(unified, capsys, name, rows, said):
    file = given(unified, name, rows)
    assert said in refused(capsys, unified, "unified", str(unified / "front.png"), more=("--actions", str(file)))


def test_objects_in_an_array_file_are_never_unpacked(unified, capsys):
    np.save(unified / "objects.npy", np.array([{}], object), allow_pickle=True)
    more = ("--actions", str(unified / "objects.npy"))
    assert "give a .npy file" in refused(capsys, unified, "unified", str(unified / "front.png"), more=more)


def test_a_checkpoint_that_takes_no_actions_says_so(folder, capsys):
    file = given(folder, "still.npy", np.zeros((8, 2)))
    line = refused(capsys, folder, "one", str(folder / "front.png"), more=("--actions", str(file)))
    assert "takes none" in line and "--preset uwm" in line
