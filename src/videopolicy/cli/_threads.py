"""How many threads PyTorch may use."""

import os

import torch

from videopolicy.processors import processors


def choose_threads() -> None:
    """Half of the cores unless OMP_NUM_THREADS says otherwise.

    Threads that wait for each other on busy cores run many times slower than fewer threads do, and simulators need
    cores too.
    """
    if "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(max(1, processors() // 2))
