"""A small policy behind a server that stays up for all of its tests."""

import atexit
from contextlib import ExitStack

from tests.serving.serving import running, service
from tests.small import small_model

from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.serving.observations import style


def example(folder):
    """Its address."""
    model, stack = small_model(), ExitStack()
    policy = CheckpointPolicy(model, model.config.sampling)
    port = stack.enter_context(running(service(policy, style=style("native", policy.spec))))
    atexit.register(stack.close)
    return f"ws://127.0.0.1:{port}"
