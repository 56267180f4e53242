import pytest


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Where what encoders make of instructions is kept, apart for each test."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "videopolicy" / "text"
