"""RoboCasa's 24 atomic tasks (Nasiriany et al. 2024), in its own package: v0.2, or RoboCasa365 v1.0.1.

No extra installs it: docs/robocasa.md has the commands, and says what of this file was never run with the real assets.
"""

from collections.abc import Callable, Sequence
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np

from videopolicy.datasets.robomimic.schema import BASE_AT_REST, FPS
from videopolicy.envs import places, rendering
from videopolicy.envs.base import EVALUATION_SEED_OFFSET, State, check
from videopolicy.envs.robocasa.tasks import IN_A_ROW, KITCHENS, RELEASES, Release
from videopolicy.envs.robocasa.tasks import TASKS as TABLE
from videopolicy.envs.robosuite_env import ArmEnv, contained, numpy_seeded, state
from videopolicy.errors import UserError
from videopolicy.types import Action

TASKS = tuple(TABLE)
# Called as robosuite's cameras are, and as the recorded demonstrations call them.
VIEWS = ("robot0_agentview_left", "robot0_agentview_right", "robot0_eye_in_hand")
PAGE = "docs/robocasa.md has the commands"
# It is in no package index, and its kitchen assets are a download of gigabytes.
REQUIRES = ("robocasa",)


def make(task: str, *, views: Sequence[str] = VIEWS, size: int = 128) -> "RoboCasa":
    """Opens a task.

    Raises:
        UserError: unknown task or view, or `prepare` refuses.
    """
    check(task, TASKS, views, VIEWS, size)
    prepare()
    return RoboCasa(task, tuple(views), size)


def prepare() -> rendering.Renderer:
    """Finds what renders, for this process and those that it starts, and imports RoboCasa.

    Raises:
        UserError: RoboCasa is absent, of a version or beside packages that it was not checked with, cannot be imported,
            or lacks its kitchen assets; or nothing here can render.
    """
    name, release = installed()
    check_assets(release, _package() / "models/assets")
    places.prepare()
    renderer = rendering.choose()
    try:
        with contained():
            import_module("robocasa")
    except (AssertionError, ImportError) as error:
        raise UserError(f"RoboCasa {name} refuses to be imported: {error}; {PAGE}") from error
    base = import_module("robosuite.environments.base").MujocoEnv
    if release.renamed and "load_model_on_init" not in signature(base.__init__).parameters:
        right = "robosuite's master branch, which calls itself by the same version as the released package"
        raise UserError(f"RoboCasa {name} needs {right}; {PAGE}")
    return renderer


def installed() -> tuple[str, Release]:
    """The version of RoboCasa that is installed, and what is known of it.

    Raises:
        UserError: none, another than those known, or beside packages that it was not checked with.
    """
    if (name := _version("robocasa")) is None:
        raise UserError(f"env 'robocasa' needs RoboCasa {' or '.join(RELEASES)} and its kitchen assets; {PAGE}")
    return name, check_versions(name, _version)


def check_versions(name: str, version_of: Callable[[str], str | None]) -> Release:
    """What is known of a version of RoboCasa.

    Args:
        name: the version.
        version_of: the installed version of a package, None if it is absent.

    Raises:
        UserError: an unknown version, or packages beside it of versions that it was not checked with.
    """
    if name not in RELEASES:
        raise UserError(f"RoboCasa {name} is installed; this env was checked with {' and '.join(RELEASES)}; {PAGE}")
    wrong = [
        f"{package} {right}, not {here or 'absent'}"
        for package, right in RELEASES[name].pins.items()
        if (here := version_of(package)) != right
    ]
    if wrong:
        raise UserError(f"RoboCasa {name} was checked with {' and '.join(wrong)}; {PAGE}")
    return RELEASES[name]


def check_assets(release: Release, folder: Path) -> None:
    """Raises UserError if a folder of assets is without what a download would have brought."""
    absent = [pattern for pattern in release.assets if next(folder.glob(pattern), None) is None]
    if absent:
        command = "python -m robocasa.scripts.download_kitchen_assets"
        raise UserError(f"no kitchen assets: nothing matches {' '.join(absent)} in {folder}; {command} brings them")


