"""LIBERO's 40 standard tasks (Liu et al. 2023), through the `libero.libero` interface that its distributions share."""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from videopolicy.envs import places, rendering
from videopolicy.envs.base import EVALUATION_SEED_OFFSET, State, check
from videopolicy.envs.libero.expert import Expert
from videopolicy.envs.libero.tasks import HORIZONS, SUITE, SUITES
from videopolicy.envs.robosuite_env import ArmEnv, contained, numpy_seeded, state
from videopolicy.errors import UserError
from videopolicy.types import Action

TASKS = tuple(SUITE)
# View -> robosuite's camera.
CAMERAS = {"agentview": "agentview", "eye_in_hand": "robot0_eye_in_hand"}
VIEWS = tuple(CAMERAS)
# Official initial states of a task.
STARTS = 50
EXAMPLE, REQUIRES = "pick_up_the_salad_dressing_and_place_it_in_the_basket", ("libero",)
# Steps without motion after a reset, until what was placed a little above the table has come to rest.
SETTLING = 10
STILL = np.array([0, 0, 0, 0, 0, 0, -1], np.float32)


def make(task: str, *, views: Sequence[str] = VIEWS, size: int = 128) -> "Libero":
    """Opens a task.

    Raises:
        UserError: unknown task or view, LIBERO is not installed, or nothing here can render.
    """
    check(task, TASKS, views, VIEWS, size)
    prepare()
    return Libero(task, tuple(views), size)


def prepare() -> rendering.Renderer:
    """Finds what renders, and where LIBERO may keep its files, for this process and those that it starts.

    Raises:
        UserError: LIBERO is not installed, or nothing here can render.
    """
    if not all(find_spec(name) for name in ("libero", "robosuite")):
        raise UserError("env 'libero' needs the extra: pip install 'videopolicy[libero]'")
    places.prepare()
    places.configure_libero()
    return rendering.choose()


class Libero(ArmEnv):
    """One LIBERO task; see `ArmEnv` for actions and states.

    A seed of evaluation, EVALUATION_SEED_OFFSET + i, begins in the official initial state i (of 50, again from the
    first after the last). Every other seed draws the places of the objects anew, as LIBERO does for demonstrations.
    """

    def __init__(self, task: str, views: tuple[str, ...], size: int) -> None:
        super().__init__(task, views, size, HORIZONS[SUITE[task]])
        with contained():
            env, self._starts, self.instruction = _open(task)
        self._hold(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[State, dict[str, Any]]:
        """Starts an episode; see `Env.reset`."""
        gymnasium.Env.reset(self, seed=seed)
        start = int(self.np_random.integers(EVALUATION_SEED_OFFSET)) if seed is None else seed
        official = start >= EVALUATION_SEED_OFFSET
        # Furniture has no place in the official states: it stands where a fixed seed puts it.
        with numpy_seeded(0 if official else start), contained():
            self._env.reset()
        # robosuite would begin with the last episode's grip.
        gripper = self._env.robots[0].gripper
        gripper.current_action = np.zeros(gripper.dof)
        if official:
            self._env.set_init_state(self._starts[(start - EVALUATION_SEED_OFFSET) % len(self._starts)])
        for _ in range(SETTLING):
            self._obs, *_ = self._env.step(STILL)
        self._steps = 0
        return state(self._obs), {"success": False}

    def expert(self) -> Callable[[], Action]:
        """A waypoint follower that knows where everything is; see `videopolicy.envs.libero.expert`."""
        return Expert(self)

    @property
    def simulator(self) -> Any:
        """The environment of robosuite itself, which LIBERO wraps."""
        return self._env.env

    def done(self) -> bool:
        """Whether the task is done now."""
        return bool(self._env.check_success())

    def camera(self, view: str) -> str:
        """What robosuite calls a view."""
        return CAMERAS[view]


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
