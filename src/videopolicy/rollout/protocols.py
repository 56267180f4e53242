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
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

from videopolicy import registry
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
    horizon: int | None = None
    reference: float | None = None
    seeds: tuple[int, ...] = ()


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
    return _parse(_Table(values, str(path)), path.stem, hashlib.sha256(text).hexdigest())


def _shipped() -> Path:
    return Path(str(files("videopolicy"))) / "protocols"


class _Table:
    """Takes values out of a TOML table, each of the right kind, and in the end nothing may be left."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        self._values, self.where = dict(values), where
        self._asked: list[str] = []

    def take(self, key: str, kind: type, *, optional: bool = False) -> Any:
        self._asked.append(key)
        if key not in self._values:
            if optional:
                return None
            raise UserError(f"{self.where}: {key} is missing")
        value = self._values.pop(key)
        # TOML writes 1 for 1.0, and Python takes true for 1.
        if isinstance(value, bool) or not isinstance(value, (int, float) if kind is float else kind):
            raise UserError(f"{self.where}: {key} is {value!r}, but must be {_KINDS[kind]}")
        return value

    def number(self, key: str, kind: type, least: float, most: float, *, optional: bool = True) -> Any:
        value = self.take(key, kind, optional=optional)
        if value is not None and not least <= value <= most:
            raise UserError(f"{self.where}: {key} is {value}, but must be from {least} to {most}")
        return value

    def end(self) -> None:
        for key in self._values:
            raise UserError(f"{self.where}: {unknown('key', key, self._asked)}")


_KINDS = {str: "a text", int: "a whole number", float: "a number", list: "a list"}


def _parse(table: _Table, name: str, sha256: str) -> Protocol:
    episodes = table.number("episodes", int, 1, MOST_EPISODES, optional=False)
    protocol = Protocol(
        name=name,
        title=table.take("title", str),
        env=table.take("env", str),
        tasks=_tasks(table.take("task", list), table.where, episodes),
        episodes=episodes,
        execute=table.number("execute", int, 1, MOST_STEPS),
        source=table.take("source", str, optional=True),
        mean=table.number("mean", float, 0, 1),
        sha256=sha256,
    )
    table.end()
    if protocol.env not in registry.names("envs"):
        raise UserError(f"{table.where}: {unknown('env', protocol.env, registry.names('envs'))}")
    return protocol


def _tasks(rows: list[Any], where: str, episodes: int) -> tuple[ProtocolTask, ...]:
    tasks: dict[str, ProtocolTask] = {}
    for number, row in enumerate(rows, start=1):
        table = _Table(row if isinstance(row, dict) else {}, f"{where}, task {number}")
        name = table.take("name", str)
        if name in tasks:
            raise UserError(f"{table.where}: name {name!r} stands twice")
        horizon, reference = table.number("horizon", int, 1, MOST_STEPS), table.number("reference", float, 0, 1)
        tasks[name] = ProtocolTask(name, horizon, reference, _seeds(table, episodes))
        table.end()
    if not tasks:
        raise UserError(f"{where}: task is empty; name at least one")
    return tuple(tasks.values())


def _seeds(table: _Table, episodes: int) -> tuple[int, ...]:
    seeds = table.take("seeds", list, optional=True)
    if seeds is None:
        return ()
    for seed in seeds:
        # The lower ones are those of recordings: no policy is judged on a start that it was trained on.
        if type(seed) is not int or not EVALUATION_SEED_OFFSET <= seed <= LAST_SEED:
            raise UserError(
                f"{table.where}: seeds has {seed!r}, but must be whole numbers from {EVALUATION_SEED_OFFSET} "
                f"to {LAST_SEED}"
            )
    if twice := [seed for seed, times in Counter(seeds).items() if times > 1]:
        raise UserError(f"{table.where}: seeds has {twice[0]} twice")
    if len(seeds) < episodes:
        raise UserError(
            f"{table.where}: seeds lists {len(seeds)}, but episodes is {episodes}; list one for each episode"
        )
    return tuple(seeds)
