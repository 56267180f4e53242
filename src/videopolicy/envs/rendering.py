"""Chooses how MuJoCo draws without a screen. Must run before `mujoco` is imported for the first time."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from videopolicy.errors import UserError

BACKENDS = ("cgl",) if sys.platform == "darwin" else ("egl", "osmesa")
# What is known to work, for worker processes, which inherit it and need not probe again.
PROVEN = "VIDEOPOLICY_RENDERING_PROVEN"
# How OpenGL calls what draws on the processor.
SOFTWARE = ("llvmpipe", "softpipe", "swrast", "software rasterizer")
# How Linux shows that there is a GPU, whether or not its OpenGL driver is installed.
GPUS = ("dev/nvidia[0-9]*", "dev/dri/renderD*", "dev/dxg")


@dataclass(frozen=True)
class Renderer:
    """What draws.

    Attributes:
        backend: one of BACKENDS.
        name: as OpenGL has it ("NVIDIA H100/PCIe/SSE2", "llvmpipe (LLVM 19.1.7, 256 bits)").
        device: the number of EGL's device; None for another backend.
    """

    backend: str
    name: str
    device: int | None = None

    def __str__(self) -> str:
        through = {"egl": "EGL", "osmesa": "OSMesa", "cgl": "CGL"}.get(self.backend, self.backend)
        return f"{self.name}, {through}{'' if self.device is None else f' device {self.device}'}"

    @property
    def software(self) -> bool:
        """Whether the processor draws."""
        return any(name in self.name.lower() for name in SOFTWARE)

    def lines(self, root: Path = Path("/")) -> list[str]:
        """What the user should know: who draws, and if a GPU could.

        Args:
            root: where the machine's devices are looked for.
        """
        said = [f"rendered by {self}"]
        if self.software and any(path for pattern in GPUS for path in root.glob(pattern)):
            said.append(
                "note: this machine has a GPU, but images are rendered in software, which is slow; install its EGL "
                "driver (NVIDIA: libnvidia-gl; in a container, NVIDIA_DRIVER_CAPABILITIES=graphics,compute,utility)"
            )
        return said


def choose() -> Renderer:
    """Sets MUJOCO_GL to the first backend that draws (what the user set, else EGL, else OSMesa), and its EGL device.

    Raises:
        UserError: none of them does.
    """
    wanted, device = os.environ.get("MUJOCO_GL", "").lower(), os.environ.get("MUJOCO_EGL_DEVICE_ID")
    if wanted and (proven := _proven(wanted)):
        return proven
    for backend in (wanted,) if wanted else BACKENDS:
        if found := _probe(backend):
            os.environ["MUJOCO_GL"] = backend
            # robosuite would take what CUDA may use for numbers of EGL's devices.
            if found.device is not None:
                os.environ["MUJOCO_EGL_DEVICE_ID"] = str(found.device)
            os.environ[PROVEN] = json.dumps(asdict(found))
            # MuJoCo sets it as the backend needs it, and refuses any other.
            os.environ.pop("PYOPENGL_PLATFORM", None)
            return found
        if device and backend == "egl":
            raise UserError(f"MUJOCO_EGL_DEVICE_ID={device} names no EGL device that opens here; unset it")
    if wanted:
        raise UserError(f"MUJOCO_GL={wanted} opens no rendering context here; unset it to let EGL or OSMesa be found")
    raise UserError("no rendering backend: install EGL or OSMesa (Debian, Ubuntu: apt install libegl1, or libosmesa6)")


def _proven(backend: str) -> Renderer | None:
    """What an earlier call, in this process or the one that started it, has found of this backend."""
    try:
        found = Renderer(**json.loads(os.environ.get(PROVEN, "")))
    except (ValueError, TypeError):
        return None
    return found if found.backend == backend else None


def _probe(backend: str) -> Renderer | None:
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    command = [sys.executable, "-m", "videopolicy.envs._probe"]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
        return Renderer(backend, **json.loads(done.stdout.splitlines()[-1])) if done.returncode == 0 else None
    except (subprocess.TimeoutExpired, ValueError, IndexError, TypeError):
        return None
