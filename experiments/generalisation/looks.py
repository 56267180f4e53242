"""Draws figures/unseen_look.png: success by how far a scene looks from the demonstrations, a panel a change."""

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from figures import played, rng
from methods import METHODS

from videopolicy.rollout.results import Result
from videopolicy.rollout.trainings import mean_success, outcomes

KINDS, STEPS = ("light", "texture", "camera"), range(4)


def main() -> None:
    """Draws what there is."""
    trainings = played("unseen_look", "all")
    figure, panels = plt.subplots(1, len(KINDS), sharey=True, figsize=(8, 3), constrained_layout=True)
    for kind, axes in zip(KINDS, panels, strict=True):
        for row, name in enumerate(sorted(trainings, key=list(METHODS).index)):
            seeds = [kept.rows for kept in trainings[name]]
            found = [mean_success(outcomes([seen(rows, kind, step) for rows in seeds])[0], rng()) for step in STEPS]
            ends = np.array([(one.estimate - one.low, one.high - one.estimate) for one in found]).T
            moved = np.array(STEPS) + 0.06 * row
            axes.errorbar(moved, [one.estimate for one in found], yerr=ends, marker="o", capsize=3, label=name)
            print(f"{kind} {name}: " + ", ".join(str(one) for one in found))
        axes.set_title(kind, fontsize=9)
        axes.set_xticks(STEPS)
        axes.set_ylim(-0.03, 1.03)
    panels[0].set_ylabel("success")
    panels[-1].legend(fontsize=8)
    figure.supxlabel("steps from the look of the demonstrations; intervals over trainings and starts", fontsize=8)
    figure.savefig(Path(__file__).parent / "figures" / "unseen_look.png", dpi=110)


def seen(rows: list[Result], kind: str, step: int) -> list[Result]:
    """The episodes that looked so; step 0 is the look of the demonstrations."""
    if step == 0:
        return [row for row in rows if "@" not in row.task]
    return [row for row in rows if row.task.endswith(f"@{kind}{step}")]


if __name__ == "__main__":
    main()
