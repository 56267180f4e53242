"""Drives an env as a robot is driven: at its own rate, whether or not the server that plans answers in time."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from videopolicy.actions.layout import ROTATIONS, Layout
from videopolicy.actions.rotations import rewritten
from videopolicy.client import ClientError, Driver, Lateness, Step, Stopped
from videopolicy.envs.base import Env
from videopolicy.errors import UserError
from videopolicy.rollout.demonstrate import AFTER_SUCCESS
from videopolicy.types import Action, Episode, Frames, Observation

# Makes of an observation what the server is sent.
Message = Callable[[Observation], Mapping[str, object]]


@dataclass(frozen=True)
class Drive:
    """One episode that was driven.

    Attributes:
        episode: what was seen and executed.
        held: control steps in which the robot was held, for want of a fresh action.
        seconds: that it took.
    """

    episode: Episode
    held: int
    seconds: float


def drive(
    env: Env, driver: Driver, message: Message, rate: float, seed: int, tell: Callable[[str], None], patience: float
) -> Drive:
    """Plays an episode; it ends `AFTER_SUCCESS` control steps after success, or at the horizon.

    Args:
        env: where.
        driver: says what to do in each control step.
        message: what it is shown of what is seen.
        rate: control steps a second, at most.
        seed: decides the initial state.
        tell: is given a line whenever the robot begins to be held, goes on, or the server was found again.
        patience: seconds that the first action may take; the driver's `first_bound`.

    Raises:
        UserError: the server does not answer before anything moves, or its actions are not this env's.
    """
    log, watch, pace = _Log(env), _Watch(tell, driver.lateness), _Pace(rate)
    state, _ = env.reset(seed=seed)
    _begin(driver, tell)
    begun, last, success, ended = time.monotonic(), env.horizon, False, False
    while not ended and len(log) < last:
        pace.wait()
        observation, step = _act(env, driver, message, patience, tell)
        watch.heed(step, driver.lateness)
        action = np.clip(step.action, env.action_space.low, env.action_space.high)
        log.add(observation, state, action)
        state, _, _, ended, info = env.step(action)
        if info["success"] and not success:
            success, last = True, len(log) + AFTER_SUCCESS
    return Drive(log.episode(success, seed), watch.held, time.monotonic() - begun)


def safe_action(layout: str, width: int) -> Float32[np.ndarray, "D"]:
    """What holds a robot: no movement where actions are movements, the last action again (NaN) elsewhere.

    Args:
        layout: of the actions (see `videopolicy.actions.layout`), "" if unspecified.
        width: D.
    """
    safe = np.full(width, np.nan, np.float32)
    for part in Layout.parse(layout).parts if layout else ():
        if part.reference == "delta":
            turns = part.kind in ROTATIONS
            safe[part.slice] = rewritten(np.zeros(3, np.float32), "axis_angle", part.kind) if turns else 0
    return safe


def _begin(driver: Driver, tell: Callable[[str], None]) -> None:
    if cause := driver.lateness.error:
        tell(f"waits for the server: {cause}")
    try:
        driver.reset()
    except ClientError as error:
        raise UserError(f"the server cannot be told that an episode begins: {error}") from error


def _act(
    env: Env, driver: Driver, message: Message, patience: float, tell: Callable[[str], None]
) -> tuple[Observation, Step]:
    waits = False
    while True:
        observation = env.observe()
        try:
            return observation, driver.act(message(observation))
        except Stopped as error:
            # Before anything moves; what was seen may have become too old before the server was found.
            if error.late >= patience:
                raise UserError(f"nothing to move by: {error}") from error
            if not waits:
                tell(f"waits for the server: {error}")
            waits = True
        # Another policy is behind the address than there was.
        except ValueError as error:
            raise UserError(f"the server's actions cannot be executed: {error}") from error


class _Pace:
    """Steps at a rate; what one is late, the next ones do not make up for."""

    def __init__(self, rate: float) -> None:
        self._period, self._next = 1 / rate, time.monotonic()

    def wait(self) -> None:
        now = time.monotonic()
        time.sleep(max(0.0, self._next - now))
        self._next = max(self._next, now) + self._period


class _Watch:
    """Tells what changes in how late the server is."""

    def __init__(self, tell: Callable[[str], None], before: Lateness) -> None:
        self._tell, self._found = tell, before.reconnections
        self._holding = False
        self.held = 0

    def heed(self, step: Step, lateness: Lateness) -> None:
        if step.held and not self._holding:
            cause = lateness.error
            why = f"{type(cause).__name__}, {cause}" if cause else "the server has not answered yet"
            self._tell(f"no fresh action for {step.late:.2f} s, held: {why}")
        if lateness.reconnections > self._found:
            self._tell("connected to the server again")
        if self._holding and not step.held:
            self._tell(f"moves again, {step.late:.2f} s late")
        self._holding, self._found = step.held, lateness.reconnections
        self.held += step.held


class _Log:
    """What was seen and executed in an episode."""

    def __init__(self, env: Env) -> None:
        self._env = env
        self._frames: dict[str, list[Frames]] = {view: [] for view in env.views}
        self._states: list[np.ndarray] = []
        self._actions: list[Action] = []

    def __len__(self) -> int:
        return len(self._actions)

    def add(self, observation: Observation, state: np.ndarray, action: Action) -> None:
        for view, image in observation.images.items():
            self._frames[view].append(image)
        self._states.append(state)
        self._actions.append(action)

    def episode(self, success: bool, seed: int) -> Episode:
        views = {view: np.stack(images) for view, images in self._frames.items()}
        about = self._env.instruction, self._env.fps
        return Episode(views, *about, np.stack(self._actions), np.stack(self._states), self._env.task, success, seed)
