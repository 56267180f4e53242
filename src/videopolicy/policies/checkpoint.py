"""The policy of this project: plans by imagining the video and reading the actions out of it."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from videopolicy import checkpoint
from videopolicy.diffusion.joint import Joint
from videopolicy.errors import UserError
from videopolicy.images import fit_to_size
from videopolicy.models.video_action import Sampling, VideoActionModel
from videopolicy.registry import entry
from videopolicy.types import Observation, Plan

Precision = Literal["float32", "bfloat16", "float16"]
# Beyond this, no sampler comes measurably nearer to its limit.
MOST_STEPS = 1000


def open_policy(folder: Path, precision: Precision, offload: bool) -> tuple[VideoActionModel, checkpoint.Provenance]:
    """A checkpoint's network, on the GPU if there is one; see `checkpoint.load` and `VideoActionModel.offload`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    policy, provenance = checkpoint.load(folder, "cpu" if offload else device, getattr(torch, precision))
    if offload:
        policy.offload(device)
    return policy, provenance


def make(
    checkpoint_folder: Path,
    *,
    sampler: str | None = None,
    steps: int | None = None,
    precision: Precision = "float32",
    offload: bool = False,
) -> "CheckpointPolicy":
    """The planner of a checkpoint, on the GPU if there is one.

    Args:
        checkpoint_folder: as `videopolicy train` writes it.
        sampler: another than the checkpoint's own.
        steps: another number of noise levels than the checkpoint's own.
        precision: of the weights in memory.
        offload: whether to keep large parts in main memory, and fetch them to the GPU layer by layer.

    Raises:
        UserError: no such checkpoint or sampler, a damaged one, or one that cannot act.
    """
    policy, provenance = open_policy(checkpoint_folder, precision, offload)
    if policy.head is None:
        raise UserError(f"{checkpoint_folder}: trained on video alone; train a head to it with --stage action --init")
    sampling = policy.config.sampling
    sampling = replace(sampling, sampler=sampler or sampling.sampler, steps=sampling.steps if steps is None else steps)
    return CheckpointPolicy(policy, sampling, provenance.tasks)


