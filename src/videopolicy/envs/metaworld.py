"""Meta-World's 50 tabletop tasks, with a scripted expert each (Meta-World 3.1.1, MuJoCo)."""

import atexit
import warnings
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np

from videopolicy.envs import rendering
from videopolicy.envs.base import Env, State, check
from videopolicy.errors import UserError
from videopolicy.types import Action, Image, Observation

INSTRUCTIONS = {
    "assembly-v3": "put the ring on the peg",
    "basketball-v3": "put the ball through the hoop",
    "bin-picking-v3": "move the cube into the other bin",
    "box-close-v3": "put the lid on the box",
    "button-press-topdown-v3": "press the button from above",
    "button-press-topdown-wall-v3": "press the button behind the wall from above",
    "button-press-v3": "press the button from the front",
    "button-press-wall-v3": "press the button behind the wall",
    "coffee-button-v3": "press the button of the coffee machine",
    "coffee-pull-v3": "pull the mug away from the coffee machine",
    "coffee-push-v3": "push the mug under the coffee machine",
    "dial-turn-v3": "turn the dial",
    "disassemble-v3": "lift the ring off the peg",
    "door-close-v3": "close the door",
    "door-lock-v3": "lock the door",
    "door-open-v3": "open the door",
    "door-unlock-v3": "unlock the door",
    "drawer-close-v3": "close the drawer",
    "drawer-open-v3": "open the drawer",
    "faucet-close-v3": "turn the faucet off",
    "faucet-open-v3": "turn the faucet on",
    "hammer-v3": "hammer the nail into the wall",
    "hand-insert-v3": "put the cube into the hole",
    "handle-press-side-v3": "press the handle down from the side",
    "handle-press-v3": "press the handle down",
    "handle-pull-side-v3": "pull the handle up from the side",
    "handle-pull-v3": "pull the handle up",
    "lever-pull-v3": "pull the lever up",
    "peg-insert-side-v3": "insert the peg into the hole sideways",
    "peg-unplug-side-v3": "pull the peg out sideways",
    "pick-out-of-hole-v3": "lift the puck out of the hole",
    "pick-place-v3": "pick the puck up to the goal",
    "pick-place-wall-v3": "lift the puck over the wall",
    "plate-slide-back-side-v3": "slide the plate sideways out of the goal",
    "plate-slide-back-v3": "slide the plate back out of the goal",
    "plate-slide-side-v3": "slide the plate into the goal sideways",
    "plate-slide-v3": "slide the plate into the goal",
    "push-back-v3": "pull the puck back to the goal",
    "push-v3": "push the puck to the goal",
    "push-wall-v3": "push the puck around the wall",
    "reach-v3": "move the hand to the goal",
    "reach-wall-v3": "move the hand around the wall",
    "shelf-place-v3": "put the block on the shelf",
    "soccer-v3": "kick the ball into the goal",
    "stick-pull-v3": "pull the thermos with the stick",
    "stick-push-v3": "push the thermos with the stick",
    "sweep-into-v3": "sweep the block into the hole",
    "sweep-v3": "sweep the block off the table",
    "window-close-v3": "slide the window shut",
    "window-open-v3": "slide the window open",
}
TASKS = tuple(INSTRUCTIONS)
VIEWS = ("corner", "corner2", "corner3", "corner4", "gripperPOV", "behindGripper", "topview")
DEFAULT_VIEWS = ("corner2", "corner3", "gripperPOV")
EXAMPLE, REQUIRES = "button-press-topdown-v3", ("metaworld",)
# These cameras of Meta-World's hang head down.
UPSIDE_DOWN = frozenset({"corner", "corner2", "corner3", "corner4"})
HORIZON = 200
# Tasks on which the expert itself, with noise on its actions, has needed more than 150 steps.
SLOW_HORIZON = 400
SLOW = frozenset({"disassemble-v3", "peg-insert-side-v3", "peg-unplug-side-v3", "pick-out-of-hole-v3", "stick-pull-v3"})


def make(task: str, *, views: Sequence[str] = DEFAULT_VIEWS, size: int = 64) -> "MetaWorld":
    """Opens a task.

    Raises:
        UserError: unknown task or view, Meta-World is not installed, or nothing here can render.
    """
    check(task, TASKS, views, VIEWS, size)
    prepare()
    return MetaWorld(task, tuple(views), size)


