"""Draws one picture with MuJoCo and prints who drew it: python -m videopolicy.envs._probe; MUJOCO_GL says through what.

In a process of its own: a failed attempt leaves PyOpenGL bound to the platform that failed.
"""

import ctypes
import json
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any

# glGetString's name for the renderer's name.
GL_RENDERER = 0x1F01


def main() -> None:
    """Prints {"name": ..., "device": ...} of the first device that draws; exits with 1 if none does."""
    mujoco: Any = import_module("mujoco")

    backend = os.environ["MUJOCO_GL"]
    for device in _egl_devices() if backend == "egl" else [None]:
        if device is not None:
            os.environ["MUJOCO_EGL_DEVICE_ID"] = str(device)
        try:
            renderer = mujoco.Renderer(mujoco.MjModel.from_xml_string("<mujoco/>"), 8, 8)
            renderer.render()
            print(json.dumps({"name": _name(backend), "device": device}))
            renderer.close()
            return
        # Each driver fails in a way of its own.
        except Exception:
            continue
    sys.exit(1)


def _egl_devices() -> Sequence[int]:
    """Numbers of EGL's devices: the one that is asked for, or all, first those that CUDA is told to use."""
    egl_ext: Any = import_module("mujoco.egl.egl_ext")
    if wanted := os.environ.get("MUJOCO_EGL_DEVICE_ID"):
        return [int(wanted)]
    there = range(len(egl_ext.eglQueryDevicesEXT()))
    # With several GPUs the numbers are the same as a rule; names of GPUs, and of parts of them, are unknown to EGL.
    numbers = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    first = [int(number) for number in numbers if number.strip().isdigit() and int(number) in there]
    return [*first, *(device for device in there if device not in first)]


def _name(backend: str) -> str:
    """What OpenGL calls the renderer of the current context."""
    query = _get_string(backend)
    if query is None:
        return "unknown"
    query.restype, query.argtypes = ctypes.c_char_p, [ctypes.c_uint]
    return (query(GL_RENDERER) or b"unknown").decode("ascii", "replace")


def _get_string(backend: str) -> Any:
    if backend == "cgl":
        return ctypes.CDLL("/System/Library/Frameworks/OpenGL.framework/OpenGL").glGetString
    platform: Any = import_module("OpenGL.platform")
    return platform.PLATFORM.GL.glGetString


if __name__ == "__main__":
    main()
