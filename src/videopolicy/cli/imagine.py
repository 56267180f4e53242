"""Imagines what happens next from one image a view: a video and the actions that go with it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from jaxtyping import Float32
from PIL import Image as Pictures
from PIL import ImageOps

from videopolicy.cli._files import write_json
from videopolicy.cli._threads import choose_threads
from videopolicy.diffusion.clocks import FORWARD_DYNAMICS
from videopolicy.errors import UserError, check_range, unknown
from videopolicy.images import fit_to_size
from videopolicy.media import write_mp4
from videopolicy.models.sampling import EXACT
from videopolicy.ownership import owned
from videopolicy.policies.checkpoint import CheckpointPolicy, Precision, open_model
from videopolicy.types import Frames, Image, Observation, Plan

# A checkpoint knows no clock, and it imagines few frames: slow enough to see each.
FPS = 4.0
# Smaller pictures are enlarged to at least this side.
VISIBLE = 256
SEEDS = 2**63


@dataclass(frozen=True)
class Command:
    """Imagine how a task goes on from the images of one moment, and the actions that get it there.

    Writes imagined.mp4 (the current images first, views side by side) and plan.json (the actions in the env's own
    units, one row a control step, and how many control steps ahead each frame is).

    Example: videopolicy imagine --checkpoint runs/button/checkpoint --image corner2=now.png \
--instruction "press the button from above" --out imagined

    What would happen if these actions were executed, by a checkpoint of preset uwm: add --actions plan.json
    """

    checkpoint: Path
    """The checkpoint folder that training wrote."""
    instruction: str
    """What to do, in words."""
    out: Path
    """The folder that the video and the plan are written to."""
    image: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="[VIEW=]FILE")] = ()
    """One for each view of the checkpoint; a file alone will do if it has just one."""
    actions: Path | None = None
    """Imagine what these actions lead to, instead of others: a chunk in the env's own units, one row a control step, as
    an array in a .npy file, or as "actions" in a .json file such as the plan.json of an earlier imagination."""
    seed: int = 0
    """Seeds the noise: another seed, another future."""
    mode: str = EXACT
    """The checkpoint's own way to sample, or another that `videopolicy tune` gave it."""
    steps: int | None = None
    """Sampling steps; by default the mode's own."""
    video_steps: int | None = None
    """Fewer sampling steps for the video than for the actions; by default the mode's own."""
    video_until: float | None = None
    """Sampler cascade denoises the video to this noise level first; by default the mode's own."""
    reuse: int | None = None
    """Run the video model's deep blocks at the first of every so many steps; by default the mode's own."""
    sampler: str | None = None
    """How to sample; by default the checkpoint's own."""
    precision: Precision = "float32"
    """Of the weights in memory; bfloat16 takes half of it."""
    offload: bool = False
    """Keep the model in main memory and fetch it to the GPU layer by layer: slow, but it fits a small GPU."""

    def run(self) -> None:
        """Imagines, writes both files, and says where they are.

        Raises:
            UserError: no such checkpoint, view, image or sampler; a missing view; no instruction; a bad seed; actions
                that are none, or a checkpoint that takes none.
        """
        choose_threads()
        if not self.instruction.strip():
            raise UserError('--instruction is empty; say what to do, such as "press the button from above"')
        check_range("--seed", self.seed, 0, SEEDS - 1)
        with owned(self.out, "imagine", [self.checkpoint, *([self.actions] if self.actions else [])]):
            self._imagine()

    def _imagine(self) -> None:
        model, provenance = open_model(self.checkpoint, self.precision, self.offload)
        if not model.config.generates_video:
            raise UserError(f"{self.checkpoint}: this policy draws no video; `videopolicy evaluate` shows what it does")
        own = model.config.mode(self.mode)
        sampling = own.changed(
            sampler=self.sampler,
            steps=self.steps,
            video_steps=self.video_steps,
            video_until=self.video_until,
            reuse=self.reuse,
        )
        policy = CheckpointPolicy(model, sampling, law=provenance.noise, mode=self.mode)
        actions = None if self.actions is None else read_actions(self.actions)
        files = assign(self.image, policy.spec.views)
        images = {view: read_image(file, policy.spec.size, view) for view, file in files.items()}
        try:
            self.out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--out {self.out} cannot be made a folder: {error.strerror}") from error
        known = provenance.instructions
        if known and self.instruction.strip().lower() not in {instruction.lower() for instruction in known}:
            print(f"note: the checkpoint was not trained with this instruction, but with: {'; '.join(known)}")
        observation = Observation(images, self.instruction, policy.origin)
        if actions is None:
            notes = policy.spec.notes
            plan = policy.plan([observation], [self.seed], imagine=True)[0]
        else:
            notes = sampling.clock_warnings(FORWARD_DYNAMICS, provenance.noise)
            plan = policy.foresee(observation, self.seed, actions)
        for note in notes:
            print(f"note: {note}")
        write_mp4(self.out / "imagined.mp4", film(images, plan), FPS)
        write_json(self.out / "plan.json", self._description(policy, files, plan))
        print(f"wrote {self.out / 'imagined.mp4'} and {self.out / 'plan.json'}")

    def _description(self, policy: CheckpointPolicy, files: dict[str, Path], plan: Plan) -> dict[str, Any]:
        described = {
            "checkpoint": str(self.checkpoint),
            "instruction": self.instruction,
            "images": {view: str(file) for view, file in files.items()},
            "seed": self.seed,
            **policy.spec.sampling,
            **({"given_actions": str(self.actions)} if self.actions else {}),
            "views": policy.spec.views,
            "offsets": plan.offsets,
        }
        if not policy.spec.action_width:
            return described
        acts = {"action_layout": policy.spec.action_layout, "relative_to_gripper": policy.model.config.relative}
        return {**described, **acts, "actions": plan.actions.tolist()}


