"""The policy of this project: plans by imagining the video and reading the actions out of it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

from videopolicy import checkpoint
from videopolicy.backbones.base import Condition
from videopolicy.clips.normalize import Normalizer
from videopolicy.diffusion.clocks import FORWARD_DYNAMICS
from videopolicy.diffusion.joint import Joint
from videopolicy.diffusion.noise.base import NoiseLaw
from videopolicy.errors import UserError
from videopolicy.images import fit_to_size
from videopolicy.models.base import Model
from videopolicy.models.sampling import EXACT, Sampling
from videopolicy.policies import recorded
from videopolicy.policies.base import PolicySpec, Precision
from videopolicy.policies.captured import Captured
from videopolicy.policies.continuing import going_on
from videopolicy.progress import say
from videopolicy.registry import entry
from videopolicy.training.performance.compile import compile_blocks
from videopolicy.types import Observation, Plan


class Sample(Protocol):
    """Draws video latents and normalised actions from noise, as `Model.sample` does."""

    def __call__(self, condition: Condition, noise: Joint, *, see: bool, guess: Joint | None = None) -> Joint:
        """See `Model.sample`."""
        ...


def open_model(folder: Path, precision: Precision, offload: bool) -> tuple[Model, checkpoint.Provenance]:
    """A checkpoint's network, on the GPU if there is one; see `checkpoint.load` and `Model.offload`."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model, provenance = checkpoint.load(folder, "cpu" if offload else device, getattr(torch, precision))
    if offload:
        model.offload(device)
    return model, provenance


def make(
    target: str | Path,
    *,
    mode: str = EXACT,
    sampler: str | None = None,
    steps: int | None = None,
    video_steps: int | None = None,
    video_until: float | None = None,
    reuse: int | None = None,
    warm_start: float | None = None,
    inpaint: float | None = None,
    precision: Precision = "float32",
    offload: bool = False,
    compile: bool = False,
) -> "CheckpointPolicy":
    """The policy of a checkpoint, on the GPU if there is one.

    Args:
        target: the checkpoint's folder, as `videopolicy train` writes it.
        mode: one of the ways to draw a plan that the checkpoint has.
        sampler: another than the mode's own.
        steps: another number of noise levels than the mode's own.
        video_steps: another number of noise levels of the video than the mode's own.
        video_until: another noise level at which the video stops than the mode's own.
        reuse: another number of passes than the mode's own, of which the first runs the video model's deep blocks.
        warm_start: another noise level than the mode's own to begin at from what is left of the plan before.
        inpaint: weight of the guidance by which a plan goes on from the one before.
        precision: of the weights in memory.
        offload: whether to keep large parts in main memory, and fetch them to the GPU layer by layer.
        compile: whether to compile the video model's repeated blocks and, on a GPU, to capture all passes of a plan
            as one CUDA graph: minutes before the first plan, and faster ones.

    Raises:
        UserError: no such checkpoint, mode or sampler, a damaged checkpoint, or one that cannot act.
    """
    if not target:
        raise UserError("policy checkpoint: which one? Give --policy checkpoint:FOLDER")
    model, provenance = open_model(Path(target), precision, offload)
    _check_acts(target, model)
    _check_together(model, compile=compile, offload=offload, inpaint=inpaint)
    if compile:
        blocks = compile_blocks(model.backbone)
        say(f"{blocks} blocks are compiled when the first plan is made: minutes, the first time on this machine")
    sampling = model.config.mode(mode).changed(
        sampler=sampler,
        steps=steps,
        video_steps=video_steps,
        video_until=video_until,
        reuse=reuse,
        warm_start=warm_start,
        inpaint=inpaint,
    )
    policy = CheckpointPolicy(model, sampling, provenance.tasks, provenance.noise, mode)
    if compile and model.device.type == "cuda":
        policy.sample = Captured(model, sampling)
    return policy


def _check_together(model: Model, *, compile: bool, offload: bool, inpaint: float | None) -> None:
    if compile and offload:
        raise UserError("--compile and --offload exclude each other: a captured graph needs the weights on the GPU")
    if inpaint and model.config.committed:
        raise UserError("--inpaint guides a head that has not learnt to go on from a plan; this one has (--committed)")
    if compile and inpaint:
        raise UserError("--compile and --inpaint exclude each other: a captured graph has no derivatives")


