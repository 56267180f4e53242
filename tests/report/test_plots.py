import re
from xml.etree import ElementTree

import numpy as np
import pytest

from videopolicy.report import plots
from videopolicy.report.plots import Line
from videopolicy.similarity import Pair, by_offset

SPREADS = by_offset([Pair(8, 30, 0.9, 20, 0.7), Pair(8, 28, 0.8, 22, 0.7), Pair(16, 25, 0.7, 15, 0.5)])
DRAWN = {
    "losses": plots.training("a", "loss", [Line(range(1, 50), [1 / n for n in range(1, 50)], plots.INK, logged=True)]),
    "zero loss": plots.training("b", "loss", [Line([1, 2], [0.0, 0.5], plots.ACTION)]),
    "one loss": plots.training("c", "loss", [Line([1], [0.5], plots.ACTION, marked=True)]),
    "two": plots.training("d", "dB", [Line([1, 2], [9, 8], plots.INK, 0.3), Line([2], [3], plots.STILL)], False),
    "psnr": plots.ahead(SPREADS, "psnr", "PSNR, dB"),
    "ssim": plots.ahead(SPREADS, "ssim", "SSIM"),
    "actions": plots.actions([np.eye(5), np.ones((3, 5))], ["a <b>", "1", "2", "3", "4"], "0"),
    "success": plots.success({"a <b>": (0.5, 0.2, 0.8), "none": (0, 0, 0.3), "all": (1, 0.7, 1)}),
}


@pytest.mark.parametrize("name", DRAWN)
def test_a_plot_is_one_svg_element_in_the_colours_of_the_page(name):
    ElementTree.fromstring(DRAWN[name])
    assert not re.search(r"#0\d0\d0\d", DRAWN[name])
    assert "var(--ink)" in DRAWN[name]
    # White and black are matplotlib's own: one would be a box in the dark, the other unreadable there.
    assert not re.search(r"#ffffff|#000000|white|black", DRAWN[name])


def test_ids_do_not_clash_and_every_reference_is_met():
    ids = [re.findall(r'\bid="([^"]+)"', svg) for svg in DRAWN.values()]
    for one, svg in zip(ids, DRAWN.values(), strict=True):
        assert len(set(one)) == len(one)
        assert set(re.findall(r'(?:href="#|url\(#)([^")]+)', svg)) <= set(one)
    everything = [name for one in ids for name in one]
    assert len(set(everything)) == len(everything)


def test_drawing_twice_gives_the_same_text():
    assert plots.ahead(SPREADS, "psnr", "PSNR, dB") == DRAWN["psnr"]


def test_text_stays_text():
    assert "a &lt;b&gt;" in DRAWN["success"]
    assert "control steps ahead" in DRAWN["psnr"]


def test_the_running_median_ignores_a_spike_and_keeps_a_line():
    values = np.arange(20.0)
    assert (plots.running_median(values, 2)[2:-2] == values[2:-2]).all()
    values[10] = 1e6
    assert plots.running_median(values, 2).max() < 20
