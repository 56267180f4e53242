"""Runs in processes of their own, alone or together, that a test can kill.

They are forked from a server that has imported everything, so that each takes milliseconds to start.
"""

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path

from tests.small import MODEL, TRAINING

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["videopolicy.training.loop", "videopolicy.training.prepare", "tensorboard.summary"])
# Exit code of a process that found itself alone.
ALONE = 3
# As `configs/accelerate/fsdp2.yaml` has it, in the words that accelerate's launcher hands down.
SHARDED = {
    "ACCELERATE_USE_FSDP": "true",
    "FSDP_VERSION": "2",
    "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}


def start(target: Callable, *args, rank: int = 0, port: int | None = None, **environment: str):
    """A process that calls a function of this module; one of two if there is a port."""
    if port is not None:
        environment |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
        environment |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    process = CONTEXT.Process(target=_called, args=(environment, target, args))
    process.start()
    return process


def start_pair(target: Callable, *args, **environment: str):
    """Two processes of one run."""
    shared = port()
    return [start(target, *args, rank=rank, port=shared, **environment) for rank in range(2)]


def port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait(*processes) -> list[int]:
    """Their exit codes; negative for a signal."""
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def set_up(data: Path, run: Path, resume: bool, changes: dict, init: Path | None = None, shape=MODEL):
    """A trainer as `videopolicy train` has it."""
    from videopolicy import checkpoint
    from videopolicy.datasets.mixture import open_sources
    from videopolicy.training import state
    from videopolicy.training.distributed import ProcessGroup
    from videopolicy.training.loop import Origin, Trainer
    from videopolicy.training.prepare import prepare

    training = replace(TRAINING, **changes)
    begun = state.newest(run / state.STATE, ProcessGroup()) if resume else None
    weights = checkpoint.load(init)[0] if init else None
    model, clips = prepare(open_sources([data]), shape, training, run, weights, begun)
    trainer = Trainer(model, clips, training, run, Origin("dots"))
    if begun:
        trainer.resume(begun)
    return trainer


def train(data: Path, run: Path, resume: bool, changes: dict, init: Path | None = None, shape=MODEL) -> None:
    """Trains to the end."""
    set_up(data, run, resume, changes, init, shape).train()


def train_transformer(data: Path, run: Path, changes: dict) -> None:
    """Trains a policy on Wan's transformer to the end, its blocks rerun in the backward pass."""
    from videopolicy.backbones import wan

    shape = replace(MODEL, backbone=wan.EXAMPLE)
    set_up(data, run, False, changes | {"gradient_checkpointing": True}, shape=shape).train()


def train_to_the_signal(data: Path, run: Path, resume: bool, changes: dict) -> None:
    """Trains until it is stopped, and writes down at which step; exits with ALONE if another process is gone."""
    from videopolicy.errors import UserError

    trainer = set_up(data, run, resume, changes)
    try:
        trainer.train()
    except KeyboardInterrupt:
        (run / f"stopped-{trainer.group.rank}").write_text(str(trainer.step), encoding="utf-8")
    except UserError as error:
        sys.exit(ALONE if "another process" in str(error) else 1)


def hang() -> None:
    """One process asks, and the other does not answer."""
    import torch

    from videopolicy.errors import UserError
    from videopolicy.training.distributed import ProcessGroup

    group = ProcessGroup(timedelta(seconds=1))
    if not group.main:
        time.sleep(5)
        return
    try:
        group.gather(torch.zeros(1))
    except UserError as error:
        sys.exit(ALONE if "another process" in str(error) else 1)


def train_until(event: str, ending: str, data: Path, run: Path, resume: bool, changes: dict) -> None:
    """Trains until the process is about to do something to a path that ends so, and is killed on the spot."""

    def hook(name: str, args: tuple) -> None:
        if name == event and any(str(arg).endswith(ending) for arg in args if isinstance(arg, str | Path)):
            os.kill(os.getpid(), signal.SIGKILL)

    trainer = set_up(data, run, resume, changes)
    sys.addaudithook(hook)
    trainer.train()


def train_for_a_while(steps: int, share: float, data: Path, run: Path, resume: bool, changes: dict) -> None:
    """Trains for some steps and this share of another one's processor time, and is killed on the spot.

    So it is killed in the middle of anything, and yet before it is at its end, however busy the machine.
    """
    logged = []

    def hook(name: str, args: tuple) -> None:
        if name == "open" and str(args[0]).endswith("losses.jsonl") and args[1] == "a":
            logged.append(time.process_time())
            if len(logged) == steps:
                # Ends the process as SIGKILL does.
                signal.setitimer(signal.ITIMER_PROF, share * (logged[-1] - logged[-2]))

    trainer = set_up(data, run, resume, changes)
    sys.addaudithook(hook)
    trainer.train()


def _called(environment: dict[str, str], target: Callable, args: tuple) -> None:
    import torch

    os.environ.update(environment)
    torch.set_num_threads(1)
    target(*args)
