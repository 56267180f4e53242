"""Drives an env by a served policy, in real time, and records what happens."""

from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from videopolicy import registry
from videopolicy.cli.serve import token_of
from videopolicy.client import Driver, Lateness
from videopolicy.configs import check_limits, limited
from videopolicy.datasets.card import driven_text
from videopolicy.datasets.lerobot.appending import Appender
from videopolicy.datasets.phrases import plural, ranges
from videopolicy.envs.base import EVALUATION_SEED_OFFSET, Env, make_env
from videopolicy.errors import UserError
from videopolicy.progress import say
from videopolicy.rollout.driving import Drive, drive, safe_action
from videopolicy.rollout.runner import check
from videopolicy.rollout.settings import Settings
from videopolicy.rollout.statistics import summary_line

if TYPE_CHECKING:
    from videopolicy.policies.remote import RemotePolicy

# Seconds that a step waits for an action before the robot is held, and that an answer may take.
BOUND, TIMEOUT = 0.1, 10.0
# Seconds in which a server has to be found, and in which it has to be back when an episode begins.
FOUND, BACK = 30.0, 300.0
# Far from the starts that recordings begin with, and below those of evaluations.
FIRST_SEED = EVALUATION_SEED_OFFSET // 2


@dataclass(frozen=True)
class Command:
    """Drive an env by a served policy, as a robot is driven: at its rate, whether or not answers come in time.

    The next chunk is asked for while the one before is executed. While no fresh action is there, the robot is held
    where it is; a server that was lost is looked for until it is back. With --record, every episode is in the data
    set as soon as it has ended, and the same command goes on with it: give it to `videopolicy train --data`.

    Example: videopolicy drive --task button-press-topdown-v3 --server ws://127.0.0.1:8000 --record data/driven
    """

    task: str
    """The env's name of the task."""
    server: str = "ws://127.0.0.1:8000"
    """Address of `videopolicy serve`, or of any server of openpi's protocol."""
    env: str = "metaworld"
    """Which simulator."""
    token: str | None = None
    """What the server asks for; by default what the variable VIDEOPOLICY_TOKEN holds."""
    style: str = "native"
    """What the server is sent: native (ours) or libero."""
    episodes: int = limited(10, 1, FIRST_SEED)
    """Episodes to play; Ctrl-C ends earlier, and keeps those that have ended."""
    rate: float | None = limited(None, 0.1, 1000)
    """Control steps a second; by default those that the policy and the env act at, which is real time."""
    record: Path | None = None
    """Folder of the data set; what an earlier `drive` has recorded there is gone on with."""
    seed: int = limited(FIRST_SEED, 0, EVALUATION_SEED_OFFSET - 1)
    """Seed of the first episode; the next ones count up, and go on behind those that are recorded already."""

    def run(self) -> None:
        """Drives, says what happens, and at the end how often it succeeded and how late the server was.

        Raises:
            UserError: no server, a policy that does not fit the env, or --record names something else.
        """
        check_limits(self)
        policy: RemotePolicy = registry.build(
            "policies", "remote", self.server, style=self.style, token=token_of(self.token), patience=FOUND
        )
        with closing(policy.client):
            spec = policy.spec
            for note in spec.notes:
                print(f"note: {note}")
            if renderer := check(spec, Settings(self.env, (self.task,), episodes=1, execute=spec.execute)):
                print("\n".join(renderer.lines()))
            with closing(make_env(self.env, self.task, views=spec.views, size=spec.size)) as env:
                self._drive(policy, env)

    def _drive(self, policy: "RemotePolicy", env: Env) -> None:
        rate = self.rate or policy.spec.fps or env.fps
        safe = safe_action(env.action_layout, env.action_space.shape[0])
        driven: list[Drive] = []
        with ExitStack() as stack:
            recording = stack.enter_context(self._recording(env)) if self.record else None
            driver = stack.enter_context(
                Driver(
                    policy.client,
                    rate,
                    bound=BOUND,
                    safe_action=safe,
                    first_bound=BACK,
                    execute=policy.spec.execute,
                    timeout=TIMEOUT,
                )
            )
            stack.callback(lambda: print(_summary(driven, driver.lateness, rate, recording), flush=True))
            print(f"driving {self.env} {self.task} at {rate:g} control steps a second", flush=True)
            first = self._first_seed(recording)
            for number in range(self.episodes):
                played = drive(env, driver, policy.message, rate, first + number, say, BACK)
                if recording:
                    recording.add(played.episode)
                driven.append(played)
                print(f"{number + 1}/{self.episodes} {_line(played)}", flush=True)

    def _recording(self, env: Env) -> Appender:
        assert self.record is not None
        layouts = env.action_layout, env.state_layout
        recording = Appender(self.record, env.fps, env.views, *layouts)
        recording.card = driven_text(self.env, self.task, self.server)
        return recording

    def _first_seed(self, recording: Appender | None) -> int:
        """Behind those of the episodes of this task that are there."""
        there = [entry.seed for entry in recording.entries if entry.task == self.task] if recording else []
        first = max([self.seed, *(seed + 1 for seed in there if seed is not None)])
        if first + self.episodes > EVALUATION_SEED_OFFSET:
            raise UserError(
                f"{self.episodes} --episodes from seed {first} on lead to seeds from {EVALUATION_SEED_OFFSET} on, "
                "which are kept for evaluation; begin with a lower --seed, and a folder of its own if it records"
            )
        return first


def _line(played: Drive) -> str:
    episode = played.episode
    words = f"{'success' if episode.success else 'failure'}, {plural(len(episode), 'step')} in {played.seconds:.1f} s"
    return f"{words}, {played.held} held" if played.held else words


def _summary(driven: list[Drive], lateness: Lateness, rate: float, recording: Appender | None) -> str:
    """How often it succeeded, and how the time was kept; the last line has the success rate."""
    if not driven:
        return "no episode has ended"
    steps, seconds = sum(len(one.episode) for one in driven), sum(one.seconds for one in driven)
    late = [
        f"{steps / seconds:.1f} of {rate:g} control steps a second",
        f"{sum(one.held for one in driven)} of {steps} held",
        f"the latest action {1000 * lateness.worst:.0f} ms late",
        f"answers within {1000 * lateness.latency:.0f} ms lately",
        f"{plural(lateness.failures, 'question')} without one",
        plural(lateness.reconnections, "reconnection"),
    ]
    lines = ["; ".join(late)]
    if recording:
        solved = [number for number, entry in enumerate(recording.entries) if entry.success]
        which = ", ".join(ranges(solved)) or "none"
        lines.append(f"{recording.path} holds {plural(len(recording.entries), 'episode')}; successes are {which}")
    return "\n".join([*lines, summary_line(sum(bool(one.episode.success) for one in driven), len(driven))])
