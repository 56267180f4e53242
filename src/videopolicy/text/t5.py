"""Text by encoders of T5's family (Raffel et al. 2020, arXiv 1910.10683), pretrained: one row of tokens an instruction.

Cosmos-Predict2 was trained with T5-11B and Wan with UMT5-XXL (Chung et al. 2023, arXiv 2304.09151): several times as
many parameters as their video models have beside a few dozen instructions, which never change. So each instruction is
encoded once on a machine, and its tokens are kept in the user's cache; the encoder is opened for those that are new,
and is no part of the model, nor of its checkpoints.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float32
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from videopolicy.configs import check_limits, limited
from videopolicy.envs.places import at_home
from videopolicy.errors import UserError
from videopolicy.hub import first_line, locate
from videopolicy.text.base import Text

# Of a repository, what is needed, whether it is a pipeline of diffusers' or an encoder of transformers' alone.
NEEDED = (
    "text_encoder/*",
    "tokenizer/*",
    "config.json",
    "model*.safetensors*",
    "tokenizer*.json",
    "special_tokens_map.json",
    "spiece.model",
)
# The encoder of each of transformers' model types.
ENCODERS = {"t5": "T5EncoderModel", "umt5": "UMT5EncoderModel"}
TOKENS = "tokens"


@dataclass(frozen=True)
class Config:
    """Where the encoder is, and the shape of what it gives; the defaults are those of Cosmos-Predict2.

    Attributes:
        source: a folder of the encoder and its tokenizer, as transformers keeps them, or of a pipeline of diffusers'
            that holds them as `text_encoder` and `tokenizer`; or the name of either on the Hugging Face hub.
        width: of a token.
        length: tokens of an instruction, zeros after its last one.
    """

    source: str = "nvidia/Cosmos-Predict2-2B-Video2World"
    width: int = limited(1024, 1, 2**20)
    length: int = limited(512, 1, 2**16)

    def __post_init__(self) -> None:
        check_limits(self, "text")

    def build(self) -> "T5":
        """The text; its encoder is not opened before an instruction is new."""
        return T5(self)


class T5(Text):
    """The encoder's last hidden states, in float32 whatever its precision; zeros for the empty instruction."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        self._known: dict[str, Float32[Tensor, "n W"]] = {}

    def forward(self, instructions: Sequence[str]) -> Float32[Tensor, "b L W"]:
        """Tokens of each instruction, on the CPU.

        Raises:
            UserError: an instruction is new and the encoder is not to be had, damaged, of another kind or of another
                width; or an instruction is longer than `length` tokens: cut, it could read like another one.
        """
        wanted = {instruction for instruction in instructions if instruction.strip()}
        self._learn(sorted(wanted - self._known.keys()))
        rows = torch.zeros(len(instructions), self.config.length, self.width)
        for row, instruction in zip(rows, instructions, strict=True):
            if instruction.strip():
                tokens = self._known[instruction]
                row[: len(tokens)] = tokens
        return rows

    def empty_prompt(self) -> Float32[Tensor, "W"]:
        """The token that the encoder makes of the empty instruction: its end.

        Raises:
            UserError: see `forward`.
        """
        self._learn([""] if "" not in self._known else [])
        return self._known[""][0]

    def _learn(self, instructions: Sequence[str]) -> None:
        """Remembers these, from the cache or of the encoder."""
        folder = _cache(self.config.source) if instructions else None
        for instruction in instructions:
            if folder and (found := _read(folder / _name(instruction), self.width)) is not None:
                self._known[instruction] = found
        new = [instruction for instruction in instructions if instruction not in self._known]
        if not new:
            return
        for instruction, tokens in zip(new, self._encode(new), strict=True):
            self._known[instruction] = tokens
            if folder:
                _write(folder / _name(instruction), tokens)

    # Not in inference mode, whatever the caller is in: what is remembered may be used in training.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _encode(self, instructions: Sequence[str]) -> list[Float32[Tensor, "n W"]]:
        tokenizer, encoder = _open(self.config)
        numbers = [tokenizer(instruction).input_ids for instruction in instructions]
        for instruction, its in zip(instructions, numbers, strict=True):
            if len(its) > self.config.length:
                raise UserError(
                    f"the instruction {instruction!r} has {len(its)} tokens, but the text holds {self.config.length}; "
                    "shorten it"
                )
        # One at a time and without padding, so that a token never depends on its company.
        with torch.autocast("cpu", enabled=False):
            return [encoder(input_ids=torch.tensor([its])).last_hidden_state[0].float() for its in numbers]


def _open(config: Config) -> tuple[Any, Any]:
    """The tokenizer and the encoder, in the precision that it is kept in.

    Raises:
        UserError: either is not there, is damaged or of another kind, or gives tokens of another width.
    """
    # They take a while, which is spared where every instruction is known.
    import transformers

    folder = locate(config.source, NEEDED)
    parts = [folder / part if (folder / part).is_dir() else folder for part in ("tokenizer", "text_encoder")]
    told = parts[1] / "config.json"
    try:
        kind, width = (json.loads(told.read_text(encoding="utf-8"))[fact] for fact in ("model_type", "d_model"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{told}: does not describe a text encoder of T5's family ({error!r})") from error
    if kind not in ENCODERS:
        raise UserError(f"{told}: describes a {kind!r}, but text 't5' reads {' or '.join(ENCODERS)}")
    if width != config.width:
        raise UserError(f"{told}: its tokens are {width} wide, the model's text is {config.width}")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(parts[0], local_files_only=True)
        encoder, report = getattr(transformers, ENCODERS[kind]).from_pretrained(
            parts[1], local_files_only=True, use_safetensors=True, dtype="auto", output_loading_info=True
        )
    # transformers has many kinds of errors for files that are missing or damaged.
    except Exception as error:
        raise UserError(f"{folder}: no whole text encoder in it ({first_line(error)}); download it again") from error
    # Where there are more, they are of a decoder.
    for fault in ("missing", "mismatched"):
        for name in sorted(map(str, report[f"{fault}_keys"]))[:1]:
            raise UserError(f"{parts[1]}: of the encoder's weights, {name} is {fault}")
    return tokenizer, encoder.eval()


def _cache(source: str) -> Path | None:
    """The folder of what this encoder has made of instructions; None where nothing can be kept."""
    home = at_home()
    if home is None:
        return None
    path = Path(source).expanduser()
    # A folder's files may become others; a name on the hub stays what it is.
    weights = sorted(path.rglob("*.safetensors")) if path.is_dir() else []
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in weights]
    named = str(path.resolve()) if weights else source
    return home / "text" / hashlib.sha256(json.dumps([named, facts]).encode()).hexdigest()[:32]


def _name(instruction: str) -> str:
    return hashlib.sha256(instruction.encode()).hexdigest()[:32] + ".safetensors"


def _read(file: Path, width: int) -> Float32[Tensor, "n W"] | None:
    """What was kept; None if nothing was, or it is damaged."""
    try:
        tokens = load_file(file).get(TOKENS)
    except (OSError, SafetensorError):
        return None
    return tokens if tokens is not None and tokens.dim() == 2 and tokens.shape[1] == width else None


def _write(file: Path, tokens: Float32[Tensor, "n W"]) -> None:
    """Keeps it, whole or not at all; a full disk is no reason to stop."""
    aside = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({TOKENS: tokens.contiguous()}, aside)
        aside.replace(file)
    except (OSError, SafetensorError):
        aside.unlink(missing_ok=True)
