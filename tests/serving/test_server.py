import socket
import ssl
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from http.client import HTTPConnection
from threading import Thread

import numpy as np
import pytest
from tests.serving.serving import IMAGE, STYLE, Drawn, Talk, running, seen, service
from tests.small import observation
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from videopolicy.client.client import Client
from videopolicy.client.errors import ClientError, Refused, ServerError, TooOld
from videopolicy.policies.base import derive_seed
from videopolicy.policies.random import RandomPolicy
from videopolicy.serving.limits import ActionLimits
from videopolicy.serving.observations import Style
from videopolicy.types import Observation

TOKEN = "s3cret"


@pytest.fixture
def start():
    """Starts servers; returns the port."""
    with ExitStack() as stack:
        yield lambda served, **listening: stack.enter_context(running(served, **listening))


@pytest.fixture
def port(drawn, start):
    yield start(service(drawn))
    drawn.go.set()


def get(port, path, **headers):
    link = HTTPConnection("127.0.0.1", port, timeout=60)
    link.request("GET", path, headers=headers)
    answer = link.getresponse()
    text = answer.read().decode()
    link.close()
    return answer.status, text


def drawn_with(seed):
    return RandomPolicy.plan(Drawn(), [], [seed], False)[0].actions


def ended(talk, message):
    """The line that a wrong message is answered by; the connection is closed after it."""
    line = talk.ask(message)
    with pytest.raises(ConnectionClosed) as closed:
        talk.receive()
    assert closed.value.rcvd.code == 1011
    assert isinstance(line, str) and "\n" not in line and "Traceback" not in line
    return line


@pytest.mark.parametrize("batch", [1, 3])
def test_actions_are_those_of_the_policy_in_this_process_to_the_bit_alone_or_in_a_batch(policy, start, batch):
    port = start(service(policy, batch=batch, style=Style({"top": "top"})))
    scenes = [observation(seed) for seed in range(3)]
    expected = [policy.plan([scene], [40 + number], False)[0].actions for number, scene in enumerate(scenes)]

    def asked(number):
        scene, answers = scenes[number], []
        with Talk(port) as talk:
            for _ in range(3):
                message = {"top": scene.images["top"], "instruction": scene.instruction, "seed": 40 + number}
                answers.append(talk.ask(message)["actions"])
        return answers

    with ThreadPoolExecutor(3) as pool:
        for number, answers in enumerate(pool.map(asked, range(3))):
            for actions in answers:
                assert actions.dtype == np.float32
                np.testing.assert_array_equal(actions, expected[number])


def test_whoever_asks_is_sent_the_imagined_video_and_the_same_actions(policy, start):
    port = start(service(policy, style=Style({"top": "top"}), imagine=True))
    scene = observation(1)
    plan = policy.plan([scene], [7], True)[0]
    message = {"top": scene.images["top"], "instruction": scene.instruction, "seed": 7}
    with Talk(port) as talk:
        plain, imagined = talk.ask(message), talk.ask(message | {"imagine": True})
    assert "imagined" not in plain and imagined["offsets"] == list(plan.offsets)
    np.testing.assert_array_equal(imagined["imagined"]["top"], plan.imagined["top"])
    np.testing.assert_array_equal(imagined["actions"], plan.actions)
    np.testing.assert_array_equal(plain["actions"], plan.actions)


def test_images_of_any_size_are_fitted_as_in_training(policy, start):
    port = start(service(policy, style=Style({"top": "top"})))
    wide = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    expected = policy.plan([Observation({"top": wide}, "reach the red disc")], [1], False)[0].actions
    with Talk(port) as talk:
        answer = talk.ask({"top": wide, "instruction": "reach the red disc", "seed": 1})
    np.testing.assert_array_equal(answer["actions"], expected)


def test_our_own_client_understands_every_answer(drawn, start):
    port = start(service(drawn, max_age=5.0), token=TOKEN)
    with Client(f"ws://127.0.0.1:{port}", TOKEN) as client:
        assert client.extended and client.metadata["chunk"] == 4
        np.testing.assert_array_equal(client.infer(seen(seed=3))["actions"], drawn_with(3))
        client.reset()
        with pytest.raises(TooOld):
            client.infer(seen(timestamp=time.time() - 60))
        with pytest.raises(ServerError, match="'top' is missing"):
            client.infer({})
        assert "actions" in client.infer(seen())
    with pytest.raises(Refused):
        Client(f"ws://127.0.0.1:{port}", "wrong")