def _check_acts(target: str | Path, model: Model) -> None:
    if not model.acts:
        raise UserError(f"{target}: trained on video alone; train a head to it with --stage action --init")
    if model.reads_motion:
        raise UserError(
            f"{target}: reads actions out of recorded video and cannot act; label videos by it with `videopolicy label`"
        )


class CheckpointPolicy:
    """A trained model as `videopolicy.policies.base.Policy`.

    Args:
        model: the network; of video alone it plans video without actions.
        sampling: how a plan is drawn.
        tasks: what it was trained on, by the env's names.
        law: of the noise levels that it was trained at; None if unknown.
        mode: what this way to draw a plan is called.

    Attributes:
        model: the network.
        sampling: how a plan is drawn.
        law: of the noise levels that it was trained at; None if unknown.
        sample: `Model.sample` with this sampling, or what gives the same.
        spec: see `Policy.spec`.
        origin: the state to plan from if nobody knows where the robot is, (S,): poses are then as seen from the
            gripper, or the state is one in the middle of those that it learnt from. None if no state is needed.

    Raises:
        UserError: no such sampler, or the video model cannot hold its deep blocks.
    """

    def __init__(
        self,
        model: Model,
        sampling: Sampling,
        tasks: tuple[str, ...] = (),
        law: NoiseLaw | None = None,
        mode: str = EXACT,
    ) -> None:
        entry("samplers", sampling.sampler)
        model.backbone.reusing(sampling.reuse)
        self.model, self.sampling, self.law = model.eval(), sampling, law
        self.sample: Sample = partial(model.sample, sampling=sampling)
        config = model.config
        relative = self._relative = config.relative_transform if model.acts else None
        states = self._states = model.state_normalizer if model.acts else None
        self.origin = relative.origin.astype(np.float32) if relative else None
        if states and not relative:
            self.origin = states.invert(np.zeros(config.state_width))
        self.spec = PolicySpec(
            views=config.views,
            size=config.size,
            action_width=relative.layout.width if relative else model.action_width,
            chunk=config.window.actions,
            execute=config.execute,
            action_layout=config.action_layout,
            state_layout=str(relative.state_layout) if relative else config.state_layout if states else "",
            fps=config.fps,
            tasks=tasks,
            sampling={
                **recorded.options(sampling, config, mode),
                "precision": str(model.dtype).removeprefix("torch."),
            },
            notes=sampling.warnings(law) if model.acts else (),
            frames=model.frame_statistics,
            identity=recorded.identity(sampling, config),
        )

    def resampled(self, sampling: Sampling, mode: str = EXACT) -> "CheckpointPolicy":
        """The same network, whose plans are drawn in another way.

        Args:
            sampling: how.
            mode: what this way is called.

        Raises:
            UserError: no such sampler.
        """
        return CheckpointPolicy(self.model, sampling, self.spec.tasks, self.law, mode)

    @torch.no_grad()
    def plan(
        self, observations: Sequence[Observation], seeds: Sequence[int], imagine: bool | Sequence[bool]
    ) -> list[Plan]:
        """One plan an observation; see `videopolicy.policies.base.Policy.plan`.

        On a CPU a plan does not depend, to the bit, on what else is in the batch; on a GPU but for rounding.
        """
        wanted = [imagine] * len(observations) if isinstance(imagine, bool) else list(imagine)
        plans: dict[int, Plan] = {}
        for rows in self._batches(observations):
            chosen = [observations[row] for row in rows]
            batch = self._plan_batch(chosen, [seeds[row] for row in rows], [wanted[row] for row in rows])
            plans.update(zip(rows, batch, strict=True))
        return [plans[row] for row in range(len(observations))]

    def _batches(self, observations: Sequence[Observation]) -> list[list[int]]:
        """Rows that are planned in one pass."""
        if self.model.device.type == "cpu":
            # Convolutions of a batch are summed in another order, and on a CPU no faster.
            return [[row] for row in range(len(observations))]
        warm, cold = [], []
        for row, observation in enumerate(observations):
            (warm if self._warm(observation) else cold).append(row)
        return [rows for rows in (warm, cold) if rows]

    def _plan_batch(
        self, observations: Sequence[Observation], seeds: Sequence[int], wanted: Sequence[bool]
    ) -> list[Plan]:
        states = [self._state(observation) for observation in observations]
        drawn, codes = self.draw(observations, seeds, see=any(wanted))
        return [
            self._absolute(plan, state) for plan, state in zip(self.decode(drawn, codes, wanted), states, strict=True)
        ]

    @torch.no_grad()
    def draw(
        self, observations: Sequence[Observation], seeds: Sequence[int], *, see: bool = True
    ) -> tuple[Joint, Float[Tensor, "B V K h w"]]:
        """Video latents and normalised actions, as the model has them, and the codes of the current images.

        Args:
            observations: what is seen; all of them after an earlier plan, or none, if there is a warm start.
            seeds: of each plan's noise.
            see: whether the video is wanted; otherwise it may be anything.
        """
        codes = self.encode(observations)
        instructions = [observation.instruction for observation in observations]
        condition = self.model.condition(codes, instructions, states=self._felt(observations))
        if self.model.acts:
            condition = going_on(condition, self.model, observations, self._planned, self.sampling.inpaint)
        guess = None
        if self._warm(observations[0]):
            planned = np.stack([self._planned(observation) for observation in observations])
            guess = self.model.unmoved(codes, torch.from_numpy(planned).to(codes))
        return self.sample(condition, self.noise(seeds), see=see, guess=guess), codes

    @torch.no_grad()
    def foresee(self, observation: Observation, seed: int, actions: Float32[np.ndarray, "A D"]) -> Plan:
        """What would happen if these actions were executed: forward dynamics.

        Args:
            observation: what is seen.
            seed: of the noise.
            actions: a whole chunk, in the env's own units.

        Returns:
            These actions, and the video that they lead to.

        Raises:
            UserError: the model takes no actions (see `videopolicy.models.base.Model.predict`); or these are of
                another shape, no finite numbers, or far from all that it was trained on.
        """
        chunk, width = self.spec.chunk, self.spec.action_width
        if actions.shape != (chunk, width):
            raise UserError(f"actions are {actions.shape}, but a chunk of this policy's is ({chunk}, {width})")
        learnt = self.learnt(actions, self._state(observation), check=True)
        codes, blank = self.encode([observation]), self.model.blank(1)
        condition = self.model.condition(codes, [observation.instruction])
        given = Joint(blank.video, torch.from_numpy(learnt)[None].to(blank.actions))
        drawn = self.model.predict(condition, self.noise([seed]), self.sampling, FORWARD_DYNAMICS, given)
        return replace(self.decode(drawn, codes, [True])[0], actions=actions)

    def _warm(self, observation: Observation) -> bool:
        """Whether the plan begins from an earlier one."""
        return self.sampling.warm_start is not None and observation.planned is not None and self.model.acts

    def _planned(self, observation: Observation) -> Float32[np.ndarray, "A D"]:
        """What is left of earlier plans as the model has actions; the last one is repeated to the end of the chunk."""
        planned, state = observation.planned, self._state(observation)
        if planned is None or planned.ndim != 2 or planned.shape[1] != self.spec.action_width or not len(planned):
            given = "none" if planned is None else f"an array of shape {planned.shape}"
            raise UserError(f"planned actions are (n, {self.spec.action_width}), at least one of them, not {given}")
        return self.learnt(planned[np.minimum(np.arange(self.spec.chunk), len(planned) - 1)], state)

    def learnt(
        self, chunk: Float32[np.ndarray, "A D"], state: Float32[np.ndarray, "S"] | None, *, check: bool = False
    ) -> Float32[np.ndarray, "A D2"]:
        """A chunk in the env's units as the model has actions, if asked after a check that it can be one."""
        if self._relative is not None and state is not None:
            chunk = self._relative.apply(chunk, state)
        normalizer = self.model.normalizer
        if normalizer is None:
            return chunk
        if check:
            _check_reach(chunk, normalizer)
        return normalizer.apply(chunk)

    def encode(self, observations: Sequence[Observation]) -> Float[Tensor, "B V K h w"]:
        """Codes of the current images."""
        images = np.stack([self._images(observation) for observation in observations])
        frames = torch.from_numpy(images).to(self.model.device)
        return self.model.latents.encode(frames.flatten(0, 1)).unflatten(0, frames.shape[:2])

    def noise(self, seeds: Sequence[int]) -> Joint:
        """Standard normal noise, each sample from its own seed; drawn on the CPU, so the device does not matter."""
        blank = self.model.blank(1).map(lambda part: part.cpu())
        drawn = [Joint.randn_like(blank, torch.Generator().manual_seed(seed)) for seed in seeds]
        return Joint.cat(drawn).map(lambda part: part.to(self.model.device))

    def decode(self, drawn: Joint, current: Float[Tensor, "B V K h w"], wanted: Sequence[bool]) -> list[Plan]:
        """Plans in the env's units, relative if it learnt that, with their video, if any, decoded where wanted."""
        actions = self._in_env_units(drawn.actions.cpu().numpy())
        plans, draws = [], self.model.config.generates_video
        offsets = self.model.config.window.offsets if draws else ()
        for index, show in enumerate(wanted):
            imagined = None
            if show and draws:
                frames = self.model.decode(drawn.video[index : index + 1], current[index : index + 1])[0]
                imagined = dict(zip(self.spec.views, frames.cpu().numpy(), strict=True))
            plans.append(Plan(actions[index], imagined, offsets))
        return plans

    def executable(
        self, actions: Float32[np.ndarray, "A D2"], state: Float32[np.ndarray, "S"] | None
    ) -> Float32[np.ndarray, "A D"]:
        """Normalised actions in the env's own units; of relative ones, state is where they begin."""
        return self._from(self._in_env_units(actions), state)

    def _in_env_units(self, actions: Float32[np.ndarray, "*B A D"]) -> Float32[np.ndarray, "*B A D"]:
        normalizer = self.model.normalizer
        if normalizer is None:
            return actions
        # Who executes a plan refuses what is no number, and counts its episode: others' plans are none the worse.
        known = np.isfinite(actions)
        inverted = normalizer.invert(normalizer.clip(np.where(known, actions, 0)))
        return np.where(known, inverted, np.float32(np.nan))

    def _felt(self, observations: Sequence[Observation]) -> Float[Tensor, "B S"] | None:
        """The states as the model has them; None if it reads none."""
        if self._states is None:
            return None
        states = np.stack([state for state in map(self._state, observations) if state is not None])
        if not np.isfinite(states).all():
            raise UserError("the state in an observation is not finite; look at what the robot says of itself")
        return torch.from_numpy(self._states.apply(states)).to(self.model.device)

    def _state(self, observation: Observation) -> Float32[np.ndarray, "S"] | None:
        """Where relative actions begin, and what the model reads of the robot; None if neither is so."""
        if self.origin is None:
            return None
        if observation.state is None or observation.state.shape != self.origin.shape:
            given = "none" if observation.state is None else f"one of shape {observation.state.shape}"
            layout = f" {self.spec.state_layout!r}" if self.spec.state_layout else ""
            raise UserError(f"the policy acts from the state{layout}, {len(self.origin)} wide, but is given {given}")
        return observation.state

    def _absolute(self, plan: Plan, state: Float32[np.ndarray, "S"] | None) -> Plan:
        return replace(plan, actions=self._from(plan.actions, state))

    def _from(
        self, actions: Float32[np.ndarray, "A D2"], state: Float32[np.ndarray, "S"] | None
    ) -> Float32[np.ndarray, "A D"]:
        """A chunk that begins at a state; of relative ones of which a number is none, nothing is known."""
        if self._relative is None or state is None:
            return actions
        if not np.isfinite(actions).all():
            return np.full((len(actions), self.spec.action_width), np.nan, np.float32)
        return self._relative.invert(actions, state)

    def _images(self, observation: Observation) -> UInt8[np.ndarray, "V H W 3"]:
        for view in self.spec.views:
            if view not in observation.images:
                given = ", ".join(observation.images) or "none"
                raise UserError(f"the policy sees view {view!r}, but is given {given}")
            image = observation.images[view]
            if image.ndim != 3 or image.shape[2] != 3 or not image.size or image.dtype != np.uint8:
                raise UserError(f"view {view!r} is {image.shape} {image.dtype}; give an RGB image, (H, W, 3) uint8")
        return np.stack([fit_to_size(observation.images[view][None], self.spec.size)[0] for view in self.spec.views])


def _check_reach(chunk: Float32[np.ndarray, "A D"], normalizer: Normalizer) -> None:
    """Refuses actions that lie beyond those of training by more than the range of these: those of other units."""
    low, high = np.array(normalizer.low), np.array(normalizer.high)
    beyond = np.argwhere((high > low) & ((chunk < 2 * low - high) | (chunk > 2 * high - low)))
    if len(beyond):
        row, column = beyond[0].tolist()
        raise UserError(
            f"actions[{row}][{column}] is {chunk[row, column]:g}, but those that the policy was trained on are from "
            f"{low[column]:g} to {high[column]:g}; give them in the env's own units"
        )