class CheckpointPolicy:
    """A trained policy as `videopolicy.policies.base.Planner`.

    Attributes:
        policy: the network.
        sampling: how a plan is drawn.
        tasks: what it was trained on, by the env's names.
    """

    def __init__(self, policy: VideoActionModel, sampling: Sampling, tasks: tuple[str, ...] = ()) -> None:
        entry("samplers", sampling.sampler)
        if not 1 <= sampling.steps <= MOST_STEPS:
            bound = "at least 1 sampling step" if sampling.steps < 1 else f"at most {MOST_STEPS} sampling steps"
            raise UserError(f"a plan needs {bound}, not {sampling.steps}")
        self.policy, self.sampling, self.tasks = policy.eval(), sampling, tasks
        self._relative = policy.config.relative_transform if policy.head else None

    @property
    def views(self) -> tuple[str, ...]:
        """Views that an observation must hold."""
        return self.policy.config.views

    @property
    def size(self) -> int:
        """Height and width in pixels at which their images are seen; those of another size are fitted to it."""
        return self.policy.config.size

    @property
    def action_width(self) -> int:
        """D, the width of an action."""
        return self._relative.space.width if self._relative else self.policy.action_width

    @property
    def action_layout(self) -> str:
        """What its dimensions mean (see `videopolicy.actions.layout`), "" if nobody said."""
        return self.policy.config.action_layout

    @property
    def state_layout(self) -> str:
        """What the dimensions of the state in an observation must mean, "" if it is not looked at."""
        return str(self._relative.state_layout) if self._relative else ""

    @property
    def fps(self) -> float | None:
        """Control steps a second that its actions are meant for, None if nobody said."""
        return self.policy.config.fps

    @property
    def origin(self) -> Float32[np.ndarray, "S"] | None:
        """The state to plan from if nobody knows where the robot is: poses are then as seen from the gripper."""
        return self._relative.origin.astype(np.float32) if self._relative else None

    @property
    def execute(self) -> int:
        """Actions of a plan to execute before looking again, unless told otherwise."""
        return self.policy.config.execute

    @torch.no_grad()
    def plan(
        self, observations: Sequence[Observation], seeds: Sequence[int], imagine: bool | Sequence[bool]
    ) -> list[Plan]:
        """One plan an observation; see `videopolicy.policies.base.Planner.plan`.

        On a CPU a plan does not depend, to the bit, on what else is in the batch; on a GPU but for rounding.
        """
        wanted = [imagine] * len(observations) if isinstance(imagine, bool) else list(imagine)
        if self.policy.device.type == "cpu":
            # Convolutions of a batch are summed in another order, and on a CPU no faster.
            singly = zip(observations, seeds, wanted, strict=True)
            return [self._together([seen], [seed], [show])[0] for seen, seed, show in singly]
        return self._together(observations, seeds, wanted)

    def _together(
        self, observations: Sequence[Observation], seeds: Sequence[int], wanted: Sequence[bool]
    ) -> list[Plan]:
        states = [self._state(observation) for observation in observations]
        codes = self.encode(observations)
        condition = self.policy.condition(codes, [observation.instruction for observation in observations])
        drawn = self.policy.sample(condition, self.noise(seeds), self.sampling)
        return [self._in_world(plan, state) for plan, state in zip(self.decode(drawn, wanted), states, strict=True)]

    def encode(self, observations: Sequence[Observation]) -> Float[Tensor, "B V K h w"]:
        """Codes of the current images, which may be of any size; see `videopolicy.images.fit_to_size`."""
        images = np.stack([self._images(observation) for observation in observations])
        frames = torch.from_numpy(images).to(self.policy.device)
        return self.policy.latents.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def noise(self, seeds: Sequence[int]) -> Joint:
        """Standard normal noise, each sample from its own seed; drawn on the CPU, so the device does not matter."""
        blank = self.policy.blank(1).map(lambda part: part.cpu())
        drawn = [Joint.randn_like(blank, torch.Generator().manual_seed(seed)) for seed in seeds]
        return Joint.cat(drawn).map(lambda part: part.to(self.policy.device))

    def decode(self, drawn: Joint, wanted: Sequence[bool]) -> list[Plan]:
        """Plans in the env's units, relative if it learnt that, with their video, if any, decoded where wanted."""
        # A sample may fall outside of what was demonstrated; a robot must not.
        actions = drawn.actions.clamp(-1, 1).cpu().numpy()
        if self.policy.normalizer:
            actions = self.policy.normalizer.invert(actions)
        plans, draws = [], self.policy.backbone.imagines
        offsets = self.policy.config.window.offsets if draws else ()
        for index, show in enumerate(wanted):
            imagined = None
            if show and draws:
                frames = self.policy.decode(drawn.video[index : index + 1])[0]
                imagined = dict(zip(self.views, frames.cpu().numpy(), strict=True))
            plans.append(Plan(actions[index], imagined, offsets))
        return plans

    def _state(self, observation: Observation) -> Float32[np.ndarray, "S"] | None:
        """Where relative actions begin; None if there are none."""
        if self._relative is None:
            return None
        width = self._relative.state_layout.width
        if observation.state is None or observation.state.shape != (width,):
            given = "none" if observation.state is None else f"one of shape {observation.state.shape}"
            raise UserError(f"the policy acts from the state {self.state_layout!r}, {width} wide, but is given {given}")
        return observation.state

    def _in_world(self, plan: Plan, state: Float32[np.ndarray, "S"] | None) -> Plan:
        if self._relative is None or state is None:
            return plan
        return replace(plan, actions=self._relative.invert(plan.actions, state))

    def _images(self, observation: Observation) -> UInt8[np.ndarray, "V H W 3"]:
        for view in self.views:
            if view not in observation.images:
                given = ", ".join(observation.images) or "none"
                raise UserError(f"the policy sees view {view!r}, but is given {given}")
            image = observation.images[view]
            if image.ndim != 3 or image.shape[2] != 3 or not image.size or image.dtype != np.uint8:
                raise UserError(f"view {view!r} is {image.shape} {image.dtype}; give an RGB image, (H, W, 3) uint8")
        return np.stack([fit_to_size(observation.images[view][None], self.size)[0] for view in self.views])
