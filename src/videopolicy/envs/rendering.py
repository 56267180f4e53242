"""Chooses how MuJoCo draws without a screen. Must run before `mujoco` is imported for the first time."""

import os
import subprocess
import sys

from videopolicy.errors import UserError

BACKENDS = ("egl", "osmesa")
# Set once a backend is known to work, so that worker processes, which inherit it, do not probe again.
PROVEN = "VIDEOPOLICY_RENDERING_PROVEN"
_PROBE = "import mujoco; mujoco.Renderer(mujoco.MjModel.from_xml_string('<mujoco/>'), 8, 8).render()"


def choose() -> str:
    """Sets MUJOCO_GL to the first backend that opens a context: what the user set, else EGL, else OSMesa.

    Raises:
        UserError: none of them does.
    """
    wanted = os.environ.get("MUJOCO_GL", "").lower()
    if wanted and os.environ.get(PROVEN) == wanted:
        return wanted
    for backend in (wanted,) if wanted else BACKENDS:
        if _opens(backend):
            os.environ["MUJOCO_GL"] = os.environ[PROVEN] = backend
            # MuJoCo sets it as the backend needs it, and refuses any other.
            os.environ.pop("PYOPENGL_PLATFORM", None)
            return backend
    if wanted:
        raise UserError(f"MUJOCO_GL={wanted} opens no rendering context here; unset it to let EGL or OSMesa be found")
    raise UserError("no rendering backend: install EGL or OSMesa (Debian, Ubuntu: apt install libegl1, or libosmesa6)")


def _opens(backend: str) -> bool:
    # In a process of its own: a failed attempt leaves PyOpenGL bound to the platform that failed.
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    try:
        result = subprocess.run([sys.executable, "-c", _PROBE], env=environment, capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return False
    return result.returncode == 0
