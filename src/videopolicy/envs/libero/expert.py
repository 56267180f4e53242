"""A scripted expert for LIBERO's tasks, which knows where everything is.

The predicates of the task's goal become skills, one after the other. In which way a skill succeeds is found by trying:
ways are played in the simulator, which is then put back.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

from videopolicy.envs.libero.hand import OPEN, Hand
from videopolicy.envs.libero.skills import APART, Carry, Pull, Skill, Turn
from videopolicy.envs.robosuite_env import ArmEnv
from videopolicy.errors import UserError
from videopolicy.types import Action

# What comes first: while the burner is still free, the hand has room at the knob.
ORDER = ("turnon", "open", "in", "on")
# How many ways of a skill are tried, and how often it begins again with what is not done, as after a slip.
TRIES, ROUNDS = 24, 3


class Expert:
    """Acts in the current episode of an env; call it once before every step.

    Args:
        env: has just been reset.

    Raises:
        UserError: the task needs what no skill does.
    """

    def __init__(self, env: ArmEnv) -> None:
        self._env, self._hand = env, Hand(env.simulator)
        self._skills = plan(env.simulator, env.task)
        self._ways = self._find_ways()
        self._script = self._act()

    def __call__(self) -> Action:
        """The next action, (7,); when everything is done, none but an open hand."""
        action = next(self._script, None)
        return self._hand.toward(self._hand.place(), self._hand.attitude(), OPEN) if action is None else action

    def _act(self) -> Iterator[Action]:
        for _ in range(ROUNDS):
            for skill, way in zip(self._skills, self._ways, strict=True):
                if not self._env.done() and not skill.done():
                    yield from skill.play(way)

    def _find_ways(self) -> list[Any]:
        """For each skill a way that works when played; the likeliest for those where none does."""
        before = self._env.snapshot()
        try:
            return [self._find_way(skill) for skill in self._skills]
        finally:
            self._env.restore(before)

    def _find_way(self, skill: Skill) -> Any:
        """A way of a skill; afterwards the env is where this way leads, or as it was if none does."""
        ways = skill.ways()[:TRIES]
        if not skill.done():
            before = self._env.snapshot()
            for way in ways:
                for action in skill.play(way):
                    self._env.step(action)
                if skill.done():
                    return way
                self._env.restore(before)
        return ways[0]


def plan(env: Any, task: str) -> list[Skill]:
    """The skills that lead to a task's goal, in order.

    Args:
        env: robosuite's environment, just reset.
        task: its name, for the error.

    Raises:
        UserError: no skill leads to one of the goal's predicates.
    """
    skills: list[Skill] = []
    goals = sorted(env.parsed_problem["goal_state"], key=lambda goal: ORDER.index(goal[0]) if goal[0] in ORDER else 9)
    shared, seen = Counter(goal[-1] for goal in goals if goal[0] == "on"), Counter()
    for goal in goals:
        kind, name, *_ = goal
        target = goal[-1]
        if kind in ("in", "on") and name in env.objects_dict:
            carry = Carry(env, goal, APART * (seen[target] - (shared[target] - 1) / 2) if kind == "on" else 0.0)
            seen[target] += 1
            opening = Pull(env, ["open", target])
            if carry.scene.has_joint(target) and not opening.done():
                skills.append(opening)
            skills.append(carry)
        elif kind == "open" and Pull(env, goal).scene.joint(name).slides:
            skills.append(Pull(env, goal))
        elif kind == "turnon":
            skills.append(Turn(env, goal))
        else:
            raise UserError(f"no expert for {task}: it can carry, open drawers and turn on, but not {' '.join(goal)}")
    return skills
