"""Files of pretrained weights: on this machine, or on the Hugging Face hub."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download

from videopolicy.errors import UserError, first_line

# "owner/name" on the Hugging Face hub, and behind an @ which of its revisions.
HUB_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def locate(source: str, patterns: tuple[str, ...]) -> Path:
    """A local file or folder, or the folder of a repository on the Hugging Face hub, downloaded once.

    Args:
        source: a path, or "owner/name", or "owner/name@revision".
        patterns: the files that are needed of a repository.

    Raises:
        UserError: neither is there.
    """
    path = Path(source).expanduser()
    if path.exists():
        return path
    named = HUB_NAME.fullmatch(source)
    if named is None:
        raise UserError(f"{source}: no such file or folder")
    try:
        return Path(snapshot_download(named[1], revision=named[2], allow_patterns=list(patterns)))
    # The hub's client has many kinds of errors: no network, no such repository, a licence not accepted.
    except Exception as error:
        raise UserError(
            f"{source}: no such file or folder, and not to be had from https://huggingface.co/{named[1]} "
            f"({first_line(error)}); a repository with a licence to accept needs `hf auth login` first"
        ) from error
