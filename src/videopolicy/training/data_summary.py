"""A summary of the data that a run reads, in lines for whoever started it."""

from collections.abc import Sequence, Set

import numpy as np
from jaxtyping import Float32

from videopolicy.clips.cache import Cache
from videopolicy.clips.dataset import Clips, Episodes
from videopolicy.clips.normalize import BEYOND, Normalizer
from videopolicy.datasets import notes
from videopolicy.datasets.mixture import Source
from videopolicy.datasets.outliers import Outliers, Watch
from videopolicy.datasets.phrases import plural
from videopolicy.datasets.transforms.action_layout import LayoutConverted
from videopolicy.models import video_action
from videopolicy.models.base import ModelConfig
from videopolicy.training.config import Training

# Names, numbers or reasons told of each list.
TOLD = 8


def summarize(sources: Sequence[Source], clips: Clips, held_out: Clips | None, asked: int) -> list[str]:
    """What is trained on, what is left out, and what is measured on.

    Args:
        sources: as the policy sees them.
        clips: of them, to train on.
        held_out: of other episodes of theirs.
        asked: episodes that were to be held out.
    """
    lines, numbers = [], []
    for place, source in enumerate(sources):
        mine, apart = _of(clips, place), _of(held_out, place) if held_out else ()
        share = f", {clips.shares[place]:.0%} of what is trained on" if len(sources) > 1 else ""
        lines.append(f"{source.name}: {_counted(mine)}, {int(mine.lengths.sum()):,} clips{share}")
        used = {*mine.number.tolist(), *(apart.number.tolist() if apart else ())}
        lines += [f"  {line}" for line in _differing(source, used, clips.window.span)]
        lines += [f"  {line}" for line in _far_outside(source, clips, place)]
        if apart:
            called = [str(source.dataset.number(number)) for number in apart.number.tolist()]
            numbers.append(f"{source.name} {_listed(called)}")
    return lines + _told_of_quantiles(clips) + _told_of_held_out(clips, held_out, numbers, asked)


def only_held_out(clips: Clips, held_out: Clips | None) -> list[str]:
    """Instructions of which every episode is held out, sorted."""
    return sorted(set(held_out.instructions) - set(clips.instructions)) if held_out else []


def advice(clips: Clips, training: Training, config: ModelConfig) -> list[str]:
    """What would rather be done where actions are scarce, as experiments/generalisation measured it.

    With half of the episodes' actions (half_space), success fell from 30 of 50 to 13 when their loss reached the video
    model. A task whose actions were never shown (held_out_task) was never done where the head reads the present.
    """
    stage, known, episodes = training.stage, int(clips.episodes.has_actions.sum()), len(clips.episodes)
    if not (stage.video_loss and stage.action_loss):
        return []
    lines = []
    if stage.through and 2 * known <= episodes:
        lines.append(
            f"note: {known} of {episodes} episodes have actions, and --stage {stage.name} lets them teach the video "
            "model, which may forget the others; better `--stage video`, then `--stage action --init RUN/checkpoint`"
        )
    kinds = set(clips.episodes.kinds)
    watched = sorted({kind for kind, acts in kinds if not acts} - {kind for kind, acts in kinds if acts})
    if watched and isinstance(config, video_action.Config) and config.reads == "present":
        lines.append(
            f"note: {_listed([repr(kind) for kind in watched])}: shown without actions alone, which a head that reads "
            "the present image cannot learn; take a preset whose head reads the imagined future, such as tiny or small"
        )
    return lines


def _of(clips: Clips, source: int) -> Episodes:
    """The episodes of one data set."""
    return clips.episodes.take(np.nonzero(clips.episodes.source == source)[0])


def _told_of_held_out(clips: Clips, held_out: Clips | None, numbers: Sequence[str], asked: int) -> list[str]:
    count, lines = len(held_out.episodes) if held_out else 0, []
    if count:
        every = count + len(clips.episodes)
        lines.append(f"held out, to measure on: {count} of {every} episodes: {'; '.join(numbers)}")
    if count < asked:
        lines.append(
            f"  {count} and not {asked}: half of the episodes, and some of each data set, are kept to train on"
        )
    if only := only_held_out(clips, held_out):
        lines.append(f"  never trained on, as no other episode shows them: {_listed([repr(text) for text in only])}")
    return lines


