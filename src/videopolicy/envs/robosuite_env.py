"""What envs that are built on robosuite share: one arm, its state and actions, upright pictures, and good manners."""

import atexit
import io
import logging
import os
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import gymnasium
import numpy as np

from videopolicy.datasets.robomimic.schema import ARM_LAYOUT, FPS
from videopolicy.envs.base import Env, State
from videopolicy.types import Action, Image, Observation

# What robosuite reports of the robot, in the order of our state.
STATE = ("robot0_eef_pos", "robot0_eef_quat", "robot0_gripper_qpos")


@dataclass(frozen=True)
class Snapshot:
    """All that changes in an `ArmEnv` while an episode goes on.

    Attributes:
        physics: the simulator's state.
        grip: what the gripper was last told.
        clock: robosuite's step and time.
        observation: what robosuite last reported.
        steps: the episode's control steps so far.
    """

    physics: Any
    grip: Any
    clock: tuple[int, float]
    observation: Mapping[str, np.ndarray]
    steps: int


class ArmEnv(Env):
    """A task of robosuite's with one arm, whose controller takes the steps of the hand's pose.

    Action (7): the hand's motion (3, in 5 cm), its turn (3, axis-angle in 0.5 rad) and the gripper (-1 open, 1 closed).
    State (9): the hand's position in metres, its attitude as a quaternion xyzw, and both fingers' positions in metres.
    """

    fps = FPS
    action_layout = ARM_LAYOUT
    state_layout = "position quaternion gripper:2"

    def __init__(self, task: str, views: tuple[str, ...], size: int, horizon: int) -> None:
        self.task, self.views, self.size, self.horizon = task, views, size, horizon
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (7,), np.float32)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (9,), np.float32)
        # Whatever keeps robosuite's interface.
        self._env: Any = None
        self._obs: Mapping[str, np.ndarray] = {}
        self._steps = 0

    @property
    def simulator(self) -> Any:
        """The environment of robosuite itself."""
        return self._env

    def snapshot(self) -> Snapshot:
        """The episode as it is now, for `restore`."""
        simulator = self.simulator
        grip = deepcopy(simulator.robots[0].gripper.current_action)
        clock = (simulator.timestep, simulator.cur_time)
        return Snapshot(simulator.sim.get_state(), grip, clock, self._obs, self._steps)

    def restore(self, snapshot: Snapshot) -> None:
        """Puts the episode back to where it was; robosuite 1.4's arms, whose one controller begins there anew.

        Args:
            snapshot: of the same episode, and as good as before afterwards.
        """
        simulator, robot = self.simulator, self.simulator.robots[0]
        simulator.sim.set_state(snapshot.physics)
        simulator.sim.forward()
        robot.controller.update(force=True)
        robot.controller.reset_goal()
        robot.gripper.current_action = deepcopy(snapshot.grip)
        simulator.timestep, simulator.cur_time = snapshot.clock
        self._obs, self._steps = snapshot.observation, snapshot.steps

    @abstractmethod
    def done(self) -> bool:
        """Whether the task is done now."""

    def camera(self, view: str) -> str:
        """What robosuite calls a view."""
        return view

    def whole(self, action: np.ndarray) -> np.ndarray:
        """The robot's action from the arm's (7,), which is within the bounds."""
        return action

    def step(self, action: Action) -> tuple[State, float, bool, bool, dict[str, Any]]:
        """Executes one action; see `Env.step`."""
        self._obs, reward, *_ = self._env.step(self.whole(np.clip(action, -1, 1)))
        self._steps += 1
        return state(self._obs), float(reward), False, self._steps >= self.horizon, {"success": self.done()}

    def observe(self) -> Observation:
        """Renders every view; see `Env.observe`."""
        return Observation({view: self._render(view) for view in self.views}, self.instruction, state(self._obs))

    def close(self) -> None:
        """Frees the simulator; call it last, as other simulators of the process may suffer."""
        atexit.unregister(self.close)
        if self._env is None:
            return
        # Whoever else holds the simulator must not free its renderer again, when EGL may have ended.
        context = getattr(self.simulator.sim, "_render_context_offscreen", None)
        if context is not None:
            context.con.free()
            context.gl_ctx.free()
        self._env.close()
        self._env = None

    def _hold(self, env: Any) -> None:
        """Takes a simulator that was just opened, and sees to it that it is closed."""
        self._env = env
        # Left to the interpreter's end, its renderer would outlive EGL and print an error.
        atexit.register(self.close)

    def _render(self, view: str) -> Image:
        image = self._env.sim.render(camera_name=self.camera(view), width=self.size, height=self.size)
        # OpenGL's first row is the lowest.
        return np.ascontiguousarray(image[::-1])


def state(observation: Mapping[str, np.ndarray]) -> State:
    """The arm's state (9,) in an observation of robosuite's."""
    return np.concatenate([observation[name] for name in STATE]).astype(np.float32)


@contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """NumPy's global generator begins with this seed, and everybody else finds it as they left it."""
    before = np.random.get_state()
    np.random.set_state(np.random.RandomState(seed).get_state())
    try:
        yield
    finally:
        np.random.set_state(before)


@contextmanager
def contained() -> Iterator[None]:
    """Within, simulators are imported and opened without harm.

    They print what they are about, warn of files that nobody needs, keep a log in one place for all users of the
    machine, where another user's may lie, and take the GPUs that CUDA may use for numbers of EGL's devices.
    """
    before, handler = logging.root.manager.disable, logging.FileHandler
    visible = os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    logging.disable(logging.WARNING)
    # They open that log by this class while they are imported; a type checker wants no function in its place.
    logging.FileHandler = lambda *_, **__: logging.NullHandler()  # type: ignore[misc, assignment]
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.FileHandler = handler
        logging.disable(before)
        if visible is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = visible
