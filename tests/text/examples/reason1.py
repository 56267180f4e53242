"""The smallest Qwen2.5-VL that can be encoded with; its files last as long as the process."""

import tempfile
from pathlib import Path

from tests.text.reason1_folder import LENGTH, WIDTH, write

from videopolicy.text.reason1 import Config

_folder = tempfile.TemporaryDirectory()
example = Config(str(write(Path(_folder.name))), width=WIDTH, length=LENGTH)
