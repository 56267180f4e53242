import numpy as np
import pytest

from videopolicy.clips.statistics import FrameStatistics
from videopolicy.datasets.transforms.turn import TURNS, Turn
from videopolicy.policies.orientation import FEWEST, better, compare, fits

SIDE = 64


def scene(seed, bright=0):
    """A table before a wall, a lamp and a cupboard left and right, a box anywhere on the table, and some noise."""
    rng = np.random.default_rng(seed)
    image = np.full((SIDE, SIDE, 3), (180, 170, 160))
    image[40:] = (120, 80, 40)
    image[4:20, 6:16] = (250, 240, 120)
    image[20:44, 44:60] = (60, 40, 30)
    row, column = rng.integers(42, 56), rng.integers(0, 56)
    image[row : row + 8, column : column + 8] = (30, 60, 200)
    return np.uint8(np.clip(image + bright + rng.normal(0, 5, image.shape), 0, 255))


def recorded(turn=TURNS[0], count=12):
    """First frames of demonstrations, which somebody has turned."""
    return turn.apply(np.stack([scene(seed) for seed in range(count)]))


@pytest.mark.parametrize("turn", TURNS[1:], ids=str)
def test_each_turn_of_the_demonstrations_is_named_and_the_command_mends_it(turn):
    frames = recorded(turn)
    found, fit, as_it_comes = better(FrameStatistics.of(frames), scene(99))
    assert found == turn and fit > 0.9 and as_it_comes < 0.6
    mended = turn.inverse.apply(frames)
    np.testing.assert_array_equal(mended, recorded())
    assert better(FrameStatistics.of(mended), scene(99)) is None
    (line,) = compare({"top": FrameStatistics.of(frames)}, {"top": scene(99)})
    assert f"better {turn} ({fit:.2f}) than as it comes ({as_it_comes:.2f})" in line
    assert f"convert them with {turn.inverse.options('top')} and train again" in line


@pytest.mark.parametrize("seed", range(90, 96))
@pytest.mark.parametrize("bright", [-60, 0, 40])
def test_what_lies_as_in_training_is_passed_over_in_any_light(seed, bright):
    assert better(FrameStatistics.of(recorded()), scene(seed, bright)) is None


def test_a_view_is_compared_with_its_own_frames_whatever_its_size():
    frames = {"top": FrameStatistics.of(recorded()), "close": FrameStatistics.of(recorded(Turn("vertical")))}
    large = {"top": np.kron(scene(99), np.ones((3, 3, 1), np.uint8)), "close": scene(98), "unknown": scene(97)}
    (line,) = compare(frames, large)
    assert line.startswith("view close fits the training frames better flipped vertically (")
    assert list(compare({"top": frames["close"]}, {})) == []


def test_nothing_is_said_where_it_cannot_be_told():
    rng = np.random.default_rng(0)
    sky = np.broadcast_to(np.linspace(50, 200, SIDE)[:, None, None], (SIDE, SIDE, 3)).astype(np.uint8)
    noise = rng.integers(0, 256, (FEWEST, SIDE, SIDE, 3), np.uint8)
    # Left and right are the same.
    mirrored = FrameStatistics.of(Turn("horizontal").apply(np.stack([sky] * FEWEST)))
    assert better(mirrored, sky) is None
    assert better(FrameStatistics.of(noise), Turn("vertical").apply(noise[:1])[0]) is None
    assert better(mirrored, noise[0]) is None
    black = np.zeros((FEWEST, SIDE, SIDE, 3), np.uint8)
    assert set(fits(FrameStatistics.of(black), scene(0)).values()) == {0.0}


def test_of_few_demonstrations_nothing_is_said():
    few, enough = (FrameStatistics.of(recorded(Turn("vertical"), count)) for count in (FEWEST - 1, FEWEST))
    assert better(few, scene(99)) is None and better(enough, scene(99)) is not None
