"""Everything a run needs to go on where it stopped: RUN/state/step-000500, and the one before it.

A state is a folder of safetensors files and facts.json, which tells the hash of each. It is whole whatever the number
of processes that write or read it.
"""

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from videopolicy.configs import from_json, to_json
from videopolicy.durable import replace_folder, sha256
from videopolicy.errors import UserError
from videopolicy.training.distributed import ProcessGroup, gather_full, shard_like

STATE = "state"
FACTS = "facts.json"
PREFIX = "step-"
DAMAGED = "damaged-"
# How many states stay: the newest, and one for when that is damaged.
KEPT = 2


@dataclass(frozen=True)
class Saved:
    """What `facts.json` holds.

    Attributes:
        facts: plain JSON values; among them the step.
        sha256: of the files beside it, by their names, and of the facts.
    """

    facts: dict[str, Any]
    sha256: dict[str, str]


class Stateful(Protocol):
    """What accompanies a run from step to step and must go on where it was."""

    def state(self) -> dict[str, Tensor]:
        """All of it, on the CPU."""
        ...

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Takes it over."""
        ...


@dataclass(frozen=True, eq=False)
class RunState:
    """What changes while a run learns. Its noise and its clips do not: they follow from the seed and the step.

    Attributes:
        module: the weights, and whatever else is in its state.
        average: of the weights that learn, by name.
        optimizer: with its moments.
        others: name -> what else goes on where it was.
    """

    module: nn.Module
    average: Mapping[str, Tensor]
    optimizer: torch.optim.Optimizer
    others: Mapping[str, Stateful]

    def parts(self) -> dict[str, dict[str, Tensor]]:
        """File -> name -> tensor, some of which this process may hold a part of only."""
        moments = {
            f"{name}/{key}": torch.as_tensor(value)
            for name, parameter in self._learning()
            for key, value in self.optimizer.state[parameter].items()
        }
        recent = {f"{name}/{key}": value for name, one in self.others.items() for key, value in one.state().items()}
        return {
            "weights": dict(self.module.state_dict()),
            "average": dict(self.average),
            "optimizer": moments,
            "recent": recent,
        }

    @torch.no_grad()
    def load(self, state: Path) -> None:
        """Takes over what a state holds, in place.

        Raises:
            RuntimeError, KeyError: it is of another model.
        """
        weights, own = _Part(state, "weights"), self.module.state_dict()
        if weights.keys() != own.keys():
            raise KeyError(next(iter(weights.keys() ^ own.keys())))
        for name, value in own.items():
            # Copying alone would spread one value over many.
            value.copy_(shard_like(weights[name].view(value.shape), value))
        average = _Part(state, "average")
        for name, value in self.average.items():
            value.copy_(shard_like(average[name], value))
        moments: dict[int, dict[str, Tensor]] = {}
        saved = _Part(state, "optimizer")
        places = {name: (index, parameter) for index, (name, parameter) in enumerate(self._learning())}
        for name in saved:
            owner, _, key = name.rpartition("/")
            index, parameter = places[owner]
            value = saved[name]
            # Moments are spread as their weights are; counters of steps are not.
            moments.setdefault(index, {})[key] = (
                shard_like(value, parameter) if value.shape == parameter.shape else value
            )
        groups = self.optimizer.state_dict()["param_groups"]
        self.optimizer.load_state_dict({"state": moments, "param_groups": groups})
        recent = _Part(state, "recent")
        for name, one in self.others.items():
            prefix = f"{name}/"
            one.load({key.removeprefix(prefix): recent[key] for key in recent if key.startswith(prefix)})

    def _learning(self) -> Iterator[tuple[str, nn.Parameter]]:
        """The optimiser's parameters, in its own order, by the module's names."""
        names = {parameter: name for name, parameter in self.module.named_parameters()}
        for group in self.optimizer.param_groups:
            for parameter in group["params"]:
                yield names[parameter], parameter


def save_state(folder: Path, learning: RunState, facts: dict[str, Any], group: ProcessGroup) -> None:
    """Writes a state aside, then in place, and removes all but the last two; every process must take part.

    Args:
        folder: of the states.
        learning: what is saved.
        facts: plain JSON values; among them the step.
        group: whose main process writes.

    Raises:
        UserError: it cannot be written; the states before stay.
    """
    final = folder / f"{PREFIX}{facts['step']:06d}"
    aside = folder / f".{final.name}.partial"
    try:
        if group.main:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
        for part, tensors in learning.parts().items():
            # One file after the other: the main process holds the whole of only one at a time.
            held = gather_full(tensors, group)
            if group.main:
                save_file(held, _file(aside, part))
        if group.main:
            _describe(aside, facts)
            replace_folder(aside, final)
            _tidy(folder, final)
    except (OSError, SafetensorError) as error:
        kept = exists(folder)
        then = (
            "go on from the save before with --resume" if kept else "give the same command again: nothing is saved yet"
        )
        raise UserError(f"{folder}: cannot be written ({error}); make room there, then {then}") from error
    finally:
        if group.main:
            shutil.rmtree(aside, ignore_errors=True)


def exists(folder: Path) -> bool:
    """Whether there are states in this folder, good or bad."""
    return bool(_states(folder))


def newest(folder: Path, group: ProcessGroup) -> Path:
    """The last state that is whole; a damaged one is set aside, which standard error tells.

    Raises:
        UserError: there is none.
    """
    step = torch.tensor(_newest(folder) if group.main else 0)
    group.copy([step])
    return folder / f"{PREFIX}{int(step):06d}"


def facts_of(state: Path) -> dict[str, Any]:
    """The facts that a state was saved with."""
    return json.loads((state / FACTS).read_text(encoding="utf-8"))["facts"]


def weights_of(state: Path, prefix: str) -> dict[str, Tensor]:
    """The saved weights whose names begin so, without that beginning."""
    weights = _Part(state, "weights")
    return {name.removeprefix(prefix): weights[name] for name in weights if name.startswith(prefix)}


def load_state(state: Path, learning: RunState) -> dict[str, Any]:
    """Puts a saved state into these objects, in place; each process takes its own part of it.

    Returns:
        The facts that it was saved with.

    Raises:
        UserError: it is of another model.
    """
    if (state / "random.safetensors").exists():
        raise UserError(
            f"{state}: an earlier version began this run, and drew its noise otherwise; go on from its weights in "
            "another folder: --out NEW --init RUN/checkpoint, without --resume"
        )
    try:
        learning.load(state)
    except (RuntimeError, KeyError, SafetensorError) as error:
        raise UserError(f"{state}: the saved run trained another model; resume with its own settings") from error
    return facts_of(state)


class _Part(Mapping[str, Tensor]):
    """A file of a state, of which only what is asked for is read."""

    def __init__(self, state: Path, part: str) -> None:
        self._file = safe_open(_file(state, part), "pt")
        self._names = set(self._file.keys())

    def __getitem__(self, name: str) -> Tensor:
        if name not in self._names:
            raise KeyError(name)
        return self._file.get_tensor(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


def _newest(folder: Path) -> int:
    for state in reversed(_states(folder)):
        problem = _problem(state)
        if problem is None:
            return _step(state)
        kept = folder / f"{DAMAGED}{state.name}"
        shutil.rmtree(kept, ignore_errors=True)
        state.rename(kept)
        print(f"{state}: {problem}; set aside as {kept.name}, going on from the one before", file=sys.stderr)
    if any(folder.glob(f"{DAMAGED}*")):
        raise UserError(f"{folder}: every state is damaged; begin anew in another folder")
    raise UserError(f"{folder}: nothing to resume; train without --resume to start anew")


def _problem(state: Path) -> str | None:
    """What is wrong with a state; None if every file is what was saved."""
    try:
        saved = from_json(Saved, json.loads((state / FACTS).read_text(encoding="utf-8")))
        if saved.sha256.get(FACTS) != _of_facts(saved.facts):
            return f"{FACTS} is damaged"
        files = {name: digest for name, digest in saved.sha256.items() if name != FACTS}
        wrong = [name for name, digest in files.items() if sha256(state / name) != digest]
    except (OSError, ValueError, UserError) as error:
        return f"damaged ({error})"
    return f"{wrong[0]} is damaged (wrong hash)" if wrong else None


def _describe(state: Path, facts: dict[str, Any]) -> None:
    hashes = {file.name: sha256(file) for file in sorted(state.iterdir())}
    saved = Saved(facts, {**hashes, FACTS: _of_facts(facts)})
    (state / FACTS).write_text(json.dumps(to_json(saved), indent=1) + "\n", encoding="utf-8")


def _tidy(folder: Path, final: Path) -> None:
    """Leaves the state just saved and the one before it; what follows it belongs to a run that was not gone on with."""
    states = _states(folder)
    place = states.index(final) + 1
    left_over = [path for path in folder.iterdir() if path.name.startswith(f".{PREFIX}")]
    for path in (*states[: max(place - KEPT, 0)], *states[place:], *left_over):
        shutil.rmtree(path, ignore_errors=True)


def _states(folder: Path) -> list[Path]:
    """Oldest first."""
    return sorted((path for path in folder.glob(f"{PREFIX}*") if path.name[len(PREFIX) :].isdecimal()), key=_step)


def _step(state: Path) -> int:
    return int(state.name.removeprefix(PREFIX))


def _file(state: Path, part: str) -> Path:
    return state / f"{part}.safetensors"


def _of_facts(facts: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
