import logging
import os
import pwd
import sys
from pathlib import Path

import pytest

from videopolicy.envs import places
from videopolicy.envs.robosuite_env import contained
from videopolicy.errors import UserError


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path):
    """Nothing chosen yet, and a home of the test's own; what is chosen does not outlive the test."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "VIDEOPOLICY_"))}
    for name in ("NUMBA_CACHE_DIR", places.LIBERO_CONFIG):
        environment.pop(name, None)
    environment |= {"HOME": str(tmp_path / "home")}
    monkeypatch.setattr(os, "environ", environment)
    (tmp_path / "home").mkdir()
    return tmp_path


def test_it_is_in_the_users_cache(fresh, capsys):
    assert places.own_folder() == fresh / "home" / ".cache" / "videopolicy"
    assert capsys.readouterr().err == ""


def test_it_is_where_the_user_wants_caches(fresh):
    os.environ["XDG_CACHE_HOME"] = str(fresh / "caches")
    assert places.own_folder() == fresh / "caches" / "videopolicy"


@pytest.fixture
def nowhere(fresh, monkeypatch):
    """No home: the user is unknown, and what HOME says cannot be written. Other places are under `fresh`."""
    (fresh / "home").rmdir()
    (fresh / "home").touch()
    monkeypatch.setattr(places.tempfile, "tempdir", str(fresh))


def test_where_home_cannot_be_written_it_is_private_and_said_once(fresh, nowhere, capsys):
    folder = places.own_folder()
    assert folder.parent == fresh
    assert folder.stat().st_mode & 0o777 == 0o700
    line = capsys.readouterr().err
    assert line.startswith("note: nothing can be written at home") and str(folder) in line
    # A process that is started inherits the choice.
    assert places.own_folder() == folder
    assert capsys.readouterr().err == ""


def test_a_user_without_a_home_gets_one(fresh, monkeypatch):
    def unknown(_):
        raise KeyError("uid not found")

    del os.environ["HOME"]
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    monkeypatch.setattr(places.tempfile, "tempdir", str(fresh))
    with pytest.raises(RuntimeError):
        Path.home()
    places.prepare()
    assert Path.home() == places.own_folder()
    assert Path(os.environ["NUMBA_CACHE_DIR"]).parent == places.own_folder()


def test_no_place_at_all_is_one_line(fresh, nowhere, monkeypatch):
    monkeypatch.setattr(places.tempfile, "tempdir", str(fresh / "gone"))
    with pytest.raises(UserError, match="XDG_CACHE_HOME"):
        places.own_folder()


@pytest.fixture
def package(fresh, monkeypatch):
    """An installed LIBERO, as far as it is looked at."""
    for name in ("bddl_files", "init_files"):
        (fresh / "site" / "libero" / "libero" / name).mkdir(parents=True)
    (fresh / "site" / "libero" / "__init__.py").touch()
    monkeypatch.syspath_prepend(fresh / "site")
    monkeypatch.delitem(sys.modules, "libero", raising=False)
    return fresh / "site" / "libero" / "libero"


def configuration():
    lines = (Path(os.environ[places.LIBERO_CONFIG]) / "config.yaml").read_text(encoding="utf-8").splitlines()
    return {name: place.strip('"') for name, _, place in (line.partition(": ") for line in lines)}


def test_libero_reads_its_own_package_whatever_lies_at_home(fresh, package, capsys):
    (fresh / "home" / ".libero").mkdir()
    (fresh / "home" / ".libero" / "config.yaml").write_text("bddl_files: /nowhere\n", encoding="utf-8")
    places.configure_libero()
    assert configuration()["bddl_files"] == str(package / "bddl_files")
    assert configuration()["init_states"] == str(package / "init_files")
    assert Path(os.environ[places.LIBERO_CONFIG]) == fresh / "home" / ".cache" / "videopolicy" / "libero"
    assert capsys.readouterr().err == ""


def test_a_configuration_that_is_asked_for_is_kept_or_named(fresh, package, capsys):
    own = fresh / "own"
    own.mkdir()
    os.environ[places.LIBERO_CONFIG] = str(own)
    (own / "config.yaml").write_text(f"bddl_files: {package}\ndatasets: /nowhere\n", encoding="utf-8")
    places.configure_libero()
    assert os.environ[places.LIBERO_CONFIG] == str(own)
    (own / "config.yaml").write_text(f"bddl_files: {own}/gone\n", encoding="utf-8")
    places.configure_libero()
    assert configuration()["bddl_files"] == str(package / "bddl_files")
    assert capsys.readouterr().err == f"note: LIBERO_CONFIG_PATH={own} is ignored, as there is no {own}/gone\n"


def test_a_libero_without_files_is_refused(package):
    (package / "init_files").rmdir()
    with pytest.raises(UserError, match=r"LIBERO is not whole: there is no folder .*init_files"):
        places.configure_libero()


def test_simulators_keep_no_log_where_other_users_may_have_one(fresh):
    os.environ["CUDA_VISIBLE_DEVICES"] = "MIG-1"
    with contained():
        logging.getLogger("robosuite_logs").addHandler(logging.FileHandler(fresh / "gone" / "robosuite.log"))
        assert "CUDA_VISIBLE_DEVICES" not in os.environ
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "MIG-1"
    assert isinstance(logging.FileHandler, type)
