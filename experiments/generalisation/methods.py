"""The policies, and how many steps of each take as long: `python methods.py` writes calibration.json.

Every training is counted in steps, so that any machine gets the same weights. One process takes a few steps of every
policy by turns, on one thread; a study's minutes divided by the least are its steps: what else runs on the machine can
only make a step longer. `python methods.py cotrained` measures that one beside the baseline, and keeps all others;
with `--acting`, only what a plan costs.
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from videopolicy import registry
from videopolicy.clips.normalize import Normalizer
from videopolicy.policies import benchmark
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.presets import base as presets
from videopolicy.presets.base import Preset
from videopolicy.training.performance.benchmark import measure
from videopolicy.training.prepare import build

CALIBRATION = Path(__file__).with_name("calibration.json")
ROUNDS, STEPS = 6, 3
# What all others are compared with.
BASELINE = "cloning end_to_end"


@dataclass(frozen=True)
class Phase:
    """One training after another.

    Attributes:
        stage: what learns.
        share: of the study's minutes.
        changes: of the preset's recipe, by the names of its fields; a noise law by its own.
        preset: another than the method's own; what comes after does not begin from its weights.
        labels: whether what it has learnt reads actions from the video that has none, which the next phase learns from.
    """

    stage: str
    share: float = 1.0
    changes: Mapping[str, Any] = field(default_factory=dict)
    preset: str | None = None
    labels: bool = False

    def key(self, preset: str) -> str:
        """What the calibration calls this phase of a method whose preset this is."""
        changes = (f"{name}={value}" for name, value in self.changes.items())
        return " ".join((self.preset or preset, self.stage, *changes))

    def options(self, preset: str) -> tuple[object, ...]:
        """What `videopolicy train` is told."""
        changes = ((f"--{name.replace('_', '-')}", value) for name, value in self.changes.items())
        return ("--preset", self.preset or preset, "--stage", self.stage, *chain.from_iterable(changes))

    def recipe(self, preset: str) -> Preset:
        """A preset in this phase."""
        found = presets.preset(self.preset or preset)
        named = {name: registry.entry("noise", law)() for name, law in self.changes.items() if name == "noise"}
        training = replace(found.training, **{**self.changes, **named})
        return replace(found, training=replace(training, stage=training.own_stage(self.stage)))


@dataclass(frozen=True)
class Method:
    """A policy, and the order in which its parts learn.

    Attributes:
        presets: env -> preset.
        plenty: where all demonstrations have actions.
        scarce: where few have.
    """

    presets: Mapping[str, str]
    plenty: tuple[Phase, ...]
    scarce: tuple[Phase, ...]


def _both(name: str) -> dict[str, str]:
    return {"metaworld": name, "libero": f"{name}_libero"}


JOINT, CLONING, ATTACHED = (Phase("joint"),), (Phase("end_to_end"),), (Phase("attached"),)
VIDEO_FIRST = (Phase("video", 0.75), Phase("action", 0.25))
LABELLED = (Phase("end_to_end", 1 / 3, preset="inverse_dynamics", labels=True), Phase("attached", 2 / 3))


def _law(name: str) -> Method:
    phases = (Phase("joint", changes={"noise": name}),)
    return Method({"metaworld": "tiny"}, phases, phases)


METHODS = {
    "tiny": Method(_both("tiny"), JOINT, VIDEO_FIRST),
    # Where few demonstrations have actions, all video teaches the encoder, and what few actions say does not reach it.
    "cotrained": Method(_both("cotrained"), ATTACHED, VIDEO_FIRST),
    "cloning": Method(_both("cloning"), CLONING, CLONING),
    # Actions of the video that has none, by inverse dynamics that sees nothing but motion, for a third of the time.
    "labelled": Method({"metaworld": "cotrained"}, LABELLED, LABELLED),
    # One network, its head detached, by three laws of equal marginals.
    **{f"law_{name}": _law(name) for name in ("joint", "independent", "pinned")},
    # The relatives, each in the stages that its authors train in.
    "vpp": Method({"metaworld": "vpp"}, VIDEO_FIRST, VIDEO_FIRST),
    "vpp_former": Method({"metaworld": "vpp_former"}, VIDEO_FIRST, VIDEO_FIRST),
    "mimic": Method({"metaworld": "mimic"}, JOINT, VIDEO_FIRST),
    "flash": Method({"metaworld": "flash"}, JOINT, VIDEO_FIRST),
    "xwam": Method({"metaworld": "xwam"}, JOINT, VIDEO_FIRST),
    "lingbot": Method({"metaworld": "lingbot"}, JOINT, VIDEO_FIRST),
    "uwm": Method({"metaworld": "uwm"}, ATTACHED, ATTACHED),
    "uwm_separate": Method({"metaworld": "uwm_separate"}, ATTACHED, ATTACHED),
    "uva": Method({"metaworld": "uva"}, ATTACHED, ATTACHED),
    "fast_wam": Method({"metaworld": "fast_wam"}, ATTACHED, ATTACHED),
    "diffusion_policy": Method({"metaworld": "diffusion_policy"}, CLONING, CLONING),
    "diffusion_policy_state": Method({"metaworld": "diffusion_policy_state"}, CLONING, CLONING),
}


def measured() -> dict[str, float]:
    """Milliseconds of a step of each preset's stages, as `python methods.py` has measured them."""
    return json.loads(CALIBRATION.read_text(encoding="utf-8"))["milliseconds_a_step"]


