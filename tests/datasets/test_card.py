import pytest

from videopolicy.datasets.card import Card


@pytest.mark.parametrize(
    ("seeds", "said"), [((0, 1, 2), "0-2"), ((4,), "4"), ((0, 2, 3, 9), "0, 2-3, 9"), ((5, 7), "5, 7")]
)
def test_seeds_are_said_shortly_and_completely(seeds, said):
    card = Card("libero", ("lift",), (seeds,), 10, 0.1, ("front",), 64, 20.0, "", "", ("videopolicy", "record"))
    assert f"| lift | {len(seeds)} | {said} |" in card.text()
