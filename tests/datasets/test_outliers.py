import numpy as np
import pytest

from videopolicy.datasets.outliers import Watch

STEPS = 40


def found(values, steps=STEPS):
    """What is far outside in these steps, cut into episodes that are numbered from 100."""
    episodes = {100 + number: part for number, part in enumerate(np.split(values, range(steps, len(values), steps)))}
    watch = Watch(values.shape[1])
    for number, part in episodes.items():
        watch.add(number, part)
    return watch.outliers(episodes.__getitem__)


def rng():
    return np.random.default_rng(3)


def smooth(count, width=2, over=10):
    noise = rng().normal(size=(count + over, width)).astype(np.float32)
    return np.stack([np.convolve(column, np.full(over, 1 / over), "valid")[:count] for column in noise.T], 1)


def switching(count, share, noise=0.0, stay=10):
    """Grippers that are closed for some of the time, and then for a while."""
    closed = np.repeat(rng().random((count // stay, 2)) < share, stay, 0)
    return closed * 1.0 + noise * rng().normal(size=closed.shape)


def resting(count, moving):
    """Movements that rest between stretches in which they move."""
    return np.where(np.repeat(rng().random((count // 10, 2)) < moving, 10, 0), smooth(count, over=5), 0)


def once(count):
    """Joints that move in one episode alone; elsewhere their sensors' noise is all there is."""
    values = rng().normal(0, 1e-4, (count, 2))
    values[STEPS : 2 * STEPS] = np.sin(np.linspace(0, np.pi, STEPS))[:, None]
    return values


def few_steps(count):
    values = np.ones((count, 2))
    values[rng().choice(count, 5, replace=False)] = 1 + np.array([[0.01, 0.02, 0.9, -0.5, 0.2]]).T
    return values


def flipping(count):
    """Parts of a quaternion, whose sign jumps now and then."""
    return (0.5 + 0.02 * smooth(count)) * np.where(np.arange(count) % 37, 1, -1)[:, None]


CLEAN = {
    "uniform": lambda n: rng().uniform(-1, 1, (n, 2)),
    "normal": lambda n: rng().normal(size=(n, 2)),
    "smooth": smooth,
    "fast moves, rarely": lambda n: 30 * smooth(n) ** 3,
    "heavy tails": lambda n: rng().standard_t(3, (n, 2)),
    "a power law": lambda n: np.stack([rng().permutation(n) + 1.0] * 2, 1) ** -2.5,
    "a walk": lambda n: np.cumsum(rng().normal(size=(n, 2)), 0),
    "far from zero": lambda n: 100 + 1e-3 * smooth(n),
    "gripper, rarely": lambda n: switching(n, 0.02),
    "gripper, mostly": lambda n: switching(n, 0.97),
    "gripper, single steps": lambda n: switching(n, 0.01, stay=1),
    "gripper that trembles": lambda n: switching(n, 0.02, noise=1e-4),
    "three positions": lambda n: rng().choice([-1.0, 0.0, 1.0], (n, 2), p=[0.01, 0.97, 0.02]),
    "rests": lambda n: resting(n, 0.3),
    "rests mostly": lambda n: resting(n, 0.03),
    "moves once": once,
    "constant": lambda n: np.full((n, 2), 0.25),
    "constant but for a few steps": few_steps,
    "last bit trembles": lambda n: 0.04 + 1e-5 * rng().integers(0, 2, (n, 2)),
    "angles about pi": lambda n: (np.pi + 0.02 * smooth(n) + np.pi) % (2 * np.pi) - np.pi,
    "angles that tremble above 0 of 360": lambda n: (2 + rng().normal(0, 0.8, (n, 2))) % 360,
    "angles about 0 of 360": lambda n: (5 * smooth(n)) % 360,
    "quaternions that change sign": flipping,
}


@pytest.mark.parametrize("count", [240, 4000, 100_000])
@pytest.mark.parametrize("name", CLEAN)
def test_what_robots_do_is_usual(name, count):
    assert found(CLEAN[name](count).astype(np.float32)) == []


SPOILT = ("uniform", "normal", "smooth", "fast moves, rarely", "far from zero", "rests")


@pytest.mark.parametrize("count", [240, 100_000])
@pytest.mark.parametrize("spikes", [1, 3, 20])
@pytest.mark.parametrize("times", [10, 1000])
@pytest.mark.parametrize("name", SPOILT)
def test_values_far_outside_are_told_with_their_number_worst_range_and_episodes(name, times, spikes, count):
    clean = CLEAN[name](count).astype(np.float32)
    values = np.concatenate((clean, clean[:, :1]), 1)
    where = np.sort(rng().choice(count, (2, spikes), replace=False), 1)
    for dimension, steps in zip((0, 1), where, strict=True):
        middle, span = clean[:, dimension].mean(), np.ptp(clean[:, dimension])
        values[steps, dimension] = middle + times * span * np.linspace(1, 2, spikes) * (1 if dimension else -1)
    first, second = found(values)
    for one, dimension, steps in ((first, 0, where[0]), (second, 1, where[1])):
        others = np.delete(values[:, dimension], steps)
        assert (one.dimension, one.count, one.worst) == (dimension, spikes, values[steps[-1], dimension])
        assert (one.low, one.high) == (others.min(), others.max())
        assert one.episodes == tuple(sorted({100 + step // STEPS for step in steps.tolist()}))


def test_near_and_far_ones_on_both_sides_are_all_told():
    values = smooth(4000, 1)
    values[[5, 500, 900, 3000]] = [[12], [-1e3], [3.4e38], [-11]]
    (one,) = found(values)
    assert (one.count, one.worst, one.episodes) == (4, np.float32(3.4e38), (100, 112, 122, 175))
    assert one.high == np.delete(values, [5, 500, 900, 3000]).max()


def test_a_spike_stands_out_beside_angles_that_pass_pi():
    values = CLEAN["angles about pi"](4000).astype(np.float32)
    values[77, 1] = 50
    (one,) = found(values)
    assert (one.dimension, one.count, one.worst, one.episodes) == (1, 1, 50, (101,))


def test_a_sensor_that_is_stuck_far_out_is_told_and_a_gripper_that_stays_closed_is_not():
    values = smooth(4000)
    values[1000:1030, 0] = -999
    values[1000:1030, 1] = 20
    (one,) = found(values)
    assert (one.dimension, one.count, one.worst, one.episodes) == (0, 30, -999, (125,))


def test_the_order_and_the_lengths_of_the_episodes_do_not_matter():
    values = smooth(4000)
    values[[3, 777], 1] = 99
    (one,), (other,) = found(values), found(values[::-1], steps=333)
    assert (one.count, one.worst, one.low, one.high) == (other.count, other.worst, other.low, other.high)


def test_only_episodes_with_something_outside_are_read_again_and_only_some_of_many():
    values = smooth(40 * 1000)
    values[STEPS * np.arange(500) + 7, 0] = 1000
    episodes, asked = np.split(values, 1000), []
    watch = Watch(2)
    for number, part in enumerate(episodes):
        watch.add(number, part)
    (one,) = watch.outliers(lambda number: asked.append(number) or episodes[number])
    assert (one.count, one.episodes) == (500, tuple(range(500)))
    assert asked == list(range(64))


def test_nothing_is_known_of_nothing():
    assert Watch(3).outliers(lambda number: None) == []


def test_it_says_what_is_far_outside_of_what():
    values = np.linspace(-1, 1, 240, dtype=np.float32)[:, None].copy()
    values[57] = 1000
    assert str(found(values)[0]) == "1 value is far outside the usual range, -1 to 1: 1000"
    values[58] = -20
    assert str(found(values)[0]) == "2 values are far outside the usual range, -1 to 1, as far as 1000"