def prepare() -> rendering.Renderer:
    """Finds what renders, for this process and those that it starts.

    Raises:
        UserError: Meta-World is not installed, or nothing here can render.
    """
    if not all(find_spec(name) for name in ("metaworld", "mujoco", "packaging")):
        raise UserError("env 'metaworld' needs the extra: pip install 'videopolicy[metaworld]'")
    return rendering.choose()


class MetaWorld(Env):
    """One Meta-World task.

    Action (4): how far the hand's target moves in x, y, z, in centimetres, and the gripper's force (1 closes),
    each in -1 to 1.
    State (4): the hand's position in metres and the gripper's opening, 0 to 1.
    The seed decides where the objects and the goal are.
    """

    fps = 80.0
    action_layout = "delta_position gripper[-1,1]"
    state_layout = "position gripper[1,0]"

    def __init__(self, task: str, views: tuple[str, ...], size: int):
        # Imported here, after the rendering backend has been chosen.
        import mujoco
        from metaworld.env_dict import ENV_CLS_MAP
        from metaworld.policies import ENV_POLICY_MAP

        self.task, self.instruction, self.views, self.size = task, INSTRUCTIONS[task], views, size
        self.horizon = SLOW_HORIZON if task in SLOW else HORIZON
        self._env: Any = _observable(ENV_CLS_MAP[task]())
        self._policy = ENV_POLICY_MAP[task]
        self._mujoco: Any = mujoco
        self._renderer: mujoco.Renderer | None = None
        self._full = np.zeros(39)
        self._steps = 0
        self.action_space = gymnasium.spaces.Box(-1.0, 1.0, (4,), np.float32)
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (4,), np.float32)

    @property
    def model(self) -> Any:
        """MuJoCo's model, which stays through all episodes; its look may be changed before anything is drawn."""
        return self._env.model

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[State, dict[str, Any]]:
        """Starts an episode; see `Env.reset`."""
        gymnasium.Env.reset(self, seed=seed)
        self._env.seed(int(self.np_random.integers(2**31)) if seed is None else seed)
        self._full, _ = self._env.reset()
        # Some tasks move the goal's mark last of all, and would show it where the episode before had left it.
        self._mujoco.mj_forward(self._env.model, self._env.data)
        self._steps = 0
        return self._state(), {"success": False}

    def step(self, action: Action) -> tuple[State, float, bool, bool, dict[str, Any]]:
        """Executes one action; see `Env.step`."""
        self._full, reward, _, _, info = self._env.step(np.clip(action, -1, 1))
        self._steps += 1
        return self._state(), float(reward), False, self._steps >= self.horizon, {"success": bool(info["success"])}

    def observe(self) -> Observation:
        """Renders every view; see `Env.observe`."""
        images = {view: self._render(view) for view in self.views}
        return Observation(images, self.instruction, self._state())

    def expert(self) -> Callable[[], Action]:
        """Meta-World's own scripted policy, which reads where the objects and the goal are."""
        policy = self._policy()

        def act() -> Action:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # it warns of what is clipped here
                return np.clip(policy.get_action(self._full), -1, 1).astype(np.float32)

        return act

    def close(self) -> None:
        """Frees the renderer; call it last, as other renderers of the process may suffer."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def _state(self) -> State:
        return self._full[:4].astype(np.float32)

    def _render(self, view: str) -> Image:
        renderer = self._renderer or self._open_renderer()
        renderer.update_scene(self._env.data, camera=view)
        # Shadows and reflections cost ten times the rest; updating the scene switches them on again.
        renderer.scene.flags[self._mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        renderer.scene.flags[self._mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        image = renderer.render()
        return np.ascontiguousarray(image[::-1, ::-1] if view in UPSIDE_DOWN else image)

    def _open_renderer(self) -> Any:
        self._env.model.vis.quality.offsamples = 0  # read once, when the renderer is made
        self._renderer = self._mujoco.Renderer(self._env.model, self.size, self.size)
        # Left to the interpreter's end, the context would outlive EGL and print an error.
        atexit.register(self.close)
        return self._renderer


def _observable(env: Any) -> Any:
    """Lets the expert see the goal, and draws a new start at every reset, from the environment's own generator."""
    env._partially_observable = False
    del env.sawyer_observation_space  # cached while the goal was still hidden
    env._freeze_rand_vec = False
    env.seeded_rand_vec = True
    env._set_task_called = True
    return env
