from itertools import product

import numpy as np
import pytest

from videopolicy.datasets.transforms.turn import FLIPS, ROTATIONS, TURNS, FrameTurn, Turned
from videopolicy.errors import UserError
from videopolicy.types import Episode

# Each pixel is a number of its own:
#     0 1 2
#     3 4 5
PICTURE = np.repeat(np.arange(6, dtype=np.uint8).reshape(1, 2, 3, 1), 3, axis=3)
TURNED = {
    FrameTurn(): [[0, 1, 2], [3, 4, 5]],
    FrameTurn("horizontal"): [[2, 1, 0], [5, 4, 3]],
    FrameTurn("vertical"): [[3, 4, 5], [0, 1, 2]],
    FrameTurn("both"): [[5, 4, 3], [2, 1, 0]],
    FrameTurn(rotate=90): [[2, 5], [1, 4], [0, 3]],
    FrameTurn(rotate=180): [[5, 4, 3], [2, 1, 0]],
    FrameTurn(rotate=270): [[3, 0], [4, 1], [5, 2]],
    # First flipped, then rotated; the other way round it would be [[5, 2], [4, 1], [3, 0]].
    FrameTurn("horizontal", 90): [[0, 3], [1, 4], [2, 5]],
    FrameTurn("vertical", 90): [[5, 2], [4, 1], [3, 0]],
    FrameTurn("horizontal", 180): [[3, 4, 5], [0, 1, 2]],
}


@pytest.mark.parametrize("turn", TURNED, ids=str)
def test_each_pixel_goes_to_its_place(turn):
    turned = turn.apply(PICTURE)
    assert turned.flags.c_contiguous and turned.dtype == np.uint8
    np.testing.assert_array_equal(turned[0, :, :, 0], TURNED[turn])
    np.testing.assert_array_equal(turned[0, :, :, 2], TURNED[turn])


@pytest.mark.parametrize("turn", [FrameTurn(*both) for both in product((None, *FLIPS), (None, *ROTATIONS))], ids=str)
def test_the_inverse_brings_every_frame_back(turn):
    np.testing.assert_array_equal(turn.inverse.apply(turn.apply(PICTURE)), PICTURE)


def test_there_are_eight_ways_for_a_square_to_lie_and_none_twice():
    square = np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3)
    assert len({turn.apply(square).tobytes() for turn in TURNS}) == len(TURNS) == 8
    assert TURNS[0].apply(square).tobytes() == square.tobytes()


def test_it_is_said_in_words_and_as_options():
    assert str(FrameTurn("vertical")) == "flipped vertically"
    assert str(FrameTurn("horizontal", 270)) == "flipped horizontally, then rotated by 270 degrees counter-clockwise"
    assert str(FrameTurn(rotate=180)) == "rotated by 180 degrees"
    assert FrameTurn("vertical").options("top") == "--flip top=vertical"
    assert FrameTurn("horizontal", 90).options("top") == "--flip top=horizontal --rotate top=90"


@pytest.mark.parametrize(
    ("wrong", "message"), [(("sideways",), "horizontal, vertical, both"), ((None, 45), "not by 45")]
)
def test_any_other_turn_is_refused(wrong, message):
    with pytest.raises(UserError, match=message):
        FrameTurn(*wrong)


class InMemory:
    """One episode of two views, whose step n has pixels and actions n higher than the first."""

    path, views, fps, tasks, notes, fingerprint = "memory", ("top", "close"), 10.0, ("push",), (), "memory"
    action_width, state_width, action_layout, state_layout = 1, None, "", ""

    def episode(self, index, views=None, start=0, stop=None):
        numbers = np.arange(5, dtype=np.uint8)[start:stop]
        frames = dict.fromkeys(self.views if views is None else views, PICTURE + numbers[:, None, None, None])
        return Episode(frames, "push", self.fps, numbers[:, None].astype(np.float32))


def test_only_the_views_that_were_named_are_turned_and_this_is_told():
    dataset = Turned(InMemory(), {"close": FrameTurn("vertical")})
    shown, plain = dataset.episode(0, None, 2, 4), InMemory().episode(0, None, 2, 4)
    np.testing.assert_array_equal(shown.views["top"], plain.views["top"])
    np.testing.assert_array_equal(shown.views["close"][:, :, :, 1], [[[5, 6, 7], [2, 3, 4]], [[6, 7, 8], [3, 4, 5]]])
    np.testing.assert_array_equal(shown.actions, plain.actions)
    assert list(shown.views) == ["top", "close"] and list(dataset.episode(0, ["top"]).views) == ["top"]
    assert [str(note) for note in dataset.notes] == [
        f"{dataset.path}: the frames of view close are flipped vertically, as was asked"
    ]


def test_another_turn_is_another_data_set_to_a_cache():
    ways = [
        {"top": FrameTurn("vertical")},
        {"top": FrameTurn("horizontal")},
        {"close": FrameTurn("vertical")},
        {"top": FrameTurn(rotate=90)},
    ]
    assert len({Turned(InMemory(), turns).fingerprint for turns in ways}) == 4


def test_a_view_that_is_not_there_is_refused():
    with pytest.raises(UserError, match="memory: no view 'topp'; did you mean 'top'"):
        Turned(InMemory(), {"topp": FrameTurn("vertical")})
