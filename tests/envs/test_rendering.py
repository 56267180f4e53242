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
    for name in ("MUJOCO_GL", "MUJOCO_EGL_DEVICE_ID", "PYOPENGL_PLATFORM", rendering.PROVEN):
        monkeypatch.delenv(name, raising=False)
    # What `choose` sets must not outlive the test.
    monkeypatch.setattr(os, "environ", os.environ.copy())


def test_it_finds_a_backend_and_tells_the_processes_to_come(nothing_known):
    found = rendering.choose()
    assert found.backend in rendering.BACKENDS
    assert found.name not in ("", "unknown")
    assert os.environ["MUJOCO_GL"] == found.backend
    script = "from videopolicy.envs import rendering; print(rendering.choose())"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, encoding="utf-8")
    assert (told.stdout, told.stderr) == (f"{found}\n", "")


@pytest.mark.parametrize("visible", ["", "GPU-8a1b", "MIG-3c4d/1/0", "9", "0", "1,0"])
def test_whatever_cuda_may_use_a_device_that_opens_is_found(nothing_known, visible):
    os.environ["CUDA_VISIBLE_DEVICES"] = visible
    found = rendering.choose()
    if found.backend != "egl":
        pytest.skip("EGL opens nothing here")
    assert os.environ["MUJOCO_EGL_DEVICE_ID"] == str(found.device)
    # The choice is the user's afterwards.
    assert os.environ["CUDA_VISIBLE_DEVICES"] == visible


@pytest.mark.parametrize("device", ["99", "GPU-8a1b"])
def test_a_device_that_does_not_open_is_refused_not_replaced(nothing_known, device):
    if rendering.choose().backend != "egl":
        pytest.skip("EGL opens nothing here")
    for name in ("MUJOCO_GL", rendering.PROVEN):
        os.environ.pop(name)
    os.environ["MUJOCO_EGL_DEVICE_ID"] = device
    with pytest.raises(UserError, match=f"MUJOCO_EGL_DEVICE_ID={device} names no EGL device that opens here"):
        rendering.choose()


LLVMPIPE = rendering.Renderer("egl", "llvmpipe (LLVM 19.1.7, 256 bits)", 1)
NVIDIA = rendering.Renderer("egl", "NVIDIA H100/PCIe/SSE2", 0)


@pytest.mark.parametrize(
    ("renderer", "device", "lines"),
    [
        (NVIDIA, "dev/nvidia0", ["rendered by NVIDIA H100/PCIe/SSE2, EGL device 0"]),
        (LLVMPIPE, None, ["rendered by llvmpipe (LLVM 19.1.7, 256 bits), EGL device 1"]),
        (LLVMPIPE, "dev/nvidiactl", [str]),
        (LLVMPIPE, "dev/nvidia0", [str, "note: this machine has a GPU, but"]),
        (LLVMPIPE, "dev/dri/renderD128", [str, "note: this machine has a GPU, but"]),
        (rendering.Renderer("osmesa", "softpipe"), "dev/nvidia3", ["rendered by softpipe, OSMesa", "note: "]),
        (rendering.Renderer("cgl", "Apple M2"), None, ["rendered by Apple M2, CGL"]),
    ],
)
def test_software_is_noted_where_a_gpu_could_render(tmp_path, renderer, device, lines):
    if device:
        (tmp_path / device).parent.mkdir(parents=True)
        (tmp_path / device).touch()
    said = renderer.lines(tmp_path)
    assert len(said) == len(lines)
    for line, begin in zip(said, lines, strict=True):
        assert begin is str or line.startswith(begin)


def test_a_platform_of_pyopengls_that_mujoco_would_refuse_is_taken_away(nothing_known):
    os.environ["PYOPENGL_PLATFORM"] = "nonsense"
    rendering.choose()
    assert "PYOPENGL_PLATFORM" not in os.environ


def test_a_proven_backend_is_not_tried_again(nothing_known, monkeypatch):
    os.environ.update({"MUJOCO_GL": "osmesa", rendering.PROVEN: '{"backend": "osmesa", "name": "softpipe"}'})
    monkeypatch.setattr(rendering.subprocess, "run", None)  # calling it would raise
    assert rendering.choose() == rendering.Renderer("osmesa", "softpipe")


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
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    result = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, encoding="utf-8"
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
