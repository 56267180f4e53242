"""A trained policy as a folder: config.json, model.safetensors, statistics.json and README.md (the model card)."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from videopolicy.clips.normalize import BEYOND
from videopolicy.clips.statistics import Statistics
from videopolicy.configs import check_limits, from_json, limited, to_json
from videopolicy.diffusion.noise.base import NoiseLaw
from videopolicy.durable import left_behind, replace_folder, sha256, write_text
from videopolicy.errors import UserError, first_line
from videopolicy.models.base import Model, ModelConfig
from videopolicy.models.sampling import EXACT, Sampling
from videopolicy.upgrades import upgrade_checkpoint

FORMAT = 2
# Of weights that began from nothing, as the Hugging Face hub names it.
LICENCE = "apache-2.0"
HASHED = ("model.safetensors", "statistics.json")


@dataclass(frozen=True)
class Provenance:
    """Where the weights come from.

    Attributes:
        stage: name of what was trained (see `videopolicy.training.stages`).
        steps: training steps taken.
        tasks: what was shown, by the env's names.
        instructions: what was shown, in words.
        video_only: those of the instructions that were only shown without actions.
        episodes: demonstrations seen.
        without_actions: those of the demonstrations whose actions were not learnt.
        notes: further lines for the model card.
        license: of the weights, as the Hugging Face hub names it.
        noise: the law of the noise levels that it was trained at (see `videopolicy.diffusion.noise`); None if
            unknown.
        video_by_actions: whether the video model was trained by the actions' loss alone, so that its video means
            nothing.
    """

    stage: str
    steps: int = limited(MISSING, 0, 10**12)
    tasks: tuple[str, ...] = ()
    instructions: tuple[str, ...] = ()
    episodes: int = limited(0, 0, 10**12)
    notes: dict[str, Any] = field(default_factory=dict)
    license: str = LICENCE
    video_only: tuple[str, ...] = ()
    without_actions: int = limited(0, 0, 10**12)
    noise: NoiseLaw | None = None
    video_by_actions: bool = False

    def __post_init__(self) -> None:
        check_limits(self, "provenance")


@dataclass(frozen=True)
class Description:
    """What `config.json` holds.

    Attributes:
        format: FORMAT.
        model: everything about the model but its weights.
        provenance: where the weights come from.
        sha256: of the files beside it, by their names.
    """

    format: int
    model: ModelConfig
    provenance: Provenance
    sha256: dict[str, str]


def save(
    model: Model,
    provenance: Provenance,
    folder: Path,
    dtype: torch.dtype = torch.float32,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Writes the folder aside, then puts it in the place of what was there.

    Args:
        model: what to save.
        provenance: for the model card.
        folder: the checkpoint.
        dtype: of the floating-point weights on disk, but for the latents', which stay as they are.
        weights: by the names of the model's own, in their place: an average of them, say.

    Raises:
        UserError: it cannot be written; what was in the folder stays.
    """
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        stored = {
            name: (tensor.to(dtype) if _shrinks(name, tensor) else tensor).contiguous().cpu()
            for name, tensor in (weights or model.state_dict()).items()
        }
        save_file(stored, aside / "model.safetensors")
        statistics = Statistics(model.normalizer, dict(model.frame_statistics), model.state_normalizer)
        (aside / "statistics.json").write_text(statistics.to_json() + "\n", encoding="utf-8")
        hashes = {name: sha256(aside / name) for name in HASHED}
        description = Description(FORMAT, model.config, provenance, hashes)
        (aside / "config.json").write_text(_written(description), encoding="utf-8")
        buffers = {name for name, _ in model.named_buffers()}
        parameters = sum(tensor.numel() for name, tensor in stored.items() if name not in buffers)
        (aside / "README.md").write_text(_card(model, provenance, parameters), encoding="utf-8")
        replace_folder(aside, folder)
    except (OSError, SafetensorError) as error:
        still = "; what was there before still is" if folder.exists() else ""
        raise UserError(f"{folder}: cannot be written ({error}); make room there, and try again{still}") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def load(
    folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> tuple[Model, Provenance]:
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
        if sha256(folder / name) != description.sha256.get(name):
            raise UserError(f"{folder / name}: not the file that was saved (wrong hash); copy the whole folder again")
    statistics = _statistics(folder / "statistics.json")
    try:
        model = _rebuilt(folder, description.model, statistics, dtype)
    # A damaged description makes each part fail in a way of its own.
    except Exception as error:
        what = first_line(error)
        raise UserError(f"{folder}: config.json does not describe the weights beside it ({what})") from error
    return model.to(device).eval(), description.provenance


def _statistics(file: Path) -> Statistics:
    try:
        return Statistics.from_json(file.read_text(encoding="utf-8"))
    except (ValueError, UserError) as error:
        raise UserError(f"{file}: {error}") from error


def _rebuilt(folder: Path, config: ModelConfig, statistics: Statistics, dtype: torch.dtype) -> Model:
    before = torch.get_default_dtype()
    # Built in the final precision: in float32 first, a large model would need thrice the memory.
    torch.set_default_dtype(dtype)
    try:
        model = config.build(statistics.actions)
    finally:
        torch.set_default_dtype(before)
    model.frame_statistics, model.state_normalizer = statistics.frames, statistics.states
    model.latents.float()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    return model


def read_config(folder: Path) -> ModelConfig:
    """The shape of a checkpoint's model, without its weights.

    Raises:
        UserError: it is no checkpoint, or a damaged one.
    """
    return _read_description(folder).model


def add_mode(folder: Path, name: str, sampling: Sampling) -> None:
    """Gives a checkpoint another way to draw a plan, or changes one; the weights, and their hashes, stay as they are.

    The description is replaced in one step, so that a reader, or a power cut, finds the old one or the new one.

    Args:
        folder: the checkpoint.
        name: of the mode.
        sampling: how it draws.

    Raises:
        UserError: see `check_mode`; it is no checkpoint, a damaged one, or cannot be written.
    """
    check_mode(name)
    description = _read_description(folder)
    model = replace(description.model, modes={**description.model.modes, name: sampling})
    try:
        write_text(folder / "config.json", _written(replace(description, model=model)))
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error}); it is as it was") from error


