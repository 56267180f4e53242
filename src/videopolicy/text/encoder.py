"""Text by a pretrained encoder of transformers' that stays outside the model: each instruction is encoded once.

Such an encoder has several times as many parameters as the video model beside it, and reads a few dozen instructions,
which never change. So what it makes of each is kept in the user's cache; the encoder is opened for those that are new,
and is no part of the model, nor of its checkpoints.
"""

import hashlib
import json
import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from videopolicy.configs import check_limits, limited
from videopolicy.envs.places import at_home
from videopolicy.errors import UserError, first_line
from videopolicy.hub import locate
from videopolicy.text.base import Text, forget_first

# Of a repository, what is needed, whether it is a pipeline of diffusers' or an encoder of transformers' alone.
NEEDED = (
    "text_encoder/*",
    "tokenizer/*",
    "config.json",
    "model*.safetensors*",
    "tokenizer*.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template*",
    "vocab.json",
    "merges.txt",
    "spiece.model",
)
TOKENS = "tokens"


@dataclass(frozen=True)
class EncoderConfig:
    """Where an encoder is, and the shape of what it gives.

    Attributes:
        source: a folder of the encoder and its tokenizer, as transformers keeps them, or of a pipeline of diffusers'
            that holds them as `text_encoder` and `tokenizer`; or the name of either on the Hugging Face hub.
        width: of a token.
        length: tokens of an instruction.
    """

    source: str
    width: int = limited(MISSING, 1, 2**20)
    length: int = limited(512, 1, 2**16)

    def __post_init__(self) -> None:
        check_limits(self, "text")


@dataclass(frozen=True)
class EncoderKind:
    """Which encoders a plug-in reads.

    Attributes:
        plugin: its name, for messages.
        title: of what they are, likewise.
        classes: transformers' class of each of its model types.
        width: of a token, of what describes an encoder; a fact that is missing raises KeyError or TypeError.
        names: how weights' names begin in some files, as patterns, and what stands there in others.
    """

    plugin: str
    title: str
    classes: Mapping[str, str]
    width: Callable[[Mapping[str, Any]], int]
    names: Mapping[str, str] | None = None


class EncodedText(Text):
    """Tokens that are known from the cache, or encoded and kept there; zeros for the empty instruction.

    What is read from the cache is mapped from disk, so that many long instructions take no memory of their own.

    Attributes:
        kind: which encoders it reads.
    """

    kind: ClassVar[EncoderKind]

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config, self.width = config, config.width
        self._known: dict[str, Float[Tensor, "n W"]] = {}
        self._opened = None

    def forward(self, instructions: Sequence[str]) -> Float[Tensor, "b L W"]:
        """Tokens of each instruction, on the CPU, zeros after its last one; in the precision that they are kept in.

        Raises:
            UserError: an instruction is new and the encoder is not to be had, damaged, of another kind or of another
                width; or an instruction is longer than `length` tokens: cut, it could read like another one.
        """
        if self._stays:
            forget_first(self._known)
        wanted = {instruction for instruction in instructions if instruction.strip()}
        self._learn(sorted(wanted - self._known.keys()))
        precisions = {self._known[instruction].dtype for instruction in wanted}
        shape = len(instructions), self.config.length, self.width
        rows = torch.zeros(shape, dtype=precisions.pop() if precisions else torch.float32)
        for row, instruction in zip(rows, instructions, strict=True):
            if instruction.strip():
                tokens = self._known[instruction]
                row[: len(tokens)] = tokens
        return rows

    def tell(self, instructions: Sequence[str], device: torch.device) -> Float[Tensor, "b L W"]:
        """See `Text.tell`: an instruction that several clips share goes there once."""
        distinct = list(dict.fromkeys(instructions))
        rows = self(distinct).to(device)
        if len(distinct) == len(instructions):
            return rows
        return rows[torch.tensor([distinct.index(instruction) for instruction in instructions], device=device)]

    def check(self) -> None:
        """Finds the encoder, without reading its weights.

        Raises:
            UserError: see `find_encoder`.
        """
        find_encoder(self.config, self.kind)

    @abstractmethod
    def _encode(
        self, tokenizer: Any, encoder: Any, instructions: Sequence[str]
    ) -> Iterator[tuple[str, Float[Tensor, "n W"]]]:
        """Each instruction and what the encoder makes of it, one at a time: a token never depends on its company."""

    def _marks(self) -> tuple[Any, ...]:
        """What the tokens depend on beside encoder and instruction."""
        return ()

    def _learn(self, instructions: Sequence[str]) -> None:
        """Remembers these, from the cache or of the encoder."""
        folder = _cache(self.config.source, self._marks()) if instructions else None
        for instruction in instructions:
            if folder and (found := _read(folder / _name(instruction), self.width)) is not None:
                self._known[instruction] = found
        new = [instruction for instruction in instructions if instruction not in self._known]
        if new:
            self._learn_new(new, folder)

    # Not in inference mode, whatever the caller is in: what is remembered may be used in training.
    @torch.inference_mode(False)
    @torch.no_grad()
    def _learn_new(self, instructions: Sequence[str], folder: Path | None) -> None:
        tokenizer, encoder = opened = self._opened or open_encoder(self.config, self.kind)
        if self._stays:
            self._opened, folder = opened, None
        with torch.autocast("cpu", enabled=False):
            for instruction, tokens in self._encode(tokenizer, encoder, instructions):
                file = folder / _name(instruction) if folder else None
                kept = _read(file, self.width) if file and _write(file, tokens) else None
                self._known[instruction] = tokens if kept is None else kept

    def _check_length(self, instruction: str, tokens: int) -> None:
        if tokens > self.config.length:
            raise UserError(
                f"the instruction {instruction!r} has {tokens} tokens, but the text holds {self.config.length}; "
                "shorten it"
            )


