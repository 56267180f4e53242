"""LIBERO's 40 standard tasks (Liu et al. 2023), through the `libero.libero` interface that its distributions share."""

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from videopolicy.errors import UserError
from videopolicy.types import Action, Image, Observation
from videopolicy.worlds import rendering
from videopolicy.worlds.base import EVALUATION_SEED_OFFSET, State, World, check
from videopolicy.worlds.libero_tasks import HORIZONS, SUITE, SUITES

TASKS = tuple(SUITE)
# View -> robosuite's camera.
CAMERAS = {"agentview": "agentview", "eye_in_hand": "robot0_eye_in_hand"}
VIEWS = tuple(CAMERAS)
# Steps without motion after a reset, until what was placed a little above the table has come to rest.
SETTLING = 10
STILL = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)
# What robosuite reports of the robot, in the order of our state.
STATE = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")


def make(task: str, *, views: Sequence[str] = VIEWS, size: int = 128) -> "Libero":
    """Opens a task.

    Raises:
        UserError: unknown task or view, LIBERO is not installed, or nothing here can render.
    """
    check(task, TASKS, views, VIEWS, size)
    prepare()
    return Libero(task, tuple(views), size)


def prepare() -> None:
    """Finds a rendering backend, for this process and those that it starts.

    Raises:
        UserError: LIBERO is not installed, or nothing here can render.
    """
    if not all(find_spec(name) for name in ("libero", "robosuite")):
        raise UserError("world 'libero' needs the extra: pip install 'videopolicy[libero]'")
    rendering.choose()


class Libero(World):
    """One LIBERO task.

    Action (7): the hand's motion (3, in 5 cm), its turn (3, axis-angle in 0.5 rad) and the gripper (-1 open, 1 closed).
    State (9): the hand's position in metres, its attitude as a quaternion xyzw, and both fingers' positions in metres.

    A seed of evaluation, EVALUATION_SEED_OFFSET + i, begins in the official initial state i (of 50, again from the
    first after the last). Every other seed draws the places of the objects anew, as LIBERO does for demonstrations.
    """

    fps = 20.0
    control = "delta_position delta_axis_angle gripper[-1,1]"
    proprioception = "position quaternion gripper:2"

    def __init__(self, task: str, views: tuple[str, ...], size: int) -> None:
        self.task, self.views, self.size = task, views, size
        self.horizon = HORIZONS[SUITE[task]]
        with _silent():
            self._env, self._starts, self.instruction = _open(task)
        self._obs: dict[str, Any] = {}
        self._steps = 0
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (7,), np.float32)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (9,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[State, dict[str, Any]]:
        """Starts an episode; see `World.reset`."""
        gymnasium.Env.reset(self, seed=seed)
        start = int(self.np_random.integers(2**31)) if seed is None else seed
        official = start >= EVALUATION_SEED_OFFSET
        # Furniture has no place in the official states: it stands where a fixed seed puts it.
        with _numpy_seeded(0 if official else start), _silent():
            self._env.reset()
        # robosuite would begin with the last episode's grip.
        gripper = self._env.robots[0].gripper
        gripper.current_action = np.zeros(gripper.dof)
        if official:
            self._env.set_init_state(self._starts[(start - EVALUATION_SEED_OFFSET) % len(self._starts)])
        for _ in range(SETTLING):
            self._obs, *_ = self._env.step(STILL)
        self._steps = 0
        return self._state(), {"success": False}

    def step(self, action: Action) -> tuple[State, float, bool, bool, dict[str, Any]]:
        """Executes one action; see `World.step`."""
        self._obs, reward, *_ = self._env.step(np.clip(action, -1, 1))
        self._steps += 1
        return self._state(), float(reward), False, self._steps >= self.horizon, {"success": self.done()}

    def look(self) -> Observation:
        """Renders every view; see `World.look`."""
        return Observation({view: self._render(view) for view in self.views}, self.instruction, self._state())

    def expert(self) -> Callable[[], Action]:
        """A waypoint follower that knows where everything is; see `videopolicy.worlds.libero_expert`."""
        from videopolicy.worlds.libero_expert import Expert

        return Expert(self)

    def done(self) -> bool:
        """Whether the task is done now."""
        return bool(self._env.check_success())

    def close(self) -> None:
        """Frees the simulator; call it last, as other simulators of the process may suffer."""
        self._env.close()

    def _state(self) -> State:
        return np.concatenate([self._obs[name] for name in STATE]).astype(np.float32)

    def _render(self, view: str) -> Image:
        image = self._env.sim.render(camera_name=CAMERAS[view], width=self.size, height=self.size)
        # OpenGL's first row is the lowest.
        return np.ascontiguousarray(image[::-1])


def _open(task: str) -> tuple[Any, np.ndarray, str]:
    """The environment, the official initial states, and the instruction."""
    from libero.libero import benchmark, get_libero_path
    from libero.libero.envs.env_wrapper import ControlEnv

    name = SUITE[task]
    suite = benchmark.get_benchmark(name)()
    number = SUITES[name].index(task)
    description = suite.get_task(number)
    if description.name != task:
        raise UserError(f"the installed LIBERO calls task {number} of {name} {description.name!r}, not {task!r}")
    file = Path(get_libero_path("bddl_files")) / description.problem_folder / description.bddl_file
    # Without cameras of its own it renders nothing; and what is loaded once need not be loaded at every reset.
    env = ControlEnv(str(file), use_camera_obs=False, has_offscreen_renderer=True, hard_reset=False, ignore_done=True)
    return env, np.asarray(suite.get_task_init_states(number)), description.language


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """LIBERO draws from NumPy's global generator, which everybody else finds as they left it."""
    before = np.random.get_state()
    np.random.set_state(np.random.RandomState(seed).get_state())
    try:
        yield
    finally:
        np.random.set_state(before)


@contextmanager
def _silent() -> Iterator[None]:
    """LIBERO and robosuite print what they are about, and warn of a file that nobody needs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)
