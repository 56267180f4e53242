"""One thread a process, set before anything imports NumPy or torch: two that share a busy core wait for each other."""

import os

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import torch

torch.set_num_threads(1)
