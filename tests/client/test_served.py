"""The driver against `videopolicy serve` itself: killed, and started again."""

import os
import signal
import subprocess
import sys
from time import monotonic, sleep

import numpy as np
import pytest
from tests.client.test_driver import SLACK, eventually
from tests.processes import running
from tests.small import observation, small_model

from videopolicy.checkpoint import Provenance, save
from videopolicy.client import Client, Driver

RATE, BOUND = 20, 0.3


def serve(checkpoint, port=0):
    return running(
        sys.executable, "-m", "videopolicy", "serve", checkpoint, "--port", str(port), stdout=subprocess.PIPE
    )


def ready(process) -> int:
    for line in process.stdout:
        if line.startswith("serving "):
            return int(line.rpartition(":")[2])
    raise AssertionError(process.stderr.read())


@pytest.mark.slow
def test_a_served_checkpoint_drives_and_its_end_is_noticed_within_the_bound(tmp_path):
    save(small_model(), Provenance("joint", steps=1), tmp_path / "checkpoint")
    seen = observation(2)
    message = {"top": seen.images["top"], "instruction": seen.instruction}
    with serve(tmp_path / "checkpoint") as process:
        port = ready(process)
        with (
            Client(f"ws://127.0.0.1:{port}") as client,
            Driver(client, RATE, bound=BOUND, safe_action=np.zeros(2), first_bound=60) as driver,
        ):
            driver.reset()

            def moves() -> bool:
                sleep(1 / RATE)
                return not driver.act(message).held

            assert sum(moves() for _ in range(40)) >= 20
            os.kill(process.pid, signal.SIGKILL)
            killed, left = monotonic(), client.metadata["chunk"] / RATE
            assert eventually(lambda: not moves(), 30)
            # What was in hand, and then the bound.
            assert monotonic() - killed < left + BOUND + SLACK and driver.lateness.worst >= BOUND
            began = monotonic()
            held = driver.act(message)
            assert held.held and (held.action == 0).all() and monotonic() - began < SLACK
            assert eventually(lambda: driver.lateness.error is not None)
            with serve(tmp_path / "checkpoint", port) as again:
                ready(again)
                assert eventually(moves, 60)
            assert driver.lateness.reconnections == 1