def test_tls(drawn, start, tmp_path):
    words = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    files = [tmp_path / "certificate.pem", tmp_path / "key.pem"]
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]]
    subprocess.run(["openssl", *words, *names], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    port = start(service(drawn), tls=context)
    trusting = ssl.create_default_context(cafile=files[0])
    with Client(f"wss://127.0.0.1:{port}", ssl=trusting) as client:
        assert client.infer(seen())["actions"].shape == (4, 2)
    with pytest.raises(ClientError):
        Client(f"ws://127.0.0.1:{port}", timeout=1.0)


def test_the_first_frame_says_what_the_policy_is(port):
    with Talk(port) as talk:
        told = talk.metadata
    assert told["views"] == {"top": [32, 32]} and told["keys"]["images"] == {"top": "top"}
    assert (told["action_width"], told["chunk"], told["execute"], told["state_width"]) == (2, 4, 2, 0)
    assert told["tasks"] == ["reach"] and told["checkpoint"] == {"sha256": "abc"}
    assert told["versions"]["protocol"] == 1


def test_an_answer_has_the_actions_and_what_it_took(port):
    with Talk(port) as talk:
        first, second = talk.ask(seen(seed=3)), talk.ask(seen(seed=3))
    assert first["actions"].shape == (4, 2) and first["seed"] == 3
    assert first["policy_timing"]["infer_ms"] >= 0 and "prev_total_ms" not in first["server_timing"]
    assert second["server_timing"]["prev_total_ms"] >= first["server_timing"]["infer_ms"] >= 0
    np.testing.assert_array_equal(first["actions"], drawn_with(3))


def test_without_a_seed_plans_can_be_drawn_again_by_the_number_of_connection_episode_and_request(port):
    with Talk(port) as talk, Talk(port) as other:
        asked = [talk.ask(seen()) for _ in range(2)]
        assert talk.ask({"endpoint": "reset"}) == {"reset": True}
        asked += [talk.ask(seen(endpoint="infer")), other.ask(seen())]
    places = [(0, 0, 0), (0, 0, 1), (0, 1, 0), (1, 0, 0)]
    assert [one["seed"] for one in asked] == [derive_seed("serve", 0, *place) for place in places]
    for one in asked:
        np.testing.assert_array_equal(one["actions"], drawn_with(one["seed"]))


@pytest.mark.parametrize(
    ("message", "says"),
    [
        (seen(top=IMAGE.astype(float)), "'top' is (32, 32, 3) float64; give an RGB image"),
        ({"instruction": "reach"}, "'top' is missing; the observation has instruction"),
        (seen(endpoint="exec"), "no endpoint 'exec'"),
        (seen(seed=-1), "'seed' is a whole number"),
        (seen(seed=True), "'seed' is a whole number"),
        (seen(planned=np.zeros((2, 3), np.float32)), "'planned' is (2, 3)"),
        (seen(planned=np.zeros((2, 2), np.float32), committed=3), "'committed' is a whole number from 0 to 2"),
        (seen(committed=1), "'planned', which is missing"),
        (seen(timestamp="now"), "'timestamp' is a number"),
        (seen(imagine=True), "--imagine"),
        (b"\xc1", "0xc1"),
        ("a text", "binary frame"),
        (seen("nan"), "the plan is not finite: action 1, dimension 0"),
        (seen("break"), "the server failed; its log says why"),
    ],
)
def test_what_is_wrong_is_answered_by_a_line_and_others_go_on(port, message, says, capsys):
    with Talk(port) as good, Talk(port) as bad:
        good.ask(seen())
        line = ended(bad, message)
        assert says in line and "secret" not in line
        assert "actions" in good.ask(seen())


def test_only_whoever_debugs_is_told_of_the_inside(drawn, start, capsys):
    with Talk(start(service(drawn), debug=True)) as talk:
        assert "secret of the inside" in ended(talk, seen("break"))


def test_a_full_queue_is_said_at_once_and_the_connection_stays(drawn, start):
    port = start(service(drawn, queue=1))
    with Talk(port) as planned, Talk(port) as waiting, Talk(port) as late:
        drawn.go.clear()
        drawn.begun.clear()
        planned.send(seen(seed=1))
        assert drawn.begun.wait(30)
        waiting.send(seen(seed=2))
        deadline = time.monotonic() + 30
        while (answer := late.ask(seen())).get("error") != "busy" and time.monotonic() < deadline:
            time.sleep(0.01)
        assert "actions" not in answer and "1 requests wait already" in answer["message"]
        # Neither do pings and health wait for plans.
        assert late.socket.ping().wait(30)
        assert get(port, "/healthz") == (200, "OK\n")
        drawn.go.set()
        for talk, seed in ((planned, 1), (waiting, 2)):
            np.testing.assert_array_equal(talk.receive()["actions"], drawn_with(seed))
        assert "actions" in late.ask(seen())
        assert "videopolicy_busy_total 1" in get(port, "/metrics")[1]


def test_an_old_observation_is_refused_and_the_connection_stays(drawn, start):
    port = start(service(drawn, max_age=5.0))
    with Talk(port) as talk:
        old = talk.ask(seen(timestamp=time.time() - 6))
        assert old["error"] == "old" and "5 s are allowed" in old["message"] and "actions" not in old
        assert "actions" in talk.ask(seen(timestamp=time.time()))
        assert "actions" in talk.ask(seen())
        assert "ahead of the server's clock" in ended(talk, seen(timestamp=time.time() + 60))


def test_actions_beyond_the_limits_are_clipped_and_counted(drawn, start):
    port = start(service(drawn, limits=ActionLimits((-0.1, -2.0), (0.1, 2.0))))
    with Talk(port) as talk:
        answer = talk.ask(seen(seed=3))
    free = drawn_with(3)
    np.testing.assert_array_equal(answer["actions"], np.column_stack([free[:, 0].clip(-0.1, 0.1), free[:, 1]]))
    count = int((np.abs(free[:, 0]) > 0.1).sum())
    assert answer["limited"] == count > 0
    assert f"videopolicy_limited_total {count}" in get(port, "/metrics")[1]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Api-Key wrong"},
        {"Authorization": TOKEN},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Api-Key s3cr\xe9t"},
        {"Authorization": "Api-Key"},
    ],
)
def test_without_the_token_nothing_is_answered_but_the_refusal(drawn, start, headers):
    port = start(service(drawn), token=TOKEN)
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{port}", additional_headers=headers)
    assert refused.value.response.status_code == 401
    assert get(port, "/metrics", **headers) == get(port, "/else", **headers) == (401, "a token is needed\n")
    assert get(port, "/healthz") == (200, "OK\n")