def assign(arguments: Sequence[str], views: Sequence[str]) -> dict[str, Path]:
    """The file of each view, in the order of the views.

    Args:
        arguments: VIEW=FILE each; or FILE alone, if there is one view.
        views: what the checkpoint sees.

    Raises:
        UserError: a view that is unknown, missing, or given twice; or a file without one, where there are several.
    """
    files: dict[str, Path] = {}
    for argument in arguments:
        view, equals, file = argument.partition("=")
        # A file's name may hold an equals sign too.
        alone = view not in views and (not equals or Path(argument).exists())
        if alone and len(views) > 1:
            raise UserError(f"--image {argument}: of which view? Give VIEW={argument}; views: {', '.join(views)}")
        view, file = (views[0], argument) if alone else (view, file)
        if view not in views:
            raise unknown("view", view, views)
        if view in files:
            raise UserError(f"view {view!r} is given twice: {files[view]} and {file}")
        files[view] = Path(file)
    missing = [view for view in views if view not in files]
    if missing:
        needed = " ".join(f"--image {view}=FILE" for view in missing)
        raise UserError(f"no image of {', '.join(missing)}; the checkpoint needs one of every view: add {needed}")
    return {view: files[view] for view in views}


def read_image(file: Path, size: int, view: str) -> Image:
    """An image file as the policy sees it, (size, size, 3); says what `videopolicy.images.fit_to_size` had to do to it.

    Raises:
        UserError: not a readable image.
    """
    if not file.is_file():
        raise UserError(f"view {view!r}: no image file {file}")
    try:
        with Pictures.open(file) as opened:
            if opened.mode[0] in "IF":
                raise UserError(f"view {view!r}: {file} has 16 or 32 bits a pixel; save it with 8 bits a colour")
            picture = ImageOps.exif_transpose(opened).convert("RGB")
    except (OSError, SyntaxError, ValueError, Pictures.DecompressionBombError) as error:
        raise UserError(f"view {view!r}: {file} is not a readable image ({error})") from error
    width, height = picture.size
    side = min(width, height)
    done = [f"cropped around its centre to {side}x{side}"] * (width != height)
    done += [f"resized to {size}x{size}"] * (side != size)
    if done:
        print(f"view {view!r}: {file} is {width}x{height} pixels; {' and '.join(done)}")
    return fit_to_size(np.asarray(picture)[None], size)[0]


def read_actions(file: Path) -> Float32[np.ndarray, "A D"]:
    """The actions in a file: an array in a .npy file, or the rows of "actions" in a .json file.

    Raises:
        UserError: no such file, or it holds no table of finite numbers.
    """
    wrong = f"--actions {file}: give a .npy file with an array of numbers, (steps, width), or a .json file with"
    try:
        if file.suffix == ".json":
            found = json.loads(file.read_text(encoding="utf-8"))
            actions = np.array(found["actions"] if isinstance(found, dict) else found, np.float32)
        else:
            actions = np.load(file, allow_pickle=False).astype(np.float32)
    except OSError as error:
        raise UserError(f"--actions {file}: cannot be read ({error.strerror or error})") from error
    except (ValueError, KeyError, TypeError, AttributeError, EOFError, OverflowError, RecursionError) as error:
        raise UserError(f'{wrong} rows of numbers as "actions" ({error})') from error
    if actions.ndim != 2:
        raise UserError(f'{wrong} rows of numbers as "actions"; this is of shape {actions.shape}')
    if not np.isfinite(actions).all():
        row, column = np.argwhere(~np.isfinite(actions))[0].tolist()
        raise UserError(f"--actions {file}: row {row}, number {column} is not finite; every action must be a number")
    return actions


def film(images: dict[str, Image], plan: Plan) -> Frames:
    """The current images and then what was imagined, views side by side, enlarged pixel by pixel if small."""
    assert plan.imagined is not None
    videos = [np.concatenate((images[view][None], plan.imagined[view])) for view in images]
    frames = np.concatenate(videos, axis=2)
    factor = -(-VISIBLE // frames.shape[1])
    return frames.repeat(factor, axis=1).repeat(factor, axis=2)
