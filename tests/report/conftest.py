from pathlib import Path

import pytest
from tests.report.samples import evaluation, losses


@pytest.fixture
def run(tmp_path) -> Path:
    """One task, a success and a failure recorded, trained here."""
    folder = evaluation(tmp_path / "run", {"push": [True, False, True]}, recorded=2)
    losses(folder)
    return folder
