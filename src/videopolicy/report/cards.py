"""The first screen: imagined above executed, a card an episode; below it, one plan frame by frame."""

from collections.abc import Sequence
from typing import Any

from videopolicy.report.episodes import Shown
from videopolicy.report.markup import decibels, render
from videopolicy.similarity import spread

# Pixels a view: six cards in a row at 1280, two at 400; few cards grow until two panels fill the first screen.
_NARROWEST, _WIDEST, _SPACE = 164, 280, 14


def grid(shown: Sequence[Shown]) -> str:
    """The first recorded episodes as looping, silent videos."""
    if not shown:
        missing = "No episode was recorded. `videopolicy evaluate --record 6` records the first six of each task."
        return render("cards.html", cards=(), notes=[missing])
    several = len({episode.result.task for episode in shown}) > 1
    views = max(len(episode.views) for episode in shown)
    playing = [episode for episode in shown if episode.source]
    notes = [_how_to_read(shown)]
    if len(playing) < len(shown):
        notes.append(f"{len(playing)} of {len(shown)} recorded episodes; all of them are measured below.")
    return render(
        "cards.html",
        cards=[_card(episode, name_task=several) for episode in playing],
        name_instruction=len({episode.instruction for episode in shown}) > 1,
        narrowest=views * _NARROWEST,
        widest=len(playing) * (views * _WIDEST + _SPACE),
        notes=notes,
    )


def _how_to_read(shown: Sequence[Shown]) -> str:
    views = shown[0].views
    order = f" Views from left to right: {', '.join(views)}." if len(views) > 1 else ""
    if not any(episode.imagined for episode in shown):
        return f"This policy imagined no frames, or they were not recorded.{order}"
    return (
        "Above, the next frame that the current plan imagined; below, what was executed. The bar between them fills "
        f"as execution catches up: when it is full, both panels show the same control step.{order}"
    )


def _card(episode: Shown, *, name_task: bool) -> dict[str, Any]:
    result = episode.result
    name = f"{result.task}, episode {result.episode}" if name_task else f"episode {result.episode}"
    facts = [name, f"{result.steps}\N{NO-BREAK SPACE}steps"]
    if found := spread(episode.pairs):
        facts.append(f"PSNR\N{NO-BREAK SPACE}{decibels(found.mean['psnr'])}")
    return {
        "episode": episode,
        "name": name,
        "what": "imagined above, executed below" if episode.imagined else "executed",
        "labels": ("imagined", "executed") if episode.imagined else ("executed",),
        "facts": " · ".join(facts),
    }


def strips(shown: Sequence[Shown]) -> str:
    """One plan of a success and one of a failure, frame by frame."""
    chosen = [episode for episode in shown if episode.strip]
    return render("strips.html", shown=chosen) if chosen else ""
