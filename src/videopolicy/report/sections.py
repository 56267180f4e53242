"""The numbers below the videos: success, similarity, training, settings."""

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from videopolicy.report import plots
from videopolicy.report.episodes import Shown
from videopolicy.report.markup import Drawing, render
from videopolicy.report.run import Run
from videopolicy.rollout import protocols
from videopolicy.rollout.results import Result
from videopolicy.rollout.settings import Recorded
from videopolicy.rollout.statistics import odd_endings, tallies
from videopolicy.similarity import CEILING, MeanStd, Pair, by_offset, spread


def success(results: Sequence[Result]) -> str:
    """A row a task with its Clopper-Pearson interval; a plot if there are several; what ended oddly, if anything."""
    tasks = tallies(results)
    rows = [
        (
            one.task,
            f"{one.successes}/{one.n}",
            f"{100 * one.rate:.0f} %",
            str(one.interval),
            "–" if one.steps is None else f"{one.steps:.0f}",
        )
        for one in tasks
    ]
    drawing = None
    if len(tasks) > 1:
        words = "Success by task: " + "; ".join(f"{row[0]} {row[2]}, interval {row[3]}" for row in rows)
        bars = {one.task: (one.rate, one.interval.low, one.interval.high) for one in tasks}
        drawing = Drawing(plots.success(bars), words)
    return render("success.html", rows=rows, odd=odd_endings(results), drawing=drawing)


def similarity(shown: Sequence[Shown]) -> str:
    """PSNR and SSIM of imagined frames, by steps ahead, by outcome and by episode; beside "nothing moves"."""
    everything = [pair for episode in shown for pair in episode.pairs]
    if not everything:
        return ""
    offsets = by_offset(everything)
    first = next(iter(offsets))
    mean = offsets[first].mean
    return render(
        "similarity.html",
        nearest=first,
        psnr=mean["psnr"],
        still_psnr=mean["still_psnr"],
        drawings=[_ahead(offsets, measure, label) for measure, label in (("psnr", "PSNR, dB"), ("ssim", "SSIM"))],
        groups=_rows_of_groups(shown, everything, offsets),
        episodes=_rows_of_episodes(shown),
        ceiling=CEILING,
    )


def _ahead(offsets: Mapping[int, MeanStd], measure: str, label: str) -> Drawing:
    values = (f"{n}: {s.mean[measure]:.3g}, nothing moves {s.mean[f'still_{measure}']:.3g}" for n, s in offsets.items())
    words = f"{label} by control steps ahead: " + "; ".join(values)
    keys = (("imagined", "var(--imagined)"), ("nothing moves", "var(--still)"))
    return Drawing(plots.ahead(offsets, measure, label), words, keys=keys)


def _rows_of_groups(
    shown: Sequence[Shown], everything: Sequence[Pair], offsets: Mapping[int, MeanStd]
) -> list[tuple[str, ...]]:
    rows = [_row(f"{offset} steps ahead", found) for offset, found in offsets.items()]
    rows.append(_row("all", spread(everything)))
    for won, name in ((True, "successful episodes"), (False, "failed episodes")):
        episodes = [episode for episode in shown if episode.result.success == won]
        rows.append(_row(f"{name} ({len(episodes)})", spread(p for episode in episodes for p in episode.pairs)))
    return rows


def _rows_of_episodes(shown: Sequence[Shown]) -> list[tuple[str, ...]]:
    ordered = sorted(shown, key=lambda episode: (episode.result.task, episode.result.episode))
    word = {True: "success", False: "failure"}
    names = [f"{e.result.task}, episode {e.result.episode}, {word[e.result.success]}" for e in ordered]
    return [_row(name, spread(episode.pairs)) for name, episode in zip(names, ordered, strict=True)]


def _row(name: str, found: MeanStd | None) -> tuple[str, ...]:
    if found is None:
        return name, "0", "–", "–", "–", "–"
    cells = [f"{found.mean[k]:.1f} ± {found.deviation[k]:.1f}" for k in ("psnr", "still_psnr")]
    cells += [f"{found.mean[k]:.3f} ± {found.deviation[k]:.3f}" for k in ("ssim", "still_ssim")]
    return name, str(found.count), *cells


# Settings whose name alone says too little.
_SAID = {
    "episodes": "episodes of each task",
    "execute": "actions executed of each plan",
    "seed": "seed of the plans",
    "record": "episodes recorded of each task",
    "steps": "sampling steps of a plan",
    "video_steps": "sampling steps of its video",
    "video_until": "noise level at which its video stops",
    "reuse": "steps for one run of the video model's deep blocks",
    "warm_start": "noise level at which a plan goes on from the one before",
}


def settings(run: Run) -> str:
    """What was evaluated, how long it took, and the commands that make it again."""
    plans = sum(result.plans for result in run.results)
    seconds = sum(result.seconds for result in run.results)
    facts = {_SAID.get(name, name): value for name, value in run.settings.facts().items() if value not in (None, "")}
    facts["episodes ended"] = len(run.results)
    facts["mean seconds an episode"] = f"{seconds / len(run.results):.1f}"
    if plans:
        facts["mean seconds a plan, simulation included"] = f"{seconds / plans:.2f}"
    rows = [(name, _plain(value)) for name, value in facts.items()]
    return render("settings.html", rows=rows, commands=_again(run))


def _again(run: Run) -> str:
    commands = [["videopolicy", "report", str(run.folder)]]
    settings = run.settings
    if settings.policy:
        options: dict[str, Any] = {"policy": f"{settings.policy}:{settings.target}".removesuffix(":")}
        if settings.checkpoint:
            options = {"checkpoint": settings.target}
        if settings.protocol:
            options["protocol"] = settings.protocol if _shipped(settings) else f"{settings.protocol}.toml"
        else:
            options |= {"env": settings.env, "task": settings.tasks}
        for name in ("episodes", "execute", "executor", "latency", "seed", "record"):
            options[name] = getattr(settings, name)
        commands.insert(0, ["videopolicy", "evaluate"])
        # A server samples as it was started, and needs no more than to be told what it is sent.
        style = {name: value for name, value in settings.identity.items() if name == "style"}
        drawn = settings.sampling if settings.checkpoint else style
        for name, value in {**options, **drawn, "out": run.evaluation}.items():
            values = value if isinstance(value, tuple) else (value,)
            commands[0] += [f"--{name.replace('_', '-')}", *map(str, values)]
    return "\n".join(map(shlex.join, commands))


def _shipped(settings: Recorded) -> bool:
    """Whether a protocol is the package's own of that name, and not its owner's file."""
    name = settings.protocol
    return name in protocols.names() and protocols.load(name).sha256 == settings.protocol_sha256


def _plain(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(_plain(item) for item in value)
    return value if isinstance(value, str) else json.dumps(value)
