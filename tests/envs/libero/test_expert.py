import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from videopolicy.envs import libero
from videopolicy.envs.libero.expert import plan
from videopolicy.envs.libero.hand import Hand, downward, pointing
from videopolicy.envs.libero.scene import Scene, heading, width
from videopolicy.envs.libero.skills import Carry, Pull, Turn
from videopolicy.errors import UserError

pytestmark = pytest.mark.libero


@pytest.fixture(scope="module")
def env():
    env = libero.make("open_the_top_drawer_and_put_the_bowl_inside", size=32)
    env.reset(seed=0)
    yield env
    env.close()


@pytest.fixture
def simulated(env):
    env.reset(seed=0)
    return env.simulator


def goals(simulated, monkeypatch, *goals):
    monkeypatch.setitem(simulated.parsed_problem, "goal_state", [goal.split() for goal in goals])
    return plan(simulated, "task")


@pytest.mark.parametrize("turn", [0.0, 0.3, 1.2, 2.5])
def test_the_heading_is_that_of_the_smallest_rectangle(turn):
    rectangle = np.array([[x, y, z] for x in (0, 0.1) for y in (0, 0.03) for z in (0, 1)])
    turned = Rotation.from_euler("z", turn).apply(rectangle)
    yaw = heading(turned)
    sides = sorted(width(turned, yaw + side) for side in (0, np.pi / 2))
    assert sides == pytest.approx([0.03, 0.1], abs=0.006)


def test_a_hand_points_and_closes_as_asked():
    approach, fingers = np.array([0.0, 0.6, -0.8]), np.array([1.0, 0.0, 0.0])
    attitude = pointing(approach, fingers)
    np.testing.assert_allclose(attitude.apply([0, 0, 1]), approach, atol=1e-9)
    np.testing.assert_allclose(attitude.apply([1, 0, 0]), fingers, atol=1e-9)
    np.testing.assert_allclose(downward(0.4).apply([0, 0, 1]), [0, 0, -1], atol=1e-9)


def test_half_a_turn_of_the_hand_is_none(simulated):
    hand = Hand(simulated)
    for yaw in (0.2, 1.0):
        np.testing.assert_allclose(hand.left(downward(yaw)), hand.left(downward(yaw + np.pi)), atol=1e-9)


def test_a_shut_drawer_is_opened_before_something_is_put_in(simulated):
    skills = plan(simulated, "task")
    assert [type(skill) for skill in skills] == [Pull, Carry]
    assert skills[0].goal == ["open", skills[1].target]


def test_what_shares_a_place_is_put_side_by_side(simulated, monkeypatch):
    one, other = goals(
        simulated, monkeypatch, "on plate_1 flat_stove_1_cook_region", "on akita_black_bowl_1 flat_stove_1_cook_region"
    )
    assert np.linalg.norm((one._place() - other._place())[:2]) > 0.05
    (alone,) = goals(simulated, monkeypatch, "on plate_1 flat_stove_1_cook_region")
    np.testing.assert_allclose(alone._place()[:2], (one._place() + other._place())[:2] / 2)


def test_turning_on_comes_first(simulated, monkeypatch):
    skills = goals(simulated, monkeypatch, "on plate_1 flat_stove_1_cook_region", "turnon flat_stove_1")
    assert [type(skill) for skill in skills] == [Turn, Carry]


@pytest.mark.parametrize(
    "goal", ["close wooden_cabinet_1_top_region", "on wooden_cabinet_1 main_table", "off flat_stove_1"]
)
def test_what_no_skill_does_is_refused(simulated, monkeypatch, goal):
    with pytest.raises(UserError, match=f"no expert for task: .* not {goal}"):
        goals(simulated, monkeypatch, goal)


def test_a_joint_opens_to_where_its_parts_then_are(simulated):
    scene = Scene(simulated)
    for name, amount in (("wooden_cabinet_1_top_region", -0.05), ("flat_stove_1", 0.1)):
        owner = simulated.object_sites_dict[name] if scene.is_region(name) else simulated.get_object(name)
        joint, before = scene.joint(name), np.concatenate(scene.parts(scene.joint(name).body))
        simulated.sim.data._data.joint(owner.joints[0]).qpos[:] += amount
        simulated.sim.forward()
        moved = np.concatenate(scene.parts(joint.body)) - before
        for place, step in zip(before, moved, strict=True):
            assert joint.motion(place) @ step == pytest.approx(np.linalg.norm(step), rel=0.05)


def test_the_knob_is_turned_and_the_drawer_drawn(env, monkeypatch):
    env.reset(seed=0)
    simulated = env.simulator
    for skill in goals(simulated, monkeypatch, "turnon flat_stove_1", "open wooden_cabinet_1_top_region"):
        assert not skill.done()
        actions = []
        for action in skill.play(skill.ways()[0]):
            env.step(action)
            actions.append(action)
        assert skill.done()
        assert np.abs(actions).max() <= 1
