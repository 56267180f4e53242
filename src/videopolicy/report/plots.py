"""Plots as SVG text that takes its colours from the page, so that it fits light and dark alike."""

import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from videopolicy.similarity import MeanStd

# Matplotlib knows no CSS variables: these stand-ins are drawn, then exchanged for the page's own colours.
_COLOURS = {
    "#010101": "var(--ink)",
    "#020202": "var(--rule)",
    "#030303": "var(--imagined)",
    "#040404": "var(--still)",
    "#050505": "var(--action)",
}
INK, RULE, IMAGINED, STILL, ACTION = _COLOURS


@dataclass(frozen=True)
class Line:
    """Values over training steps.

    Attributes:
        steps: where.
        values: what was logged there.
        colour: one of this module's.
        strength: its opacity.
        logged: whether the values themselves are drawn, faint, behind their running median.
        marked: whether each value has a dot and there is no median, as for few of them.
    """

    steps: Sequence[int]
    values: Sequence[float]
    colour: str
    strength: float = 1.0
    logged: bool = False
    marked: bool = False


def training(name: str, label: str, lines: Sequence[Line], logarithmic: bool = True) -> str:
    """Lines over training steps; on a logarithmic axis if that is wanted and every value is above zero.

    Args:
        name: unique on the page.
        label: of the values.
        lines: at least one, each with a value.
        logarithmic: whether ratios matter, as for losses.
    """
    figure, axes = _figure()
    for line in lines:
        if line.logged:
            axes.plot(line.steps, line.values, color=line.colour, linewidth=0.8, alpha=0.3)
        reach = 0 if line.marked else max(1, len(line.values) // 40)
        smooth = running_median(np.asarray(line.values, np.float64), reach)
        mark = {"marker": "o", "markersize": 4} if line.marked else {}
        axes.plot(line.steps, smooth, color=line.colour, linewidth=1.8, alpha=line.strength, **mark)
    least, most = (extreme(value for line in lines for value in line.values) for extreme in (min, max))
    if logarithmic and least > 0:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.yaxis.set_minor_formatter(FuncFormatter(lambda value, _: f"{value:.1g}"))
        if most > 10 * least:
            axes.yaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    axes.set_xlabel("training step")
    axes.set_ylabel(label)
    return svg(figure, name)


def running_median(values: Float[np.ndarray, "n"], reach: int) -> Float[np.ndarray, "n"]:
    """The median of each value and up to `reach` neighbours on either side."""
    return np.array([np.median(values[max(0, i - reach) : i + reach + 1]) for i in range(len(values))])


def ahead(spreads: Mapping[int, MeanStd], measure: str, label: str) -> str:
    """A measure of similarity by control steps ahead: imagined against "nothing moves", mean and deviation."""
    figure, axes = _figure()
    offsets = np.array(list(spreads))
    for key, colour, shift, mark in ((measure, IMAGINED, -1, "o"), (f"still_{measure}", STILL, 1, "s")):
        middle = [found.mean[key] for found in spreads.values()]
        around = [found.deviation[key] for found in spreads.values()]
        # Side by side rather than on top of each other.
        places = offsets + shift * 0.008 * max(offsets)
        axes.errorbar(places, middle, around, color=colour, marker=mark, markersize=5, linewidth=1.8, elinewidth=1.2)
    axes.set_xticks(offsets)
    axes.set_xlim(0, max(offsets) * 1.1)
    axes.set_xlabel("control steps ahead")
    axes.set_ylabel(label)
    return svg(figure, f"ahead-{measure}")


def success(tasks: Mapping[str, tuple[float, float, float]]) -> str:
    """Success rate of every task with its interval; task -> (rate, low, high), from 0 to 1."""
    figure, axes = _figure(height=0.9 + 0.34 * len(tasks))
    places = np.arange(len(tasks))
    rates, lows, highs = 100 * np.array(list(tasks.values())).T
    axes.barh(places, rates, height=0.6, color=IMAGINED, alpha=0.55)
    around = np.clip([rates - lows, highs - rates], 0, None)
    axes.errorbar(rates, places, xerr=around, fmt="none", ecolor=INK, elinewidth=1.4, capsize=4)
    axes.set_yticks(places, list(tasks))
    axes.invert_yaxis()
    axes.set_xlim(0, 100)
    axes.grid(axis="y", visible=False)
    axes.set_xlabel("success, % (bar), 95 % interval (line)")
    return svg(figure, "success")


def actions(curves: Sequence[Float[np.ndarray, "n D"]], names: Sequence[str], key: str) -> str:
    """Actions over control steps, a panel a dimension: the first episode bold, the others faint behind it.

    Args:
        curves: the actions of some episodes, at least one.
        names: what to write over each panel, D of them.
        key: unique on the page.
    """
    columns = min(4, len(names))
    figure = Figure(figsize=(2.6 * columns, 1.7 * -(-len(names) // columns)), layout="constrained")
    panels = figure.subplots(-(-len(names) // columns), columns, squeeze=False).ravel()
    for axes in panels[len(names) :]:
        axes.set_visible(False)
    for dimension, (axes, name) in enumerate(zip(panels, names, strict=False)):
        _style(axes)
        axes.xaxis.set_major_locator(MaxNLocator(3, integer=True))
        axes.yaxis.set_major_locator(MaxNLocator(3, steps=[1, 2, 5, 10]))
        axes.set_title(name, fontsize=9, color=INK, loc="left")
        for curve in reversed(curves):
            # A picture has no room for more points.
            steps = np.arange(0, len(curve), 1 + len(curve) // 200)
            bold = curve is curves[0]
            axes.plot(
                steps,
                curve[steps, dimension],
                color=ACTION if bold else STILL,
                linewidth=1.6 if bold else 0.8,
                alpha=1 if bold else 0.6,
            )
    return svg(figure, f"actions-{key}")


def svg(figure: Figure, name: str) -> str:
    """The figure as an `<svg>` element with ids of its own, for a page that has several.

    Args:
        figure: drawn with the colours of this module.
        name: unique on the page.
    """
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", text)
    for stand_in, colour in _COLOURS.items():
        text = text.replace(stand_in, colour)
    return text.replace("<svg", '<svg aria-hidden="true"', 1)


def _figure(height: float = 2.7) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(4.6, height), layout="constrained")
    axes = figure.add_subplot()
    _style(axes)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return figure, axes


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(RULE)
    axes.tick_params(which="both", color=RULE, labelcolor=INK, labelsize=9)
    axes.grid(color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(INK)
    axes.yaxis.label.set_color(INK)
