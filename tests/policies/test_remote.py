"""Policies of servers: ours, which are those of this process to the bit, and others', which say little."""

from contextlib import contextmanager
from threading import Thread

import numpy as np
import pytest
from tests.serving.serving import Drawn, running, service
from tests.small import observation, small_model
from websockets.sync.server import serve

from videopolicy.client.wire import pack, unpack
from videopolicy.errors import UserError
from videopolicy.policies.checkpoint import CheckpointPolicy
from videopolicy.policies.remote import make
from videopolicy.serving.observations import style
from videopolicy.types import Observation


def test_a_checkpoint_behind_a_server_plans_the_same_bits_as_in_this_process():
    policy = CheckpointPolicy(small_model(), small_model().config.sampling)
    with running(service(policy, style=style("native", policy.spec))) as port:
        remote = make(f"ws://127.0.0.1:{port}")
        assert (remote.spec.views, remote.spec.size) == (policy.spec.views, policy.spec.size)
        assert (remote.spec.chunk, remote.spec.execute) == (policy.spec.chunk, policy.spec.execute)
        seen, seeds = [observation(seed=seed) for seed in range(3)], [5, 2**62, 7]
        for own, theirs in zip(policy.plan(seen, seeds, False), remote.plan(seen, seeds, False), strict=True):
            assert np.array_equal(own.actions, theirs.actions)


@contextmanager
def foreign(answer):
    """A server that speaks the bare protocol, and what it was asked."""
    asked = []

    def handle(socket):
        socket.send(pack({}))
        for message in socket:
            asked.append(unpack(message))
            socket.send(answer(len(asked)))

    with serve(handle, "127.0.0.1", 0, compression=None) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}", asked
        server.shutdown()


def test_a_server_that_says_nothing_is_sent_what_its_benchmark_knows():
    actions = np.linspace(-1, 1, 70, dtype=np.float64).reshape(10, 7)
    with foreign(lambda count: pack({"actions": actions})) as (url, asked):
        remote = make(url, style="libero")
        assert (remote.spec.chunk, remote.spec.execute, remote.spec.action_width) == (10, 5, 7)
        rng = np.random.default_rng(0)
        images = {view: rng.integers(0, 256, (256, 256, 3), dtype=np.uint8) for view in ("agentview", "eye_in_hand")}
        half = np.sqrt(0.5)
        state = np.array([1, 2, 3, 0, 0, half, half, 0.1, 0.2], np.float32)
        (plan,) = remote.plan([Observation(images, "pick it up", state)], [0], True)
    np.testing.assert_array_equal(plan.actions, actions.astype(np.float32))
    assert plan.imagined is None
    sent = asked[-1]
    assert sent["prompt"] == "pick it up"
    np.testing.assert_array_equal(sent["observation/wrist_image"], images["eye_in_hand"][:, ::-1])
    # A quarter of a turn about z, as an axis and an angle.
    np.testing.assert_allclose(sent["observation/state"], [1, 2, 3, 0, 0, np.pi / 2, 0.1, 0.2], atol=1e-6)


def test_a_server_that_says_nothing_and_no_style_is_refused():
    with foreign(lambda count: pack({})) as (url, _), pytest.raises(UserError, match="name it with --style libero"):
        make(url)


@pytest.mark.parametrize("answer", ["it broke", pack({"actions": np.zeros((2, 0))}), pack({"error": "busy"}), b"\x00"])
def test_no_answer_is_one_line(answer):
    with foreign(lambda count: answer) as (url, _), pytest.raises(UserError) as caught:
        make(url, style="libero")
    assert url in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_nobody_there_and_a_wrong_token():
    with pytest.raises(UserError, match=r"policy remote: http://x: .* no server's address"):
        make("http://x")
    with running(service(Drawn()), token="right") as port:
        with pytest.raises(UserError, match="wants another token"):
            make(f"ws://127.0.0.1:{port}", token="wrong")
        assert make(f"ws://127.0.0.1:{port}", token="right").spec.action_width == 2
