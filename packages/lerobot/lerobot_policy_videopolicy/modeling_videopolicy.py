"""A checkpoint as a policy of LeRobot's: observations are its tensors, actions are in the env's own units."""

import shutil
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies.pretrained import PreTrainedPolicy
from torch import Tensor

from videopolicy.datasets.lerobot.spec import IMAGES, STATE
from videopolicy.errors import UserError
from videopolicy.executors.base import NotFiniteError
from videopolicy.policies.base import derive_seed
from videopolicy.policies.checkpoint import make
from videopolicy.types import Observation

from .configuration_videopolicy import CHECKPOINT, VideopolicyConfig, refuse_training

TASK = "task"


class VideopolicyPolicy(PreTrainedPolicy):
    """Plans a chunk, gives its first `n_action_steps` actions one after the other, and looks again.

    Plan k since the r-th `reset` (each counted from 0; one is made at the start) has in row b of the batch the noise of
    `derive_seed("lerobot", config.seed, r, k, b)`: its actions are those of `CheckpointPolicy.plan` with that seed.

    Args:
        config: read from a folder that `videopolicy-to-lerobot` wrote.
        of_training: what LeRobot knows of a data set; not used.

    Attributes:
        network: the checkpoint's, for LeRobot to move and to count; in evaluation mode.

    Raises:
        UserError: no such checkpoint or mode, or the env's actions are of another width.
    """

    config_class = VideopolicyConfig
    name = "videopolicy"

    def __init__(self, config: VideopolicyConfig, **of_training: object) -> None:
        super().__init__(config)
        config.validate_features()
        self._planning = make(Path(config.pretrained_path, CHECKPOINT), mode=config.mode)
        self.network = self._planning.model
        width, action = self._planning.spec.action_width, config.action_feature
        if action is not None and tuple(action.shape) != (width,):
            raise UserError(
                f"the env or robot has actions of shape {tuple(action.shape)}, the checkpoint of ({width},)"
            )
        self._resets = -1
        self.reset()

    @classmethod
    def from_pretrained(
        cls, pretrained_name_or_path: str | Path, *, config: PreTrainedConfig | None = None, **of_hub: Any
    ) -> Self:
        """Opens a folder that `videopolicy-to-lerobot` wrote.

        Args:
            pretrained_name_or_path: the folder, on this machine.
            config: in place of the folder's own.
            of_hub: what LeRobot wants to know of a download; not used.

        Raises:
            UserError: there is no such folder, or it holds no checkpoint.
        """
        folder = Path(pretrained_name_or_path)
        if not (folder / CHECKPOINT).is_dir():
            raise UserError(
                f"{folder}: no such folder with a {CHECKPOINT}/; make it: videopolicy-to-lerobot CHECKPOINT {folder}"
            )
        if config is None:
            config = PreTrainedConfig.from_pretrained(folder)
        config.pretrained_path = folder
        return cls(config).to(config.device).eval()

    def reset(self) -> None:
        """Begins an episode: what is left of the last plan is dropped."""
        self._resets += 1
        self._plans = 0
        self._waiting: deque[Tensor] = deque()

    def select_action(self, batch: dict[str, Any], **more: object) -> Tensor:
        """The next action of each row, (B, D); see `predict_action_chunk`, which is asked when none is left."""
        if not self._waiting:
            chunk = self.predict_action_chunk(batch, **more)
            self._waiting.extend(chunk[:, : self.config.n_action_steps].unbind(dim=1))
        return self._waiting.popleft()

    def predict_action_chunk(self, batch: dict[str, Any], **more: object) -> Tensor:
        """A new plan of each row.

        Args:
            batch: `observation.images.VIEW` (B, 3, H, W), float from 0 to 1 or uint8, of any size, for each view of the
                checkpoint; `task`, a text or B of them; and `observation.state` (B, S) if it acts from the state.
            more: what LeRobot gives to policies of other kinds; not used.

        Returns:
            (B, A, D) float32 in the units of the data that it learnt from.

        Raises:
            UserError: a view, the task or the state is missing or of another shape.
            NotFiniteError: the plan is no numbers.
        """
        seen = observations(batch, self._planning.spec.views, state=self._planning.origin is not None)
        seeds = [derive_seed("lerobot", self.config.seed, self._resets, self._plans, row) for row in range(len(seen))]
        plans = self._planning.plan(seen, seeds, False)
        self._plans += 1
        actions = np.stack([plan.actions for plan in plans])
        if not np.isfinite(actions).all():
            raise NotFiniteError("a plan's actions are not finite; the checkpoint may have diverged in training")
        return torch.from_numpy(actions).to(self.config.device)

    def forward(self, batch: dict[str, Tensor]) -> NoReturn:
        """See `refuse_training`."""
        refuse_training()

    def get_optim_params(self) -> NoReturn:
        """See `refuse_training`."""
        refuse_training()

    def _save_pretrained(self, save_directory: Path, state_dict: Mapping[str, Tensor] | None = None) -> None:
        """Copies the checkpoint: its weights are never others than those that were opened."""
        self.config._save_pretrained(save_directory)
        shutil.copytree(Path(self.config.pretrained_path, CHECKPOINT), save_directory / CHECKPOINT)


def observations(batch: Mapping[str, Any], views: tuple[str, ...], *, state: bool) -> list[Observation]:
    """The rows of LeRobot's batch.

    Args:
        batch: see `VideopolicyPolicy.predict_action_chunk`.
        views: that the policy sees.
        state: whether it acts from the robot's state.

    Raises:
        UserError: something of it is missing.
    """
    for key in (*(IMAGES + view for view in views), TASK, *([STATE] if state else [])):
        if key not in batch:
            given = ", ".join(sorted(batch))
            raise UserError(
                f'the policy needs {key}, but is given {given}; name it by --rename_map=\'{{"GIVEN": "{key}"}}\''
            )
    images = {view: _pixels(batch[IMAGES + view]) for view in views}
    states = batch[STATE].float().cpu().numpy() if state else None
    rows, said = len(next(iter(images.values()))), batch[TASK]
    tasks = [said] * rows if isinstance(said, str) else said
    return [
        Observation(
            {view: frames[row] for view, frames in images.items()},
            tasks[row],
            None if states is None else states[row],
        )
        for row in range(rows)
    ]


def _pixels(images: Tensor) -> np.ndarray:
    """(B, 3, H, W) of floats from 0 to 1, or uint8 -> (B, H, W, 3) uint8; pixels that were uint8 are the same again."""
    if images.dtype != torch.uint8:
        images = (images.float() * 255).round().clamp(0, 255).to(torch.uint8)
    return images.permute(0, 2, 3, 1).contiguous().cpu().numpy()
