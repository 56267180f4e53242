"""What holds a robot, by what its actions mean; the loop itself is tested with the verb `drive`."""

import numpy as np
import pytest

from videopolicy.rollout.driving import safe_action

AGAIN = np.nan


@pytest.mark.parametrize(
    ("layout", "width", "safe"),
    [
        ("", 2, [AGAIN, AGAIN]),
        ("delta_position gripper[-1,1]", 4, [0, 0, 0, AGAIN]),
        ("position axis_angle gripper:1", 7, [AGAIN] * 7),
        ("delta_joints:2 gripper:1", 3, [0, 0, AGAIN]),
        ("delta_position delta_rotation_6d", 9, [0, 0, 0, 1, 0, 0, 0, 1, 0]),
        ("delta_quaternion relative_position", 7, [0, 0, 0, 1, AGAIN, AGAIN, AGAIN]),
    ],
)
def test_movements_end_and_positions_stay(layout, width, safe):
    np.testing.assert_allclose(safe_action(layout, width), safe, atol=1e-6)