@pytest.mark.parametrize("scheme", ["Api-Key", "Bearer"])
def test_with_the_token_all_is_as_without_one(drawn, start, scheme):
    port, headers = start(service(drawn), token=TOKEN), {"Authorization": f"{scheme} {TOKEN}"}
    with Talk(port, additional_headers=headers) as talk:
        assert "actions" in talk.ask(seen())
    assert get(port, "/metrics", **headers)[0] == 200


def test_metrics_count_what_happened(port):
    with Talk(port) as talk:
        for _ in range(3):
            talk.ask(seen())
        ended(talk, b"")
    status, text = get(port, "/metrics")
    assert status == 200
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert values["videopolicy_requests_total"] == "3" and values["videopolicy_errors_total"] == "1"
    assert values["videopolicy_connections_total"] == "1" and values["videopolicy_queue"] == "0"
    assert values["videopolicy_request_seconds_count"] == "3"
    assert float(values['videopolicy_request_seconds{quantile="0.99"}']) > 0
    assert get(port, "/else")[0] == 404


def test_no_page_in_a_browser_can_move_the_robot(port):
    with pytest.raises(InvalidStatus) as refused:
        connect(f"ws://127.0.0.1:{port}", origin="http://example.com")
    assert refused.value.response.status_code == 403


def test_one_client_too_many_is_refused_until_another_goes(drawn, start):
    port = start(service(drawn), max_clients=2)
    with Talk(port):
        with Talk(port):
            with pytest.raises(InvalidStatus) as refused:
                Talk(port)
            assert refused.value.response.status_code == 503
        deadline = time.monotonic() + 30
        while "videopolicy_clients 1" not in get(port, "/metrics")[1]:
            assert time.monotonic() < deadline
        with Talk(port) as talk:
            assert "actions" in talk.ask(seen())


def test_a_greedy_client_gets_no_more_than_its_turn(drawn, start):
    port = start(service(drawn))
    with Talk(port) as greedy, Talk(port) as modest:
        drawn.go.clear()
        drawn.batches.clear()
        for seed in range(10, 20):
            greedy.send(seen(seed=seed))
        assert drawn.begun.wait(30)
        modest.send(seen(seed=1))
        # Both of its requests that the server may hold are there before it goes on.
        time.sleep(0.5)
        drawn.go.set()
        modest.receive()
        for _ in range(10):
            greedy.receive()
    asked = [seeds[0] for seeds in drawn.batches]
    assert asked.index(1) <= 2 and asked[-1] == 19


def test_the_state_reaches_the_policy(drawn, start):
    told = []
    plan = drawn.plan
    drawn.plan = lambda observations, seeds, imagine: told.extend(observations) or plan(observations, seeds, imagine)
    port = start(service(drawn, state_width=3, style=replace(STYLE)))
    planned = np.ones((5, 2), np.float32)
    with Talk(port) as talk:
        talk.ask(seen(state=np.array([1, 2, 3]), planned=planned, committed=2))
    assert told[-1].state.tolist() == [1, 2, 3] and told[-1].committed == 2
    np.testing.assert_array_equal(told[-1].planned, planned)


def test_when_it_stops_those_in_flight_are_answered_and_the_others_told(drawn):
    served = service(drawn)
    with ExitStack() as stack:
        port = stack.enter_context(running(served))
        with Talk(port) as busy, Talk(port) as idle:
            drawn.go.clear()
            drawn.begun.clear()
            busy.send(seen(seed=5))
            assert drawn.begun.wait(30)
            stopping = Thread(target=stack.close)
            stopping.start()
            with pytest.raises(ConnectionClosed) as closed:
                idle.receive()
            assert closed.value.rcvd.code == 1001
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.1", port), 5)
            drawn.go.set()
            np.testing.assert_array_equal(busy.receive()["actions"], drawn_with(5))
            stopping.join(60)
            assert not stopping.is_alive()
