import os
import subprocess
import sys
from ctypes.util import find_library

import pytest

from videopolicy.envs import rendering
from videopolicy.errors import UserError

pytestmark = pytest.mark.metaworld


@pytest.fixture
def nothing_known(monkeypatch):
    for name in ("MUJOCO_GL", "PYOPENGL_PLATFORM", rendering.PROVEN):
        monkeypatch.delenv(name, raising=False)
    # What `choose` sets must not outlive the test.
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_it_finds_a_backend_and_tells_the_processes_to_come(nothing_known):
    backend = rendering.choose()
    assert backend in rendering.BACKENDS
    assert os.environ["MUJOCO_GL"] == os.environ[rendering.PROVEN] == backend


def test_a_platform_of_pyopengls_that_mujoco_would_refuse_is_taken_away(nothing_known):
    os.environ["PYOPENGL_PLATFORM"] = "nonsense"
    rendering.choose()
    assert "PYOPENGL_PLATFORM" not in os.environ


def test_a_proven_backend_is_not_tried_again(nothing_known, monkeypatch):
    os.environ.update({"MUJOCO_GL": "osmesa", rendering.PROVEN: "osmesa"})
    monkeypatch.setattr(rendering.subprocess, "run", None)  # calling it would raise
    assert rendering.choose() == "osmesa"


@pytest.mark.parametrize("wish", ["nonsense", "off"])
def test_a_wish_that_cannot_be_met_is_refused_not_replaced(nothing_known, wish):
    os.environ["MUJOCO_GL"] = wish
    with pytest.raises(UserError, match=f"MUJOCO_GL={wish}"):
        rendering.choose()


def test_without_any_backend_the_packages_are_named(nothing_known, monkeypatch):
    monkeypatch.setattr(rendering, "BACKENDS", ("nonsense",))
    with pytest.raises(UserError, match=r"libegl1.*libosmesa6"):
        rendering.choose()


@pytest.mark.parametrize(("backend", "library"), [("egl", "EGL"), ("osmesa", "OSMesa")])
def test_a_process_that_rendered_ends_without_a_word(backend, library):
    if find_library(library) is None:
        pytest.skip(f"needs lib{library}, which is not installed here")
    script = (
        "from videopolicy.envs.metaworld import make\n"
        "env = make('reach-v3', views=['corner2'], size=32); env.reset(seed=0); env.observe()"
    )
    environment = {**os.environ, "MUJOCO_GL": backend, rendering.PROVEN: backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    result = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
