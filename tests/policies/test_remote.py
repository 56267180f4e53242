"""Policies of servers: ours, which are those of this process to the bit, and others', which say little."""

import json
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace
from threading import Thread

import numpy as np
import pytest
from tests import processes
from tests.serving.serving import Drawn, running, service
from tests.small import observation, small_model
from websockets.sync.server import serve

from videopolicy.checkpoint import Provenance, save
from videopolicy.cli.main import main
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


def written(folder):
    """What an evaluation wrote: each episode's result but for the seconds, and its plans with what was executed."""
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    results = [{name: value for name, value in json.loads(line).items() if name != "seconds"} for line in lines]
    return results, {file.parent.name: file.read_bytes() for file in folder.glob("recordings/*/plans.json")}


@pytest.mark.slow
def test_an_evaluation_of_a_served_checkpoint_writes_what_one_in_this_process_does(tmp_path):
    save(small_model(), Provenance("joint", 1, ("reach-red",)), tmp_path / "checkpoint")
    # With one worker episodes end in their order; with a latency the server is told what is committed, too.
    settings = ["--env", "pointmass", "--task", "reach-red", "--episodes", "2", "--latency", "1"]
    played = ["evaluate", *settings, "--workers", "1", "--record", "2", "--out"]
    main([*played, str(tmp_path / "own"), "--checkpoint", str(tmp_path / "checkpoint")])
    command = (sys.executable, "-m", "videopolicy", "serve", tmp_path / "checkpoint", "--imagine", "--port", "0")
    with processes.running(*command, stdout=subprocess.PIPE) as server:
        url = processes.line_after(server, "serving ").rpartition(" ")[2]
        main([*played, str(tmp_path / "theirs"), "--policy", f"remote:{url}"])
    results, plans = written(tmp_path / "own")
    assert written(tmp_path / "theirs") == (results, plans)
    assert len(results) == len(plans) == 2


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


def test_another_policy_behind_the_same_address_is_not_taken_for_the_first():
    policy = CheckpointPolicy(small_model(), small_model().config.sampling)
    served = service(policy, style=style("native", policy.spec))
    with running(served) as port:
        remote = make(f"ws://127.0.0.1:{port}")
        assert remote.spec.identity == {"served checkpoint": "abc", "limited": "False"}
        remote.plan([observation()], [0], False)
    other = service(policy, style=style("native", policy.spec))
    other = replace(other, metadata={**other.metadata, "checkpoint": {"sha256": "def"}})
    with running(other, port=port), pytest.raises(UserError, match="another policy is served there now; begin again"):
        remote.plan([observation()], [0], False)
