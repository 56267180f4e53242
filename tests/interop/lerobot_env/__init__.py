"""An env of this project as one of LeRobot's: `lerobot-eval --env.discover_packages_path=lerobot_env --env.type=shown`.

A package, as LeRobot looks for plug-ins in packages alone. LeRobot's own Meta-World moves the camera `corner2`, and
draws shadows: no picture that the shipped checkpoint knows.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from lerobot.configs import FeatureType, PolicyFeature
from lerobot.envs.configs import EnvConfig

from videopolicy import make_env

SIZE, VIEW = 64, "corner2"


class Shown(gymnasium.Env):
    """One task of Meta-World, seen as in the checkpoint's training."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 80}
    render_mode = "rgb_array"

    def __init__(self, task):
        self.inner = make_env("metaworld", task, views=(VIEW,), size=SIZE)
        self.task, self.task_description = task, self.inner.instruction
        self._max_episode_steps = self.inner.horizon
        picture = gymnasium.spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        self.observation_space = gymnasium.spaces.Dict({"pixels": gymnasium.spaces.Dict({VIEW: picture})})
        self.action_space = self.inner.action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.inner.reset(seed=seed)
        return self._seen(), {"is_success": False}

    def step(self, action):
        _, reward, _, truncated, info = self.inner.step(action)
        return self._seen(), reward, info["success"], truncated, {"is_success": info["success"]}

    def render(self):
        return self._picture

    def close(self):
        self.inner.close()

    def _seen(self):
        self._picture = self.inner.observe().images[VIEW]
        return {"pixels": {VIEW: self._picture}}


@EnvConfig.register_subclass("shown")
@dataclass
class ShownConfig(EnvConfig):
    """What LeRobot knows of it."""

    task: str | None = "button-press-topdown-v3"
    fps: int = 80
    features: dict[str, PolicyFeature] = field(
        default_factory=lambda: {
            "action": PolicyFeature(FeatureType.ACTION, (4,)),
            VIEW: PolicyFeature(FeatureType.VISUAL, (SIZE, SIZE, 3)),
        }
    )
    features_map: dict[str, str] = field(
        default_factory=lambda: {"action": "action", VIEW: f"observation.images.{VIEW}"}
    )

    @property
    def gym_kwargs(self):
        return {}

    def create_envs(self, n_envs, use_async_envs=False):
        envs = [lambda: Shown(self.task)] * n_envs
        return {self.type: {0: SyncVectorEnv(envs, autoreset_mode=AutoresetMode.SAME_STEP)}}
