"""How a run was trained: losses, also by noise level, what the held-out episodes say, and speed."""

from statistics import median

from videopolicy.report import plots
from videopolicy.report.markup import Drawing, render
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


def section_of(run: Run) -> str:
    """Curves of the training; nothing if the run was not trained here."""
    parts = [part for part in _COLOURS if part in run.losses]
    if not parts:
        return ""
    drawings = [_losses(part, run) for part in parts]
    drawings += [drawing for part in parts if (drawing := _by_noise(part, run.losses))]
    drawings += [_measure(name, run.validation) for name in _MEASURES if name in run.validation]
    if "clips_a_second" in run.throughput:
        steps, values = run.throughput["clips_a_second"]
        drawn = plots.training("speed", "clips a second", [Line(steps, values, plots.INK)], False)
        drawings.append(Drawing(drawn, f"clips a second: {median(values):.3g} in the median"))
    return render(
        "training.html",
        speed=_speed(run.throughput),
        drawings=drawings,
        explains=bool(run.validation) or any(f"{parts[0]}_{band}" in run.losses for band in _BANDS),
        compares_frames="psnr" in run.validation,
    )


def _losses(part: str, run: Run) -> Drawing:
    """The loss in training, and beside it the one on held-out episodes."""
    steps, values = run.losses[part]
    lines = [Line(steps, values, _COLOURS[part], logged=True)]
    words = f"{part} loss from {values[0]:.3g} at step {steps[0]} to {values[-1]:.3g} at step {steps[-1]}"
    keys = ()
    if part in run.validation:
        lines.append(Line(*run.validation[part], plots.INK, marked=True))
        words += f"; {run.validation[part][1][-1]:.3g} on held-out episodes"
        keys = (_key("training", _COLOURS[part]), _key("held out", plots.INK))
    return Drawing(plots.training(f"loss-{part}", f"{part} loss", lines), words, words, keys)


def _by_noise(part: str, losses: Curves) -> Drawing | None:
    bands = {band: strength for band, strength in _BANDS.items() if f"{part}_{band}" in losses}
    if not bands:
        return None
    lines = [Line(*losses[f"{part}_{band}"], _COLOURS[part], strength) for band, strength in bands.items()]
    last = ", ".join(f"{losses[f'{part}_{band}'][1][-1]:.3g} at {band} noise" for band in bands)
    keys = tuple(_key(f"{band} noise", _COLOURS[part], strength) for band, strength in bands.items())
    drawn = plots.training(f"noise-{part}", f"{part} loss", lines)
    return Drawing(drawn, f"{part} loss at the end: {last}", keys=keys)


def _measure(name: str, held_out: Curves) -> Drawing:
    label, colour = _MEASURES[name]
    steps, values = held_out[name]
    words = f"{label}, on held-out episodes: {values[0]:.3g} at step {steps[0]}, {values[-1]:.3g} at step {steps[-1]}"
    drawn = plots.training(name, label, [Line(steps, values, colour, marked=True)], False)
    return Drawing(drawn, words, words)


def _key(words: str, colour: str, strength: float = 1.0) -> tuple[str, str]:
    """What a line is, and its own colour."""
    return words, f"color-mix(in srgb, var(--{_NAMES[colour]}) {strength:.0%}, transparent)"


def _speed(speed: Curves) -> str:
    if "clips_a_second" not in speed:
        return ""
    clips, waiting = (median(speed[name][1]) for name in ("clips_a_second", "waiting"))
    gpu = f", {max(speed['cuda_gb'][1]):.3g} GB on the GPU" if "cuda_gb" in speed else ""
    return (
        f"{clips:.3g} clips a second, {waiting:.1%} of the time waiting for data; at most "
        f"{max(speed['memory_gb'][1]):.3g} GB of memory{gpu}."
    )