def check_mode(name: str) -> None:
    """Refuses a name that no mode can be given.

    Raises:
        UserError: it is mode exact's, or no word.
    """
    if name == EXACT:
        raise UserError(f"mode {EXACT!r} is the checkpoint's own way to plan; give the new one another name")
    if not name.isidentifier():
        raise UserError(f"a mode's name is a word of letters and digits, such as fast, not {name!r}")


def _written(description: Description) -> str:
    return json.dumps(to_json(description), indent=2) + "\n"


def _read_description(folder: Path) -> Description:
    path = folder / "config.json"
    if not folder.is_dir():
        raise UserError(f"{folder}: no such checkpoint folder; `videopolicy train` writes RUN/checkpoint")
    if not path.is_file():
        raise UserError(f"{folder}: config.json is missing; give a checkpoint folder, such as RUN/checkpoint")
    try:
        description = upgrade_checkpoint(json.loads(path.read_text(encoding="utf-8")))
        found = description["format"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: not the description of a checkpoint ({error!r})") from error
    # Another format has other fields.
    if found != FORMAT:
        newer = isinstance(found, int) and found > FORMAT
        right = (
            "a newer videopolicy wrote it: update videopolicy"
            if newer
            else "give a checkpoint folder that `videopolicy train` or `import` wrote"
        )
        raise UserError(f"{path}: checkpoint format {found!r}, but this version reads 1 to {FORMAT}; {right}")
    return from_json(Description, description, file=path)


def _shrinks(name: str, tensor: Tensor) -> bool:
    return tensor.is_floating_point() and not name.startswith("latents.")


def _card(model: Model, provenance: Provenance, parameters: int) -> str:
    config, window = model.config, model.config.window
    notes = "".join(f"\n- {name}: {value}" for name, value in provenance.notes.items())
    imagines = imagine = ""
    if model.config.generates_video:
        imagines = f"\n- Imagines {window.frames} frames a view, {window.stride} control steps apart."
        imagine = "\n    videopolicy imagine --checkpoint THIS_FOLDER --help"
    return f"""---
library_name: videopolicy
pipeline_tag: robotics
license: {provenance.license}
---
{_kind(model, provenance)}

- Sees: {", ".join(config.views)}, {config.size} x {config.size} pixels, and an instruction{_felt(config)}; \
images of another size are cropped to their middle square and resized.{imagines}
- Acts in chunks of {window.actions} x {model.action_width} actions, of which {config.execute} are executed\
{f", at {config.fps:g} control steps a second" if config.fps else ""}.{_meaning(config)}{_normalised(model)}
- {parameters / 1e6:.1f} million parameters; stage {provenance.stage!r}, {provenance.steps} steps, \
{provenance.episodes} demonstrations, {provenance.episodes - provenance.without_actions} of them with actions.{notes}

{_shown(provenance)}

It knows these tasks in the env that the demonstrations come from, and nothing else: expect no success elsewhere.

    videopolicy evaluate --checkpoint THIS_FOLDER --task TASK{imagine}
"""


def _kind(model: Model, provenance: Provenance) -> str:
    if not model.config.generates_video:
        return (
            "# A cloning policy\n\nAn encoder of the current images and a head that denoises the actions, both learnt "
            "from actions alone: behaviour cloning, without video."
        )
    if provenance.video_by_actions:
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


def _felt(config: ModelConfig) -> str:
    if not config.proprioception or not config.state_width:
        return ""
    meaning = f" (`{config.state_layout}`)" if config.state_layout else ""
    return f", and the robot's state, {config.state_width} numbers{meaning}"


def _meaning(config: ModelConfig) -> str:
    if not config.action_layout:
        return ""
    learnt = f", learnt as `{config.learned_layout}`" if config.relative else ""
    return f"\n- An action is `{config.action_layout}`{learnt}."


def _normalised(model: Model) -> str:
    if model.normalizer is None:
        return ""
    ends = {
        "minmax": "smallest and largest value in the data",
        "quantile": f"{BEYOND:.0%} and {1 - BEYOND:.0%} quantiles in the data, beyond which it was clipped",
        "std": "mean in the data less and plus its standard deviation",
    }
    said = ends[model.normalizer.method]
    return f"\n- Of each dimension of an action, -1 and 1 to the model are its {said} (`statistics.json`)."
