"""Draws speed.png: how fast each way to sample acts, against how often it succeeds, with 95 % intervals."""

import json
from pathlib import Path

import matplotlib.pyplot as plt

HERE = Path(__file__).parent


def main() -> None:
    """Draws what `run.sh` measured."""
    rows = json.loads((HERE / "bench.json").read_text(encoding="utf-8"))["settings"]
    figure, axes = plt.subplots(figsize=(7, 4), constrained_layout=True)
    for row in rows:
        found = row["success"]
        rate, speed = found["successes"] / found["episodes"], row["times_faster"]
        spread = [[rate - found["low"]], [found["high"] - rate]]
        label = f"{row['name']}: {found['successes']}/{found['episodes']}, {row['acting']['median']:.0f} ms"
        axes.errorbar(speed, rate, yerr=spread, fmt="o", capsize=3, label=label)
    axes.axvline(8, color="grey", linewidth=1, linestyle=":")
    axes.set_xscale("log")
    axes.set_xlabel("times faster than thirty guided steps, acting, one CPU thread")
    axes.set_ylabel("success")
    axes.set_ylim(0, 1.03)
    axes.legend(loc="lower left", fontsize=8)
    figure.savefig(HERE / "speed.png", dpi=120)


if __name__ == "__main__":
    main()
