"""The processes of one run: what they agree on, and tensors that they hold in parts."""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, cast

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import (
    DistributedType,
    FullyShardedDataParallelPlugin,
    parse_flag_from_env,
)
from jaxtyping import Float, Shaped
from torch import Tensor, distributed, nn

from videopolicy.errors import UserError, first_line

# How long a process waits for one that neither answers nor ends; one that ends is noticed at once.
PATIENCE = timedelta(hours=1)
# The same while the main process encodes a data set.
ENCODING = timedelta(days=7)
MOST_DIMENSIONS = 8
PASSES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def process_state() -> PartialState:
    """This process's place among those that a launcher started; alone if none did."""
    return PartialState(cpu=_on_cpu(), timeout=PATIENCE)


def engine(precision: str, track: Sequence[str] = ()) -> Accelerator:
    """Accelerate, as its launcher's settings want it.

    Args:
        precision: of the passes: "no", "bf16" or "fp16".
        track: trackers beside TensorBoard.

    Raises:
        UserError: the launcher's settings name another precision, or the device lacks this one.
    """
    process_state()
    configured = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")
    if configured not in ("no", precision):
        raise UserError(f"accelerate is set to mixed precision {configured!r}; say --precision {configured} as well")
    try:
        accelerator = Accelerator(cpu=_on_cpu(), mixed_precision=precision, log_with=list(track) or None)
    except ValueError as error:
        raise UserError(f"--precision {precision}: {error}") from error
    if accelerator.distributed_type == DistributedType.MULTI_CPU and parse_flag_from_env("ACCELERATE_USE_FSDP"):
        # Accelerate shards on other devices only, though nothing that it calls minds a CPU.
        accelerator.state.fsdp_plugin = FullyShardedDataParallelPlugin()
        accelerator.state.distributed_type = DistributedType.FSDP
    if accelerator.distributed_type == DistributedType.FSDP and precision != "no":
        # Left to accelerate, gradients would be summed over the processes in `precision`, which DDP does in float32;
        # and noise levels and losses would be rounded to it on their way in and out.
        from torch.distributed.fsdp import MixedPrecisionPolicy

        cast(
            FullyShardedDataParallelPlugin, accelerator.state.fsdp_plugin
        ).mixed_precision_policy = MixedPrecisionPolicy(
            PASSES[precision], reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    return accelerator


class ProcessGroup:
    """A channel between the processes of a run, on their CPUs; every process must take part in every call.

    Attributes:
        rank: this process, 0 to size - 1.
        size: processes.
        main: whether this one speaks for all.
    """

    def __init__(self, patience: timedelta = PATIENCE) -> None:
        """Opens the channel.

        Args:
            patience: how long to wait for a process that does not answer.
        """
        state = process_state()
        self.rank, self.size = state.process_index, state.num_processes
        self.main = state.is_main_process
        self._group: distributed.ProcessGroup | None = None
        if self.size > 1:
            self._group = cast(distributed.ProcessGroup, distributed.new_group(backend="gloo", timeout=patience))

    def gather(self, mine: Shaped[Tensor, "*shape"]) -> list[Shaped[Tensor, "*shape"]]:
        """What each process gives, by rank; all of one shape and type.

        Raises:
            UserError: another process has ended, or does not answer.
        """
        if self._group is None:
            return [mine]
        mine = mine.detach().cpu().contiguous()
        found = [torch.empty_like(mine) for _ in range(self.size)]
        with peer_failures():
            distributed.all_gather(found, mine, group=self._group)
        return found

    def concatenate(self, mine: Float[Tensor, "n m"], sizes: list[int]) -> Float[Tensor, "N m"]:
        """The rows of all processes, by rank, of which each gives as many as `sizes` says."""
        padded = mine.new_zeros(max(sizes), mine.shape[1])
        padded[: len(mine)] = mine
        return torch.cat([rows[:size] for rows, size in zip(self.gather(padded), sizes, strict=True)])

    def copy(self, tensors: Iterable[Tensor]) -> None:
        """Puts the main process's values into everyone's tensors."""
        if self._group is not None:
            with peer_failures():
                for tensor in tensors:
                    sent = tensor.detach().cpu().contiguous()
                    distributed.broadcast(sent, src=0, group=self._group)
                    tensor.detach().copy_(sent)

    def copy_state(self, module: nn.Module) -> None:
        """Puts the main process's state into everyone's module, whose tensors may have got their sizes from it."""
        mine = module.state_dict()
        shapes = torch.tensor([[*tensor.shape, *[-1] * (MOST_DIMENSIONS - tensor.dim())] for tensor in mine.values()])
        self.copy([shapes])
        sizes = ([size for size in shape if size >= 0] for shape in shapes.tolist())
        state = {name: tensor.new_empty(size) for (name, tensor), size in zip(mine.items(), sizes, strict=True)}
        if self.main:
            state = mine
        self.copy(state.values())
        module.load_state_dict(state)

    @contextmanager
    def main_first(self) -> Iterator[None]:
        """The main process goes through the block first, the others once it is done."""
        done = torch.zeros(())
        if not self.main:
            self.gather(done)
        yield
        if self.main:
            self.gather(done)


def full_tensor(tensor: Tensor) -> Tensor:
    """All of a tensor, of which each process may hold a part; then all of them must ask."""
    return cast(Any, tensor).full_tensor() if _is(tensor, "torch.distributed.tensor", "DTensor") else tensor


def local_part(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor."""
    return cast(Any, tensor).to_local() if _is(tensor, "torch.distributed.tensor", "DTensor") else tensor


def gather_full(tensors: Mapping[str, Tensor], group: ProcessGroup) -> dict[str, Tensor]:
    """Whole tensors on the CPU, in the main process; nothing in the others, which must take part.

    One after the other: a device holds the whole of only one at a time.
    """
    found: dict[str, Tensor] = {}
    for name, value in tensors.items():
        value = full_tensor(value.detach())
        if group.main:
            found[name] = value.cpu().contiguous()
    return found


def shard_like(value: Tensor, target: Tensor) -> Tensor:
    """A whole tensor as `target` is held: the same process's part of it, if that is in parts."""
    value = value.to(device=target.device, dtype=target.dtype)
    if _is(target, "torch.distributed.tensor", "DTensor"):
        from torch.distributed.tensor import distribute_tensor

        held = cast(Any, target)
        return distribute_tensor(value, held.device_mesh, held.placements, src_data_rank=None)
    return value


@contextmanager
def unsharded(module: nn.Module) -> Iterator[None]:
    """Within, the parts of a module can be called by themselves, though it is sharded; by all processes alike."""
    sharded = cast(Any, module) if _is(module, "torch.distributed.fsdp", "FSDPModule") else None
    if sharded is not None:
        sharded.unshard()
    try:
        yield
    finally:
        if sharded is not None:
            sharded.reshard()


def _is(value: object, module: str, name: str) -> bool:
    """Whether a value is of this class, whose module takes a second to import: before it is, nothing is of it."""
    found = sys.modules.get(module)
    return found is not None and isinstance(value, getattr(found, name))


@contextmanager
def peer_failures() -> Iterator[None]:
    """Within, processes talk to each other: that another one is gone is said in a line.

    Raises:
        UserError: another process has ended, or does not answer.
    """
    try:
        yield
    except RuntimeError as error:
        if not (isinstance(error, distributed.DistError) or "gloo" in str(error)):
            raise
        what = first_line(error)
        raise UserError(f"another process of this run ended or hangs; its own message says why ({what})") from error


def _on_cpu() -> bool:
    # Without this, accelerate takes processes that torchrun starts on a machine without GPUs for runs of their own.
    return not torch.accelerator.is_available() or parse_flag_from_env("ACCELERATE_USE_CPU")
