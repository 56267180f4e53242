"""What a benchmark consists of, as data: tasks, episodes, seeds, horizons, and the numbers that others report.

```toml
title = "Reach and push"
env = "metaworld"
episodes = 2                 # of each task
execute = 8                  # actions of each plan; may be left out, as all that follows but the names
source = "a paper, its table"
mean = 0.7

[[task]]
name = "reach-v3"
horizon = 200                # control steps; the env's own if left out
reference = 0.9
seeds = [1000003, 1000007]   # of the env, by episode; 1000000, 1000001, ... if left out

[[task]]
name = "push-v3"
```
"""

import hashlib
import tomllib
from collections import Counter
from dataclasses import MISSING, dataclass
from importlib.resources import files
from pathlib import Path

from videopolicy import registry
from videopolicy.configs import check_limits, from_json, limited
from videopolicy.envs.base import EVALUATION_SEED_OFFSET
from videopolicy.errors import UserError, unknown

# No benchmark asks for more; more would only fill the memory.
MOST_EPISODES = 100_000
MOST_STEPS = 1_000_000
# Simulators seed generators that take 32 bits.
LAST_SEED = 2**32 - 1


@dataclass(frozen=True)
class ProtocolTask:
    """One task of a protocol.

    Attributes:
        name: the env's name of it.
        horizon: control steps after which an episode ends; None for the env's own.
        reference: the success rate that others report, in [0, 1].
        seeds: that the env is reset with, one an episode, in order; () for EVALUATION_SEED_OFFSET and following.
    """

    name: str
    horizon: int | None = limited(None, 1, MOST_STEPS)
    reference: float | None = limited(None, 0, 1)
    # The lower ones are those of recordings: no policy is judged on a start that it was trained on.
    seeds: tuple[int, ...] = limited((), EVALUATION_SEED_OFFSET, LAST_SEED)

    def __post_init__(self) -> None:
        check_limits(self)
        if twice := [seed for seed, times in Counter(self.seeds).items() if times > 1]:
            raise UserError(f"seeds has {twice[0]} twice")


@dataclass(frozen=True)
class ProtocolFile:
    """What a `.toml` file says of a benchmark; `Protocol` explains it, and this module's docstring shows it."""

    title: str
    env: str
    task: tuple[ProtocolTask, ...]
    episodes: int = limited(MISSING, 1, MOST_EPISODES)
    execute: int | None = limited(None, 1, MOST_STEPS)
    source: str | None = None
    mean: float | None = limited(None, 0, 1)

    def __post_init__(self) -> None:
        check_limits(self)
        if self.env not in registry.names("envs"):
            raise unknown("env", self.env, registry.names("envs"))
        if not self.task:
            raise UserError("task is empty; name at least one")
        for index, task in enumerate(self.task):
            if task.name in [other.name for other in self.task[:index]]:
                raise UserError(f"task[{index}].name is {task.name!r}, which stands twice")
            if task.seeds and len(task.seeds) < self.episodes:
                raise UserError(
                    f"task[{index}].seeds lists {len(task.seeds)}, but episodes is {self.episodes}; list one for each"
                )


@dataclass(frozen=True)
class Protocol:
    """A benchmark.

    Attributes:
        name: of its file.
        title: what people call it.
        env: the env's plug-in.
        tasks: in the order of the table.
        episodes: of each task; a task that lists seeds lists at least so many.
        execute: how many actions of each plan are executed; None for the checkpoint's own.
        source: where the references come from.
        mean: the mean over tasks that others report, in [0, 1].
        sha256: of the file.
    """

    name: str
    title: str
    env: str
    tasks: tuple[ProtocolTask, ...]
    episodes: int
    execute: int | None
    source: str | None
    mean: float | None
    sha256: str

    @property
    def horizons(self) -> dict[str, int]:
        """Of the tasks that do not leave it to the env."""
        return {task.name: task.horizon for task in self.tasks if task.horizon is not None}

    @property
    def seeds(self) -> dict[str, tuple[int, ...]]:
        """The envs' seeds, of the tasks that list them."""
        return {task.name: task.seeds for task in self.tasks if task.seeds}

    @property
    def references(self) -> dict[str, float]:
        """Success rates that others report, of the tasks for which they are known."""
        return {task.name: task.reference for task in self.tasks if task.reference is not None}


def names() -> tuple[str, ...]:
    """The protocols that come with the package, sorted."""
    return tuple(sorted(path.stem for path in _shipped().glob("*.toml")))


def load(name: str) -> Protocol:
    """Reads a protocol.

    Args:
        name: of a protocol that comes with the package, or the path of a `.toml` file.

    Raises:
        UserError: no such protocol, or a mistake in the file: the message names the file and the key.
    """
    path = Path(name) if name.endswith(".toml") else _shipped() / f"{name}.toml"
    if not path.is_file():
        raise unknown("protocol", name, names())
    text = path.read_bytes()
    try:
        values = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is no TOML: {error}") from error
    said = from_json(ProtocolFile, values, file=path)
    return Protocol(
        name=path.stem,
        title=said.title,
        env=said.env,
        tasks=said.task,
        episodes=said.episodes,
        execute=said.execute,
        source=said.source,
        mean=said.mean,
        sha256=hashlib.sha256(text).hexdigest(),
    )


def _shipped() -> Path:
    return Path(str(files("videopolicy"))) / "protocols"
