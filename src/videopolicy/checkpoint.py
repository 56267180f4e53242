"""A trained policy as a folder: config.json, model.safetensors, statistics.json and README.md (the model card)."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from videopolicy.clips.normalize import MinMax
from videopolicy.configs import from_json, to_json
from videopolicy.durable import left_behind, replace_folder, sha256
from videopolicy.errors import UserError
from videopolicy.models.video_action import Config, VideoActionModel

FORMAT = 1
# Of weights that began from nothing, as the Hugging Face hub names it.
LICENCE = "apache-2.0"
HASHED = ("model.safetensors", "statistics.json")


@dataclass(frozen=True)
class Provenance:
    """Where the weights come from.

    Attributes:
        stage: what was trained: "video", "action", "joint" or "end_to_end".
        steps: training steps taken.
        tasks: what was shown, by the env's names.
        instructions: what was shown, in words.
        video_only: those of the instructions that were only shown without actions.
        episodes: demonstrations seen.
        without_actions: those of the demonstrations whose actions were not learnt.
        notes: further lines for the model card.
        license: of the weights, as the Hugging Face hub names it.
    """

    stage: str
    steps: int
    tasks: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    episodes: int = 0
    notes: dict[str, Any] = field(default_factory=dict)
    license: str = LICENCE
    video_only: tuple[str, ...] = ()
    without_actions: int = 0


def save(
    policy: VideoActionModel,
    provenance: Provenance,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes the folder aside, then puts it in the place of what was there.

    Args:
        policy: what to save.
        provenance: for the model card.
        folder: the checkpoint.
        dtype: of the floating-point weights on disk, but for the latents', which stay as they are.
        weights: by the names of the policy's own, in their place: an average of them, say.

    Raises:
        UserError: it cannot be written; what was in the folder stays.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        stored = {
            name: (tensor.to(dtype) if _shrinks(name, tensor) else tensor).contiguous().cpu()
            for name, tensor in (weights or policy.state_dict()).items()
        }
        save_file(stored, aside / "model.safetensors")
        normalizer = policy.normalizer
        (aside / "statistics.json").write_text(normalizer.to_json() if normalizer else "null")
        description = {
            "format": FORMAT,
            "model": to_json(policy.config),
            "provenance": to_json(provenance),
            "sha256": {name: sha256(aside / name) for name in HASHED},
        }
        (aside / "config.json").write_text(json.dumps(description, indent=2) + "\n")
        buffers = {name for name, _ in policy.named_buffers()}
        parameters = sum(tensor.numel() for name, tensor in stored.items() if name not in buffers)
        (aside / "README.md").write_text(_card(policy, provenance, parameters))
        replace_folder(aside, folder)
    except (OSError, SafetensorError) as error:
        still = "; what was there before still is" if folder.exists() else ""
        raise UserError(f"{folder}: cannot be written ({error}); make room there, and try again{still}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load(
    folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[VideoActionModel, Provenance]:
    """Opens a checkpoint folder; if a process was killed while it replaced it, the one before.

    Args:
        folder: as `save` writes it.
        device: where the weights go.
        dtype: their precision, but for the latents', which stay in float32; bfloat16 takes half the memory.

    Raises:
        UserError: a file is missing, damaged, or not the one that was saved.
    """
    if not folder.exists() and left_behind(folder).is_dir():
        folder = left_behind(folder)
    description = _read_description(folder)
    for name in HASHED:
        if not (folder / name).is_file():
            raise UserError(f"{folder}: {name} is missing; copy the whole checkpoint folder again")
        if sha256(folder / name) != description["sha256"].get(name):
            raise UserError(f"{folder / name}: not the file that was saved (wrong hash); copy the whole folder again")
    try:
        provenance = from_json(Provenance, description["provenance"])
        policy = _rebuilt(folder, description["model"], dtype)
    # A damaged description makes each part fail in a way of its own.
    except Exception as error:
        first = (str(error) or repr(error)).splitlines()[0]
        raise UserError(f"{folder}: config.json does not describe the weights beside it ({first})") from error
    return policy.to(device).eval(), provenance


def _rebuilt(folder: Path, description: Any, dtype: torch.dtype) -> VideoActionModel:
    statistics = (folder / "statistics.json").read_text()
    normalizer = None if statistics == "null" else MinMax.from_json(statistics)
    config = from_json(Config, description)
    before = torch.get_default_dtype()
    # Built in the final precision: in float32 first, a large model would need thrice the memory.
    torch.set_default_dtype(dtype)
    try:
        policy = config.build(normalizer)
    finally:
        torch.set_default_dtype(before)
    policy.latents.float()
    policy.load_state_dict(load_file(folder / "model.safetensors"))
    return policy


def _read_description(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such checkpoint folder; `videopolicy train` writes RUN/checkpoint")
    if not path.is_file():
        raise UserError(f"{folder}: config.json is missing; give a checkpoint folder, such as RUN/checkpoint")
    try:
        description = json.loads(path.read_text())
        found, *_ = (description[name] for name in ("format", "model", "provenance"))
        dict(description["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: not the description of a checkpoint ({error!r})") from error
    if found != FORMAT:
        raise UserError(f"{path}: checkpoint format {found}, but this version reads format {FORMAT} only")
    return description


def _shrinks(name: str, tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not name.startswith("latents.")


def _card(policy: VideoActionModel, provenance: Provenance, parameters: int) -> str:
    config, window = policy.config, policy.config.window
    notes = "".join(f"\n- {name}: {value}" for name, value in provenance.notes.items())
    imagines = imagine = ""
    if policy.backbone.imagines:
        imagines = f"\n- Imagines {window.frames} frames a view, {window.stride} control steps apart."
        imagine = "\n    videopolicy imagine --checkpoint THIS_FOLDER --help"
    return f"""---
