"""The smallest T5 that can be encoded with; its files last as long as the process."""

import tempfile
from pathlib import Path

from tests.text.t5_folder import write

from videopolicy.text.t5 import Config

_folder = tempfile.TemporaryDirectory()
example = Config(str(write(Path(_folder.name))), width=16, length=12)
