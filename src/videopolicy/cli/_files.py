"""Small files that verbs write."""

import json
from os import getpid
from pathlib import Path
from typing import Any

from videopolicy.errors import naming


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes an object as JSON; the file appears whole or not at all."""
    aside = path.with_name(f".{path.name}.{getpid()}.partial")
    try:
        with naming(path):
            aside.write_text(json.dumps(values, indent=2) + "\n")
            aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
