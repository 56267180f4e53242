from tests.report.samples import monitored

from videopolicy.report.run import read
from videopolicy.report.training import section_of


def test_losses_alone_make_two_figures_without_keys(run):
    found = section_of(read(run))
    assert found.count("<figure>") == 2
    assert "video loss from 0.5 at step 10 to 0.0323 at step 300" in found
    assert 'class="key"' not in found and "Held-out" not in found


def test_bands_held_out_measures_and_speed_are_shown_where_they_were_logged(run):
    monitored(run)
    found = section_of(read(run))
    # Two losses, two by noise, three measures, the speed.
    assert found.count("<figure>") == 8
    assert "0.41 on held-out episodes" in found
    assert "video loss at the end: 3 at low noise, 2 at middle noise, 1 at high noise" in found
    assert "action loss at the end: 0.5 at low noise" in found
    assert "action error, normalised, on held-out episodes: 0.125 at step 100" in found
    assert "37 clips a second, 4.2% of the time waiting for data; at most 1.5 GB of memory." in found


def test_what_was_not_trained_here_has_no_section(run):
    (run / "losses.jsonl").unlink()
    assert section_of(read(run)) == ""