def scene(seed: int, release: Release) -> tuple[tuple[int, int], str]:
    """The kitchen (layout, style) and the split of objects of an episode, in the numbers and words of a release.

    Ten evaluation episodes in a row play in one kitchen, then come ten in the next, with objects that no demonstration
    shows. Other seeds draw the kitchen, with the objects of the demonstrations.
    """
    if seed >= EVALUATION_SEED_OFFSET:
        number, split = (seed - EVALUATION_SEED_OFFSET) // IN_A_ROW % len(KITCHENS), release.unseen
    else:
        number, split = int(np.random.default_rng(seed).integers(len(KITCHENS))), release.seen
    layout, style = KITCHENS[number]
    return (layout + release.first, style + release.first), split


class RoboCasa(ArmEnv):
    """One RoboCasa task; see `ArmEnv` for actions and states.

    Actions are seen from the robot's base, which stands otherwise in every kitchen, states from the kitchen: so are
    those of the recorded demonstrations. A seed decides all that RoboCasa draws: the kitchen (see `scene`), the
    objects, their places, and the instruction.
    """

    def __init__(self, task: str, views: tuple[str, ...], size: int) -> None:
        super().__init__(task, views, size, TABLE[task].horizon)
        _, self._release = installed()
        with contained():
            env = _open(task, self._release)
        self._hold(env)
        # Before it, there is no instruction.
        self.reset(seed=0)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[State, dict[str, Any]]:
        """Starts an episode; see `Env.reset`. The kitchen is built anew, which takes seconds."""
        gymnasium.Env.reset(self, seed=seed)
        start = int(self.np_random.integers(EVALUATION_SEED_OFFSET)) if seed is None else seed
        kitchen, self._env.obj_instance_split = scene(start, self._release)
        self._env.layout_and_style_ids = [kitchen]
        self._env.rng = np.random.default_rng(start)
        # v1.x draws the noise of some cameras from NumPy's global generator.
        with numpy_seeded(start), contained():
            self._obs = self._env.reset()
        self.instruction = self._env.get_ep_meta()["lang"]
        self._steps = 0
        return state(self._obs), {"success": False}

    def whole(self, action: np.ndarray) -> np.ndarray:
        """The robot's twelve dimensions from the arm's seven: the base and the torso rest, the arm is what moves."""
        return np.concatenate([action, BASE_AT_REST])

    def done(self) -> bool:
        """Whether the task is done now."""
        return bool(self._env._check_success())

    def expert(self) -> Callable[[], Action]:
        """There is none.

        Raises:
            UserError: always.
        """
        raise UserError(f"RoboCasa has no scripted expert: convert its recorded demonstrations; {PAGE}")


def _package() -> Path:
    """The package's folder, found without importing it."""
    spec = find_spec("robocasa")
    if spec is None or spec.origin is None:
        raise UserError(f"RoboCasa is installed, but its package cannot be found; {PAGE}")
    return Path(spec.origin).parent


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _open(task: str, release: Release) -> Any:
    robosuite, controllers = import_module("robosuite"), import_module("robosuite.controllers")
    name, which = task, {}
    if release.renamed:
        name = TABLE[task].renamed
        if TABLE[task].door:
            which = {"fixture_id": import_module("robocasa.models.fixtures").FixtureType[TABLE[task].door]}
    kitchen, split = scene(EVALUATION_SEED_OFFSET, release)
    return robosuite.make(
        name,
        robots="PandaOmron",
        controller_configs=controllers.load_composite_controller_config(controller=None, robot="PandaOmron"),
        layout_and_style_ids=[kitchen],
        obj_instance_split=split,
        generative_textures=None,
        randomize_cameras=False,
        translucent_robot=False,
        control_freq=FPS,
        ignore_done=True,
        seed=0,
        # It renders nothing of its own accord; this renderer is the one that frees the last episode's simulator.
        use_camera_obs=False,
        has_renderer=False,
        has_offscreen_renderer=True,
        renderer="mujoco",
        **which,
    )