def find_encoder(config: EncoderConfig, kind: EncoderKind) -> tuple[Path, Path, str]:
    """The folders of the tokenizer and of the encoder, and transformers' class of the latter; no weight is read.

    Raises:
        UserError: they are not there, or the encoder is of another kind or gives tokens of another width.
    """
    folder = locate(config.source, NEEDED)
    parts = [folder / part if (folder / part).is_dir() else folder for part in ("tokenizer", "text_encoder")]
    told = parts[1] / "config.json"
    try:
        facts = dict(json.loads(told.read_text(encoding="utf-8")))
        model = facts["model_type"]
        width = kind.width(facts) if model in kind.classes else 0
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{told}: does not describe a text encoder of {kind.title} ({error!r})") from error
    if model not in kind.classes:
        raise UserError(f"{told}: describes a {model!r}, but text {kind.plugin!r} reads {' or '.join(kind.classes)}")
    if width != config.width:
        raise UserError(f"{told}: its tokens are {width} wide, the model's text is {config.width}")
    return parts[0], parts[1], kind.classes[model]


def open_encoder(config: EncoderConfig, kind: EncoderKind) -> tuple[Any, Any]:
    """The tokenizer and the encoder, in the precision that it is kept in.

    Raises:
        UserError: see `find_encoder`; or either is damaged.
    """
    # They take a while, which is spared where every instruction is known.
    import transformers

    words, weights, name = find_encoder(config, kind)
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(words, local_files_only=True)
        encoder, report = getattr(transformers, name).from_pretrained(
            weights,
            local_files_only=True,
            use_safetensors=True,
            dtype="auto",
            key_mapping=kind.names,
            output_loading_info=True,
        )
    # transformers has many kinds of errors for files that are missing or damaged.
    except Exception as error:
        raise UserError(f"{weights}: no whole text encoder in it ({first_line(error)}); download it again") from error
    # Where there are more, they are of a decoder, or of what sees images.
    for fault in ("missing", "mismatched"):
        for lost in sorted(map(str, report[f"{fault}_keys"]))[:1]:
            raise UserError(f"{weights}: of the encoder's weights, {lost} is {fault}")
    return tokenizer, encoder.eval()


def _cache(source: str, marks: tuple[Any, ...]) -> Path | None:
    """The folder of what this encoder has made of instructions; None where nothing can be kept."""
    home = at_home()
    if home is None:
        return None
    path = Path(source).expanduser()
    # A folder's files may become others; a name on the hub stays what it is.
    weights = sorted(path.rglob("*.safetensors")) if path.is_dir() else []
    facts = [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in weights]
    named = str(path.resolve()) if weights else source
    return home / "text" / hashlib.sha256(json.dumps([named, facts, *marks]).encode()).hexdigest()[:32]


def _name(instruction: str) -> str:
    return hashlib.sha256(instruction.encode()).hexdigest()[:32] + ".safetensors"


def _read(file: Path, width: int) -> Float[Tensor, "n W"] | None:
    """What was kept; None if nothing was, or it is damaged."""
    try:
        tokens = load_file(file).get(TOKENS)
    except (OSError, SafetensorError):
        return None
    return tokens if tokens is not None and tokens.dim() == 2 and tokens.shape[1] == width else None


def _write(file: Path, tokens: Float[Tensor, "n W"]) -> bool:
    """Keeps it, whole or not at all, and says so; a full disk is no reason to stop."""
    aside = file.with_name(f".{file.name}.{os.getpid()}.partial")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({TOKENS: tokens.contiguous()}, aside)
        aside.replace(file)
    except (OSError, SafetensorError):
        aside.unlink(missing_ok=True)
        return False
    return True
