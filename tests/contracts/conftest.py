"""Weights that a test does not set are the same ones in every run, whichever tests ran before."""

import torch


def pytest_runtest_setup(item):
    torch.manual_seed(0)
