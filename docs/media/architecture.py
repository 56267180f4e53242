"""Draws the picture of docs/architecture.md: `python docs/media/architecture.py`."""

from pathlib import Path

from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

SEAM, PLAIN, INK = "#f6d9a8", "#e8edf2", "#22303c"
# Name, what stands in it, column, row, whether it is a seam.
BOXES = [
    ("datasets/", "mp4, HDF5, parquet\n-> Episode", 0, 2, True),
    ("clips/ latents/ text/", "windows, codes on disk,\ntokens -> ClipBatch", 1, 2, True),
    ("backbones/  heads/", "video denoiser -> taps\n-> denoised actions", 1, 3, True),
    ("diffusion/noise/", "law: noise levels of\nvideo and of actions", 2, 3, True),
    ("training/stages.py", "what trains,\nwhich losses count", 3, 3, True),
    ("models/", "denoises video and actions\n(Joint, Levels) -> Joint", 2, 2, True),
    ("training/", "objective, step, loop\n-> checkpoint", 3, 2, False),
    ("rollout/  report/", "episodes, intervals,\none page", 0, 0, False),
    ("envs/", "a simulator\n(or your robot)", 1, 0, True),
    ("executors/", "which action now,\nwhen to ask", 2, 0, True),
    ("policies/", "Observations -> Plans\n(batched, stateless)", 3, 0, True),
    ("diffusion/samplers/", "levels fall, the\nsample follows", 4, 0, True),
]
ARROWS = [
    ((0, 2), (1, 2), "Episode", False),
    ((1, 2), (2, 2), "ClipBatch", False),
    ((1, 3), (2, 2), "", False),
    ((2, 3), (2, 2), "Levels", False),
    ((2, 2), (3, 2), "Losses", False),
    ((3, 3), (3, 2), "", False),
    ((3, 2), (3, 0), "checkpoint", False),
    ((1, 0), (0, 0), "Episode", False),
    ((1, 0), (2, 0), "Observation\naction", True),
    ((2, 0), (3, 0), "asks\nPlan", True),
    ((4, 0), (3, 0), "", False),
]
WIDTH, HEIGHT, ACROSS, DOWN = 2.5, 1.0, 3.4, 1.45


def place(column: float, row: float) -> tuple[float, float]:
    """The middle of a box."""
    return ACROSS * column + WIDTH / 2, DOWN * row + HEIGHT / 2


def edge(start: tuple[float, float], end: tuple[float, float]) -> tuple[float, float]:
    """Where the line from one box's middle to another's leaves the first."""
    across, down = end[0] - start[0], end[1] - start[1]
    shares = [limit / abs(size) for limit, size in ((WIDTH / 2 + 0.06, across), (HEIGHT / 2 + 0.06, down)) if size]
    share = min(shares)
    return start[0] + share * across, start[1] + share * down


def main() -> None:
    """Writes architecture.svg beside this file."""
    figure = Figure(figsize=(13.2, 5.0))
    axes = figure.add_axes((0, 0, 1, 1))
    for name, what, column, row, seam in BOXES:
        x, y = place(column, row)
        corner = (x - WIDTH / 2, y - HEIGHT / 2)
        colour = SEAM if seam else PLAIN
        axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, "round,pad=0.02", facecolor=colour, edgecolor=INK, lw=0.8))
        axes.text(x, y + 0.28, name, ha="center", va="center", weight="bold", size=9.5, color=INK, family="monospace")
        axes.text(x, y - 0.16, what, ha="center", va="center", size=9, color=INK)
    for start, end, said, both in ARROWS:
        a, b = place(*start), place(*end)
        tail, tip = edge(a, b), edge(b, a)
        axes.annotate("", tip, tail, arrowprops={"arrowstyle": "<->" if both else "->", "color": INK, "lw": 1})
        if said:
            middle = (tail[0] + tip[0]) / 2, (tail[1] + tip[1]) / 2
            flat = tail[1] == tip[1]
            shift = (0, 0 if both else 0.14) if flat else (0.08, 0)
            at = middle[0] + shift[0], middle[1] + shift[1]
            axes.text(
                *at,
                said,
                ha="center" if flat else "left",
                va="center",
                size=8,
                linespacing=2.4,
                style="italic",
                color=INK,
            )
    axes.text(0, DOWN * 3 + 0.75, "learning", size=12, weight="bold", color=INK)
    axes.text(0, DOWN * 1 + 0.3, "acting", size=12, weight="bold", color=INK)
    axes.text(0, DOWN * 3 + 0.35, "orange: a seam, one file a variant", size=9, color=INK)
    axes.set_xlim(-0.2, ACROSS * 4 + WIDTH + 0.2)
    axes.set_ylim(-0.15, DOWN * 3 + HEIGHT + 0.15)
    axes.axis("off")
    FigureCanvasSVG(figure).print_svg(str(Path(__file__).with_suffix(".svg")), metadata={"Date": None})


if __name__ == "__main__":
    main()