def _counted(episodes: Episodes) -> str:
    count, acting, said = len(episodes), int(episodes.has_actions.sum()), len(set(episodes.instructions))
    kind = {count: "with actions", 0: "without actions"}.get(acting, f"({acting} with actions)")
    return f"{plural(count, 'episode')} {kind}, {plural(said, 'instruction')}"


def _differing(source: Source, used: Set[int], span: int) -> list[str]:
    """How the data set that is trained on differs from the one on disk."""
    dataset, name, lines = source.dataset, source.name, []
    unused = set(range(len(dataset))) - used
    if short := sum(dataset.length(index) < span for index in unused):
        told = f"left out: {short} of {len(dataset)} episodes of {name} are shorter than a clip"
        lines.append(f"{told} ({span} control steps)")
    if watched := len(unused) - short:
        lines.append(f"left out: {watched} of {len(dataset)} episodes of {name} have no actions, all that is learnt by")
    lines += notes.lines(dataset.notes, len(dataset))
    if isinstance(dataset, LayoutConverted):
        inner = dataset.inner
        layouts = [("actions", inner.action_layout, dataset.action_layout)]
        layouts += [("states", inner.state_layout, dataset.state_layout)]
        lines += [f"its {kind} are converted from {own!r} to {now!r}" for kind, own, now in layouts if own != now]
    return lines


def _far_outside(source: Source, clips: Clips, place: int) -> list[str]:
    """Values that decide how all others are scaled; of the states, if they are read or actions are seen from there."""
    cache, lines = clips.caches[place], []
    # Ranges of relative actions are others than those of the actions in the data.
    actions, states = None if clips.relative else clips.normalizer, clips.state_normalizer
    for name, vectors, ranges in (
        ("actions", cache.actions, actions),
        ("states", cache.states if clips.relative or states else None, states),
    ):
        for one in _outliers(cache, vectors) if cache.actions is not None and vectors is not None else []:
            where = notes.numbered([source.dataset.number(index) for index in one.episodes])
            lines.append(
                f"warning: dimension {one.dimension} of the {name}: {one} ({where}){_scaled(one, clips, ranges)}"
            )
    return lines


def _outliers(cache: Cache, vectors: Float32[np.ndarray, "steps D"]) -> list[Outliers]:
    """What is far outside in the episodes with actions."""

    def of(episode: int) -> Float32[np.ndarray, "N D"]:
        return vectors[cache.starts[episode] : cache.starts[episode] + cache.lengths[episode]]

    watch = Watch(vectors.shape[1])
    for episode in np.nonzero(cache.has_actions)[0].tolist():
        watch.add(episode, of(episode))
    return watch.outliers(of)


def _scaled(one: Outliers, clips: Clips, ranges: Normalizer | None) -> str:
    """What becomes of the usual values, and a remedy; "" of values that are not scaled themselves."""
    if ranges is None:
        return ""
    low, high = ranges.low[one.dimension], ranges.high[one.dimension]
    inside = min(high, one.high) - max(low, one.low)
    share = max(0.0, inside / (high - low)) if low < high else 1.0
    steps = sum(int(cache.lengths @ cache.has_actions) for cache in clips.caches)
    cured = ranges.method != "quantile" and one.count <= BEYOND * steps
    whole = "the whole range" if ranges.method == "std" else "what is scaled to [-1, 1]"
    told = f"; the usual range is {100 * share:.3g} % of {whole}"
    return told + (": remove wrong episodes, or train with --normalize quantile" if cured else "")


def _told_of_quantiles(clips: Clips) -> list[str]:
    """What is clipped, and where that is much: a gripper that rarely closes may then never close."""
    fitted = clips.normalizer
    if fitted is None or fitted.method != "quantile":
        return []
    lines = [f"actions are clipped to their {BEYOND:.0%} and {1 - BEYOND:.0%} quantiles"]
    if clips.relative:
        return lines
    ends = [(block.min(0), block.max(0)) for cache in clips.caches for block in cache.known_actions()]
    least, most = np.min([low for low, _ in ends], 0), np.max([high for _, high in ends], 0)
    for number, (low, high) in enumerate(zip(fitted.low, fitted.high, strict=True)):
        if max(low - least[number], most[number] - high) > high - low:
            reach = f"{least[number]:.4g} to {most[number]:.4g}"
            lines.append(f"  dimension {number} reaches from {reach}, and is clipped to {low:.4g} to {high:.4g}")
    return lines


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - TOLD} more" if len(items) > TOLD else ""
    return ", ".join(items[:TOLD]) + more
