"""What the oracle found, as text for a terminal."""

from videopolicy.diagnosis.open_loop import ACTING, IMAGINED, KINDS, STILL, TRUE, OpenLoop
from videopolicy.diagnosis.oracle import Oracle
from videopolicy.rollout.comparison import LEVEL, PairedOutcomes, table


def text(found: Oracle) -> str:
    """Both measurements, and in the last paragraph what is at fault."""
    lines = [f"note: {note}" for note in found.notes]
    lines += [f"the head is shown the future {found.shown}", "", *_open_loop(found.open_loop)]
    if found.pairs:
        lines += ["", "success with the imagined future (first) and with the true one (second), from the same starts:"]
        lines += [table(dict(found.pairs))]
    return "\n".join([*lines, "", verdict(found)])


def _open_loop(found: OpenLoop) -> list[str]:
    width = max(map(len, KINDS))
    return [
        f"mean absolute error of the next {found.execute} actions, normalised, on {found.clips} recorded steps of "
        f"{len(found.errors)} episodes (95 %):",
        *(f"  {kind:{width}}  {found.error(kind)}" for kind in (ACTING, IMAGINED, TRUE, STILL)),
        f"ratio of the errors: true to imagined {found.ratio(TRUE, IMAGINED)}, "
        f"true to nothing that moves {found.ratio(TRUE, STILL)}",
    ]


def verdict(found: Oracle) -> str:
    """One paragraph: the video, the head, both, or neither."""
    read = found.open_loop
    said = [_of_steps(read)]
    if found.pooled is not None:
        said.append(_of_episodes(found.pooled, read))
    return " ".join(said)


def _of_steps(read: OpenLoop) -> str:
    if not read.reads:
        return (
            "On recorded steps the head reads no better from the true future than where nothing moves: it does not use "
            "the video, so a better video would not help it, and what follows says little about the video."
        )
    if not read.gains:
        return (
            "On recorded steps the true future gives no better actions than the imagined one: "
            "what error is left is the head's."
        )
    share = 1 - read.ratio(TRUE, IMAGINED).value
    return (
        f"On recorded steps the true future takes {share:.0%} off the error of the actions: that much is the video's."
    )


def _of_episodes(pairs: PairedOutcomes, read: OpenLoop) -> str:
    imagined, true = pairs.both + pairs.first, pairs.both + pairs.second
    scores = f"{true} of {pairs.n} episodes succeed with the true future, {imagined} with the imagined one"
    left = pairs.n - true
    if pairs.p < LEVEL and true > imagined:
        rest = f"; {left} fail all the same, by the head" if left else ""
        return f"In the env, {scores}: the video is at fault for the difference{rest}."
    if pairs.p < LEVEL:
        return (
            f"In the env, {scores}: the expert's future does the head harm, as where it leads on ways that no training "
            "showed, or where it is read at noise levels that were seldom trained; nothing is said about the video."
        )
    if imagined == pairs.n:
        return f"In the env, {scores}: nothing is at fault."
    small = f"In the env, {scores}: no difference shown"
    if not read.reads:
        return f"{small}, as is to be expected of a head that does not use the video."
    low, high = pairs.interval()
    return (
        f"{small} ({100 * low:+.0f} to {100 * high:+.0f} points); what fails with the true future in sight, "
        f"{left} of {pairs.n}, is the head's."
    )
