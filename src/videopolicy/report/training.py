"""How a run was trained: losses, also by noise level, what the held-out episodes say, and speed."""

from collections.abc import Sequence
from statistics import median

from videopolicy.report import plots
from videopolicy.report.markup import paragraph, plot, section
from videopolicy.report.plots import Line
from videopolicy.report.run import Curves, Run

_COLOURS = {"video": plots.IMAGINED, "action": plots.ACTION}
_NAMES = {plots.IMAGINED: "imagined", plots.ACTION: "action", plots.INK: "ink"}
# Bands of noise from faint to full.
_BANDS = {"low": 0.3, "middle": 0.6, "high": 1.0}
# What is measured on held-out episodes: its label and colour.
_MEASURES = {
    "action_error": ("action error, normalised", plots.ACTION),
    "psnr": ("PSNR of imagined frames, dB", plots.IMAGINED),
    "ssim": ("SSIM of imagined frames", plots.IMAGINED),
}
_NOTE = (
    "Training losses are bold as a running median. Noise: the lowest, the middle and the highest third of the noise "
    "levels that are trained on. Held-out episodes are never trained on; their losses are at fixed noise"
)
_NOTE_ON_VIDEO = ", and imagined frames are compared with real ones as the latents show them"


def section_of(run: Run) -> str:
    """Curves of the training; nothing if the run was not trained here."""
    parts = [part for part in _COLOURS if part in run.losses]
    if not parts:
        return ""
    figures = [_losses(part, run) for part in parts] + [_by_noise(part, run.losses) for part in parts]
    figures += [_measure(name, run.validation) for name in _MEASURES]
    if "clips_a_second" in run.throughput:
        steps, values = run.throughput["clips_a_second"]
        drawn = plots.training("speed", "clips a second", [Line(steps, values, plots.INK)], False)
        figures.append(plot(drawn, f"clips a second: {median(values):.3g} in the median"))
    said = _speed(run.throughput)
    note = f"{_NOTE}{_NOTE_ON_VIDEO if 'psnr' in run.validation else ''}."
    return section(
        "Training",
        *([paragraph(said)] if said else []),
        f'<div class="plots many">{"".join(figures)}</div>',
        paragraph(note, "note") if run.validation or any(f"{parts[0]}_{band}" in run.losses for band in _BANDS) else "",
    )


def _losses(part: str, run: Run) -> str:
    """The loss in training, and beside it the one on held-out episodes."""
    steps, values = run.losses[part]
    lines = [Line(steps, values, _COLOURS[part], logged=True)]
    words = f"{part} loss from {values[0]:.3g} at step {steps[0]} to {values[-1]:.3g} at step {steps[-1]}"
    keys = [("training", _COLOURS[part], 1.0)]
    if part in run.validation:
        lines.append(Line(*run.validation[part], plots.INK, marked=True))
        words += f"; {run.validation[part][1][-1]:.3g} on held-out episodes"
        keys.append(("held out", plots.INK, 1.0))
    caption = f"{_keys(keys)}{words}" if len(keys) > 1 else words
    return plot(plots.training(f"loss-{part}", f"{part} loss", lines), words, caption)


def _by_noise(part: str, losses: Curves) -> str:
    bands = {band: strength for band, strength in _BANDS.items() if f"{part}_{band}" in losses}
    if not bands:
        return ""
    lines = [Line(*losses[f"{part}_{band}"], _COLOURS[part], strength) for band, strength in bands.items()]
    last = ", ".join(f"{losses[f'{part}_{band}'][1][-1]:.3g} at {band} noise" for band in bands)
    keys = _keys([(f"{band} noise", _COLOURS[part], strength) for band, strength in bands.items()])
    return plot(plots.training(f"noise-{part}", f"{part} loss", lines), f"{part} loss at the end: {last}", keys)


def _measure(name: str, held_out: Curves) -> str:
    if name not in held_out:
        return ""
    label, colour = _MEASURES[name]
    steps, values = held_out[name]
    words = f"{label}, on held-out episodes: {values[0]:.3g} at step {steps[0]}, {values[-1]:.3g} at step {steps[-1]}"
    return plot(plots.training(name, label, [Line(steps, values, colour, marked=True)], False), words, words)


def _keys(keys: Sequence[tuple[str, str, float]]) -> str:
    """What each line is, in its own colour."""
    return "".join(
        f'<span class="key" style="--colour:color-mix(in srgb, var(--{_NAMES[colour]}) {strength:.0%}, transparent)">'
        f"{words}</span>"
        for words, colour, strength in keys
    )


def _speed(speed: Curves) -> str:
    if "clips_a_second" not in speed:
        return ""
    clips, waiting = (median(speed[name][1]) for name in ("clips_a_second", "waiting"))
    gpu = f", {max(speed['cuda_gb'][1]):.3g} GB on the GPU" if "cuda_gb" in speed else ""
    return (
        f"{clips:.3g} clips a second, {waiting:.1%} of the time waiting for data; at most "
        f"{max(speed['memory_gb'][1]):.3g} GB of memory{gpu}."
    )
