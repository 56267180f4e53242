"""The first screen: imagined above executed, a card an episode; below it, one plan frame by frame."""

from collections.abc import Sequence
from html import escape

from videopolicy.report.compose import Moment
from videopolicy.report.episodes import Shown, Strip
from videopolicy.report.markup import decibels, outcome, paragraph, section
from videopolicy.similarity import spread

# Pixels a view: six cards in a row at 1280, two at 400; few cards grow until two panels fill the first screen.
_NARROWEST, _WIDEST, _SPACE = 164, 280, 14


def grid(shown: Sequence[Shown]) -> str:
    """The first recorded episodes as looping, silent videos."""
    if not shown:
        missing = "No episode was recorded. `videopolicy evaluate --record 6` records the first six of each task."
        return section("", paragraph(missing, "note"))
    several = len({episode.result.task for episode in shown}) > 1
    texts = len({episode.instruction for episode in shown}) > 1
    views = max(len(episode.views) for episode in shown)
    playing = [episode for episode in shown if episode.source]
    widest = len(playing) * (views * _WIDEST + _SPACE)
    cards = "".join(_card(episode, name_task=several, name_instruction=texts) for episode in playing)
    style = f"--card:{views * _NARROWEST}px;--widest:{widest}px"
    more = [f"{len(playing)} of {len(shown)} recorded episodes; all of them are measured below."]
    notes = [paragraph(note, "note") for note in (more if len(playing) < len(shown) else [])]
    return section("", f'<div class="episodes" style="{style}">{cards}</div>', _how_to_read(shown), *notes)


def _how_to_read(shown: Sequence[Shown]) -> str:
    views = shown[0].views
    order = f" Views from left to right: {', '.join(views)}." if len(views) > 1 else ""
    if not any(episode.imagined for episode in shown):
        return paragraph(f"This policy imagined no frames, or they were not recorded.{order}", "note")
    return paragraph(
        "Above, the next frame that the current plan imagined; below, what was executed. The bar between them fills "
        f"as execution catches up: when it is full, both panels show the same control step.{order}",
        "note",
    )


def _card(episode: Shown, *, name_task: bool, name_instruction: bool) -> str:
    result = episode.result
    name = f"{result.task}, episode {result.episode}" if name_task else f"episode {result.episode}"
    word = "success" if result.success else "failure"
    what = "imagined above, executed below" if episode.imagined else "executed"
    found = spread(episode.pairs)
    facts = [name, f"{result.steps}\N{NO-BREAK SPACE}steps"] + (
        [f"PSNR\N{NO-BREAK SPACE}{decibels(found.mean['psnr'])}"] if found else []
    )
    caption = f"{outcome(result.success)} {escape(' · '.join(facts))}"
    if name_instruction:
        caption += f"<br>{escape(episode.instruction)}"
    height, width = episode.shape
    labels = ("imagined", "executed") if episode.imagined else ("executed",)
    marks = "".join(
        f'<span class="label {kind}">{label}</span>' for label, kind in zip(labels, ("", "below"), strict=False)
    )
    return (
        f'<figure class="episode {word}"><div class="screen">'
        f'<video src="{episode.source}" width="{width}" height="{height}" autoplay loop muted playsinline '
        f'aria-label="{escape(f"{name}, {word}: {what}")}"></video>{marks}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def strips(shown: Sequence[Shown]) -> str:
    """One plan of a success and one of a failure, frame by frame."""
    chosen = [(episode, episode.strip) for episode in shown if episode.strip]
    if not chosen:
        return ""
    intro = (
        "The plan during which most moved. Under each pair: how near the imagined frame is to the executed one, and "
        "how near the current frame would have been, had nothing moved (PSNR; higher is nearer)."
    )
    return section("One plan, frame by frame", paragraph(intro, "note"), *(_strip(e, s) for e, s in chosen))


def _strip(episode: Shown, strip: Strip) -> str:
    result = episode.result
    title = f"{result.task}, episode {result.episode}, plan made at step {strip.step}"
    several = len(strip.views) > 1
    tables = "".join(_columns(view if several else "", moments) for view, moments in strip.views.items())
    word = "success" if result.success else "failure"
    return (
        f'<div class="strip {word}">{outcome(result.success)} <span class="quiet">{escape(title)}</span>'
        f'<div class="scroll" style="--frame:{120 if several else 190}px">{tables}</div></div>'
    )


def _columns(view: str, moments: Sequence[Moment]) -> str:
    heads = "".join(f'<th scope="col">{"now" if not m.offset else f"t + {m.offset}"}</th>' for m in moments)
    imagined = "".join(f"<td>{_picture(m.imagined, f'imagined for step {m.step}')}</td>" for m in moments)
    executed = "".join(f"<td>{_picture(m.executed, f'executed, step {m.step}')}</td>" for m in moments)
    rows = [("imagined", imagined), ("executed", executed)]
    for label, values in (("PSNR", [m.psnr for m in moments]), ("nothing moves", [m.still_psnr for m in moments])):
        rows.append((label, "".join(f"<td>{'' if v is None else decibels(v)}</td>" for v in values)))
    body = "".join(f'<tr><th scope="row">{label}</th>{cells}</tr>' for label, cells in rows)
    head = f'<thead><tr><th scope="col">{escape(view)}</th>{heads}</tr></thead>'
    return f'<table style="--columns:{len(moments)}">{head}<tbody>{body}</tbody></table>'


def _picture(source: str | None, words: str) -> str:
    return f'<img src="{source}" alt="{escape(words)}">' if source else ""