def unmeasured(name: str, phases: tuple[Phase, ...]) -> list[str]:
    """What of these phases of a preset's training is not in the calibration."""
    return [phase.key(name) for phase in phases if phase.key(name) not in measured()]


def steps(name: str, phase: Phase, minutes: float, clock: str = "") -> int:
    """The steps of a phase of a preset's training that take so long; or that the one called `clock` takes meanwhile."""
    return round(minutes * phase.share * 60e3 / measured()[clock or phase.key(name)])


def clock(env: str) -> str:
    """What the calibration calls the baseline's training in an env."""
    return CLONING[0].key(METHODS["cloning"].presets[env])


def calibrate(names: Sequence[str], acting_alone: bool) -> None:
    """Measures these methods' presets, of a few of them beside the baseline: the rest is kept."""
    torch.set_num_threads(1)
    chosen = [METHODS[name] for name in {*names, "cloning"}] if names else list(METHODS.values())
    before: dict[str, Any] = json.loads(CALIBRATION.read_text(encoding="utf-8")) if names else {}
    trained = before.get("milliseconds_a_step", {})
    if not acting_alone:
        trained = beside(trained, by_turns({way: partial(training, recipe) for way, recipe in stages(chosen).items()}))
    acts = {**before.get("acting", {}), **acting(sorted({name for m in chosen for name in m.presets.values()}))}
    facts = {"milliseconds_a_step": trained, "acting": dict(sorted(acts.items()))}
    CALIBRATION.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(facts, indent=1))


def stages(chosen: Sequence[Method]) -> dict[str, Preset]:
    """Every phase of these methods, by its name."""
    return {
        phase.key(name): phase.recipe(name)
        for method in chosen
        for name in method.presets.values()
        for phase in (*method.plenty, *method.scarce)
    }


def by_turns(ways: Mapping[str, Callable[[], float]]) -> dict[str, float]:
    """The least milliseconds of each way, all of them in turn, again and again."""
    rounds: dict[str, list[float]] = {way: [] for way in sorted(ways)}
    for _ in range(ROUNDS):
        for way, times in rounds.items():
            times.append(ways[way]())
    return {way: min(times) for way, times in rounds.items()}


def beside(before: Mapping[str, float], least: Mapping[str, float]) -> dict[str, float]:
    """What was measured before and what is now, in the times that this had had then: it is scaled by the baseline's."""
    unit = before.get(BASELINE, least[BASELINE]) / least[BASELINE]
    return dict(sorted({**before, **{way: round(ms * unit, 1) for way, ms in least.items()}}.items()))


def training(recipe: Preset) -> float:
    """Milliseconds of a step, on average over those that learn video and those that spare it."""
    share = recipe.training.video_share
    kinds = {1.0: share, 0.0: 1 - share}
    return sum(
        weight * measure(recipe.model, replace(recipe.training, video_share=kind), STEPS).step.median
        for kind, weight in kinds.items()
        if weight
    )


def acting(names: Sequence[str]) -> dict[str, dict[str, float]]:
    """What a plan of each preset costs: milliseconds, passes of the video model and of the head, and weights."""
    policies = {name: untrained(name) for name in names}
    least = by_turns({name: partial(planning, policy) for name, policy in policies.items()})
    return {name: {"milliseconds": round(least[name], 1), **counted(policy)} for name, policy in policies.items()}


def untrained(name: str) -> CheckpointPolicy:
    """A preset's policy with the weights that training would begin from."""
    found = presets.preset(name)
    built = build(found.model, Normalizer((-1.0,) * 4, (1.0,) * 4), 0)
    built.requires_grad_(False)
    side = found.model.size
    built.latents.fit(np.random.default_rng(0).integers(0, 256, (4, side, side, 3), np.uint8))
    return CheckpointPolicy(built, found.model.sampling)


def planning(policy: CheckpointPolicy) -> float:
    """Milliseconds of a plan."""
    return benchmark.measure(policy, STEPS).acting.median


def counted(policy: CheckpointPolicy) -> dict[str, float]:
    """The passes of a plan, and the weights."""
    built, calls = policy.model, {"video": 0, "head": 0}
    # Of a pass, every way through the video model has one first convolution.
    first = next(module for module in built.backbone.modules() if isinstance(module, nn.Conv2d))
    first.register_forward_pre_hook(lambda *_: calls.update(video=calls["video"] + 1))
    denoise = built.denoise_actions
    built.denoise_actions = lambda *given: calls.update(head=calls["head"] + 1) or denoise(*given)
    policy.plan(benchmark.random_observations(policy, 1), [0], imagine=False)
    weights = sum(benchmark.count_weights(built).values())
    return {"passes": calls["video"], "head_passes": calls["head"], "weights": weights}


def main() -> None:
    """Measures what the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("methods", nargs="*", help="all if not given", metavar="METHOD")
    parser.add_argument("--acting", action="store_true", help="measure only what a plan costs")
    options = parser.parse_args()
    if unknown := sorted({*options.methods} - {*METHODS}):
        parser.error(f"no method {', '.join(unknown)}; there are {', '.join(METHODS)}")
    calibrate(options.methods, options.acting)


if __name__ == "__main__":
    main()
