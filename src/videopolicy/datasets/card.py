"""The README.md of a recorded data set: what it is, who acted, and how to make it again."""

import shlex
from dataclasses import dataclass

from videopolicy.datasets.phrases import ranges

FRONT = """---
task_categories:
- robotics
tags:
- LeRobot
---
"""
SCRIPTED = (
    "Made by a scripted expert that knows where everything is, in simulation. "
    "These are not human demonstrations, and not the official ones of any benchmark."
)
DRIVEN = (
    "What a policy did that was asked over a network: the observations, and the actions that were executed, those of a "
    "robot that was held for want of an answer included. These are not demonstrations: failures are among them, and "
    "`videopolicy/success` of `meta/episodes` says which."
)


@dataclass(frozen=True)
class Card:
    """What is said of recorded demonstrations.

    Attributes:
        env: the simulator, as this project names it.
        tasks: its names of the tasks.
        seeds: of each task, the seeds of the episodes that were kept, in order.
        tried: episodes that the expert tried, failures among them.
        noise: standard deviation of the noise on executed actions.
        views: cameras.
        size: pixels on each side of an image.
        fps: control steps a second.
        action_layout: what an action's dimensions mean, "" if unspecified.
        state_layout: the same of the state.
        command: what was typed, word by word.
    """

    env: str
    tasks: tuple[str, ...]
    seeds: tuple[tuple[int, ...], ...]
    tried: int
    noise: float
    views: tuple[str, ...]
    size: int
    fps: float
    action_layout: str
    state_layout: str
    command: tuple[str, ...]

    def text(self) -> str:
        """The file's content, Markdown."""
        kept = sum(map(len, self.seeds))
        facts = {
            "Env": self.env,
            "Episodes": f"{kept} successes of {self.tried} tried; failures were left out",
            "Noise": f"{self.noise:g} (standard deviation) on executed actions; recorded actions are the expert's own",
            "Views": f"{', '.join(self.views)}, {self.size} x {self.size} pixels",
            "Control steps a second": f"{self.fps:g}",
            "Action layout": self.action_layout or "not said",
            "State layout": self.state_layout or "not said",
        }
        lines = [
            FRONT,
            f"# Scripted demonstrations in {self.env}\n",
            f"{SCRIPTED}\n",
            *(f"- {name}: {fact}" for name, fact in facts.items()),
            "\n| task | episodes | seeds |\n|---|---|---|",
            *(f"| {t} | {len(s)} | {', '.join(ranges(s))} |" for t, s in zip(self.tasks, self.seeds, strict=True)),
            f"\nThe command that made it:\n\n```sh\n{shlex.join(self.command)}\n```\n",
        ]
        return "\n".join(lines)


def driven_text(env: str, task: str, server: str) -> str:
    """The README.md of what a served policy did, Markdown.

    Args:
        env: the simulator, as this project names it.
        task: its name of the first episodes' task.
        server: the address at which the policy was asked.
    """
    command = ("videopolicy", "drive", "--env", env, "--task", task, "--server", server)
    return "\n".join(
        [
            FRONT,
            f"# A policy in {env}\n",
            f"{DRIVEN}\n",
            f"The command that began it:\n\n```sh\n{shlex.join(command)}\n```\n",
        ]
    )
