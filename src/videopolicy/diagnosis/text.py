"""A diagnosis as text for a terminal."""

from collections import Counter
from collections.abc import Sequence

from videopolicy.diagnosis.association import Association
from videopolicy.diagnosis.diagnosis import MEASURES, SHARED, WHOLE, Diagnosis
from videopolicy.diagnosis.sorting import ACTIONS, FEWEST, JUDGES, UNCLEAR, VIDEO, Sorted

_WINDOWS = {
    SHARED: "over the first control steps, which every episode of a task lived through:",
    WHOLE: "over whole episodes; failures last longer, which alone can make a difference:",
}


def text(diagnosis: Diagnosis) -> str:
    """What a reader needs: whether the reading can be trusted, what goes with success, and how failures are sorted."""
    parts = [f"note: {note}" for note in diagnosis.notes]
    return "\n".join([*parts, *_trust(diagnosis), "", *_ties(diagnosis), "", *_failures(diagnosis)])


def _trust(diagnosis: Diagnosis) -> list[str]:
    trust = diagnosis.trust
    read = ", ".join(str(dimension) for dimension in trust.readable) or "none"
    return [
        f"inverse dynamics, on demonstrations held out: error {trust.error:.2f}, "
        f"{trust.constant:.2f} for always reading the mean; dimensions compared: {read} of {len(trust.explained)}"
    ]


def _ties(diagnosis: Diagnosis) -> list[str]:
    tasks = list(next(iter(diagnosis.associations[SHARED].values())))
    # With one task, all tasks together say the same again.
    tasks = tasks[1:] if len(tasks) == 2 else tasks
    lines = [
        "Is success tied to the video? AUC: how often a success has more of it than a failure; 0.5 is no relation.",
        "The p are of many measures and not corrected for that; chosen in advance is one, skill over the first steps.",
    ]
    for window, introduction in _WINDOWS.items():
        lines += ["", introduction]
        width = max(len("all, within tasks"), *map(len, tasks))
        lines.append(f"  {'':{width}}  successes" + "".join(f"  {name:>22}" for name in MEASURES))
        for task in tasks:
            row = [diagnosis.associations[window][name][task] for name in MEASURES]
            count = next((f"{one.successes}/{one.n}" for one in row if one), "all alike")
            lines.append(f"  {task or 'all, within tasks':{width}}  {count:>9}" + "".join(map(_tie, row)))
    return lines


def _tie(found: Association | None) -> str:
    cell = "-" if found is None else f"{found.auc:.2f} (r {found.r:+.2f}, p {found.p:.2g})"
    return f"  {cell:>22}"


def _failures(diagnosis: Diagnosis) -> list[str]:
    failures = [one for one in diagnosis.episodes if not one.success]
    if not failures:
        return ["No recorded episode failed."]
    kinds = [found for one in failures if (found := diagnosis.sorted(one))]
    lines = [f"{len(failures)} failures:"]
    if missing := len(failures) - len(kinds):
        lines.append(f"  {'not sorted':13}  {missing:3}  fewer than {FEWEST} successes of the task")
    return lines + _kinds(diagnosis, kinds) if kinds else lines


def _kinds(diagnosis: Diagnosis, kinds: Sequence[Sorted]) -> list[str]:
    lines = []
    for kind in (VIDEO, ACTIONS, UNCLEAR):
        reasons = Counter(found.reason for found in kinds if found.kind == kind)
        why = "; ".join(f"{reason} {count}" for reason, count in reasons.most_common())
        lines.append(f"  {kind:13}  {sum(reasons.values()):3}  {why}")
    for name, judge in JUDGES.items():
        shares = [f"{(diagnosis.share(success, judge) or 0) * 100:.0f} %" for success in (True, False)]
        nothing = "" if judge in diagnosis.telling else "; tells nothing here, so it does not decide"
        lines.append(f"  {name}: {shares[0]} of the successes, {shares[1]} of the failures{nothing}")
    return lines
