"""Small files that verbs write."""

import json
from pathlib import Path
from typing import Any

from videopolicy.durable import write_text


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes an object as JSON; the file appears whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")