library_name: videopolicy
pipeline_tag: robotics
license: {provenance.license}
---
{_kind(policy, provenance)}

- Sees: {", ".join(config.views)}, {config.size} x {config.size} pixels, and an instruction; images of another size \
are cropped to their middle square and area-averaged.{imagines}
- Acts in chunks of {window.actions} x {policy.action_width} actions, of which {config.execute} are executed\
{f", at {config.fps:g} control steps a second" if config.fps else ""}.{_meaning(config)}
- {parameters / 1e6:.1f} million parameters; stage {provenance.stage!r}, {provenance.steps} steps, \
{provenance.episodes} demonstrations, {provenance.episodes - provenance.without_actions} of them with actions.{notes}

{_shown(provenance)}

It knows these tasks in the env that the demonstrations come from, and nothing else: expect no success elsewhere.

    videopolicy evaluate --checkpoint THIS_FOLDER --task TASK{imagine}
"""


def _kind(policy: VideoActionModel, provenance: Provenance) -> str:
    if not policy.backbone.imagines:
        return (
            "# A cloning policy\n\nAn encoder of the current images and a head that denoises the actions, both learnt "
            "from actions alone: behaviour cloning, without video."
        )
    if provenance.stage == "end_to_end":
        return (
            "# A policy\n\nThe network of a video diffusion model and a head that reads the actions out of its "
            "features, both learnt from actions alone: what it draws need not mean anything."
        )
    return (
        "# A video policy\n\nA video diffusion model that imagines how the task goes on, and a head that reads the "
        "actions out of its features."
    )


def _shown(provenance: Provenance) -> str:
    seen = provenance.video_only
    done = [name for name in provenance.instructions or provenance.tasks if name not in seen]
    groups = []
    if done or not seen:
        groups.append(("Trained to do, with actions:", done or ["(not recorded)"]))
    if seen:
        groups.append(("Seen on video only: it may imagine these, but nobody showed it how to do them:", seen))
    return "\n\n".join("\n".join((title, *(f"- {name}" for name in names))) for title, names in groups)


def _meaning(config: Config) -> str:
    if not config.action_layout:
        return ""
    learnt = f", learnt as `{config.learned_layout}`" if config.relative else ""
    return f"\n- An action is `{config.action_layout}`{learnt}."
