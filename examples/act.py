"""Drives an env with a checkpoint: python examples/act.py CHECKPOINT ENV TASK."""

import sys

from videopolicy import Chunked, make_env, open_policy


def main(checkpoint: str, name: str, task: str) -> bool:
    """Plays one episode; returns whether the task was done."""
    policy = open_policy(checkpoint)
    env = make_env(name, task, views=policy.spec.views, size=policy.spec.size)
    executor = Chunked(lambda seen, seed: policy.plan([seen], [seed], False)[0], execute=policy.spec.execute)
    env.reset(seed=0)
    success = truncated = False
    while not (success or truncated):
        # Rendering is dear: only where a plan is asked for.
        action = executor.act(env.observe() if executor.needs_observation else None)
        _, _, _, truncated, info = env.step(action)
        success = info["success"]
    env.close()
    return success


if __name__ == "__main__":
    print("success" if main(*sys.argv[1:]) else "no success")
