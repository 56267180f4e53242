import asyncio
import base64
import hashlib
import io
import json
import re
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from threading import Event, Thread

import numpy as np
import pytest
from PIL import Image as Pictures
from tests.serving.serving import IMAGE, Talk, seen, service
from tests.serving.test_server import get
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException
from websockets.sync.client import connect

from videopolicy.errors import UserError
from videopolicy.policies.base import PlanRequest
from videopolicy.serving.engine import BusyError
from videopolicy.serving.limits import ActionLimits
from videopolicy.serving.listening import Listening
from videopolicy.serving.observations import Style
from videopolicy.serving.page.latest import EVENTS, SHOWN, Latest
from videopolicy.serving.page.rhythm import IDLE, Rhythm
from videopolicy.serving.page.server import READERS, LivePage
from videopolicy.serving.server import PolicyServer
from videopolicy.types import Observation

TOKEN = "s3cret"
HOSTILE = "<script>document.title = 'taken'</script><img src=x onerror=\"document.title = 'taken'\">"


@contextmanager
def both(served, **listening):
    """A server and its page at free ports, in a thread; yields both ports."""
    ready, state = Event(), {}

    async def main():
        state.update(loop=asyncio.get_running_loop(), stop=asyncio.Event())
        at = Listening(port=0, **listening)
        async with LivePage(served, served.latest, at, "run/checkpoint").open() as page:

            def told(port):
                state["ports"] = port, page
                ready.set()

            await PolicyServer(served, at).run(state["stop"], told)

    thread = Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield state["ports"]
    finally:
        state["loop"].call_soon_threadsafe(state["stop"].set)
        thread.join(60)
        served.engine.close()
        assert not thread.is_alive()


@pytest.fixture
def start():
    """Starts servers with pages; returns the ports."""
    with ExitStack() as stack:

        def started(policy, *, listening=None, **more):
            served = service(policy, latest=Latest(policy.spec.execute), **more)
            return stack.enter_context(both(served, **(listening or {})))

        yield started


class Reader:
    """What a browser's script does, no more."""

    def __init__(self, port, token="", **options):
        self.socket = connect(f"ws://127.0.0.1:{port}/", compression=None, max_size=None, **options)
        self.socket.send(token)
        self.about = json.loads(self.socket.recv(timeout=60))["about"]
        self.pictures, self.state = {}, None

    def next(self):
        message = json.loads(self.socket.recv(timeout=60))
        self.pictures |= message["pictures"]
        self.state = message["state"]
        return self.state

    def until(self, true):
        for _ in range(100):
            if true(self.next()):
                return self.state
        raise AssertionError(self.state)

    def picture(self, name):
        return np.asarray(Pictures.open(io.BytesIO(base64.b64decode(self.pictures[name]))))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def client_asked(times):
    return lambda state: state["clients"] and state["clients"][0]["requests"] >= times


def happened(kind):
    return lambda state: kind in [event["kind"] for event in state["events"]]


def rows(text, width):
    return np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, width)


def upgrade(headers):
    """The request for a websocket."""
    key = base64.b64encode(bytes(16)).decode()
    wanted = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": key}
    lines = ["GET / HTTP/1.1", *(f"{name}: {value}" for name, value in {**headers, **wanted}.items()), "", ""]
    return "\r\n".join(lines).encode()


def test_a_page_shows_what_a_client_sees_and_is_sent_while_it_acts(drawn, start):
    limits = ActionLimits((-0.5, -2.0), (0.5, 2.0))
    port, page = start(drawn, limits=limits)
    with Reader(page) as reader, Talk(port) as talk:
        assert reader.about["views"] == ["top"] and reader.about["low"] == [-0.5, -2.0]
        answers = [talk.ask(seen("open the <b>drawer</b>", seed=seed)) for seed in range(3)]
        client = reader.until(client_asked(3))["clients"][0]
        assert client["instruction"] == "open the <b>drawer</b>" and client["connected"]
        # JPEG keeps a picture but roughly, noise least of all.
        shown = reader.picture(client["seen"]["top"]).astype(float)
        assert shown.shape == IMAGE.shape and np.corrcoef(shown.ravel(), IMAGE.ravel())[0, 1] > 0.9
        # Each plan begins where the one before was executed to.
        assert [plan["step"] for plan in client["plans"]] == [0, 2, 4]
        for plan, answer in zip(client["plans"], answers, strict=True):
            np.testing.assert_array_equal(rows(plan["sent"], 2), answer["actions"])
            assert (np.abs(rows(plan["planned"], 2)) > 0.5)[:, 0].any()
        assert client["limited"] == sum(answer["limited"] for answer in answers) > 0
        waited, planned, total = rows(client["latencies"], 3).T
        assert len(total) == 3 and (waited >= 0).all() and (planned > 0).all() and (total >= waited + planned).all()
        talk.ask({"endpoint": "reset"})
        state = reader.until(happened("reset"))
        assert state["clients"][0]["plans"] == [] and state["counts"]["requests"] == 3
    assert "seed" not in json.dumps(reader.state)


def test_a_picture_is_sent_once_and_as_the_policy_sees_it(drawn, start):
    port, page = start(drawn)
    wide = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    with Reader(page) as reader, Talk(port) as talk:
        talk.ask({"top": wide, "instruction": "go"})
        name = reader.until(client_asked(1))["clients"][0]["seen"]["top"]
        assert reader.picture(name).shape == (32, 32, 3)
        reader.pictures.clear()
        assert reader.next()["clients"][0]["seen"]["top"] == name and not reader.pictures


def test_what_goes_wrong_is_an_event_and_what_repeats_is_one(drawn, start):
    port, page = start(drawn, max_age=1.0, listening={"token": TOKEN})
    keys = {"Authorization": f"Api-Key {TOKEN}"}
    with Reader(page, TOKEN) as reader:
        for _ in range(3):
            with pytest.raises(InvalidStatus):
                Talk(port)
        with Talk(port, additional_headers=keys) as talk:
            talk.ask(seen(timestamp=time.time() - 60))
            talk.ask(seen("break"))
        state = reader.until(happened("gone"))
    kinds = {event["kind"]: event for event in state["events"]}
    assert list(kinds) == ["refused", "connections", "old", "errors", "gone"]
    assert kinds["refused"]["times"] == 3 and kinds["errors"]["client"] == 0
    assert "secret of the inside" not in json.dumps(state)
    assert state["counts"]["refused"] == 3 and not state["clients"][0]["connected"]


def test_the_html_holds_nothing_and_may_run_nothing_but_its_own_script(drawn, start):
    port, page = start(drawn)
    with Talk(port) as talk:
        talk.ask(seen(HOSTILE))
    for path in ("/", "/?x=" + HOSTILE.replace(" ", "+")):
        done = subprocess.run(["curl", "-si", f"http://127.0.0.1:{page}{path}"], capture_output=True, check=True)
        head, _, body = done.stdout.decode().partition("\r\n\r\n")
        assert "200 OK" in head and "text/html; charset=utf-8" in head and "no-store" in head
        assert "taken" not in body and "reach" not in body
        policy = re.search("Content-Security-Policy: (.*)\r\n", head)[1]
        assert policy.startswith("default-src 'none';") and "unsafe" not in policy
        for tag in ("style", "script"):
            (text,) = re.findall(f"<{tag}>(.*?)</{tag}>", body, re.DOTALL)
            assert f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'" in policy
        assert not re.search(r'(src|href)="(?!data:)|innerHTML|insertAdjacent|document\.write|\beval\b', body)
    assert get(page, "/etc/passwd")[0] == 404


def test_without_the_token_nothing_of_clients_is_sent(drawn, start):
    port, page = start(drawn, listening={"token": TOKEN})
    with Talk(port, additional_headers={"Authorization": f"Bearer {TOKEN}"}) as talk:
        talk.ask(seen())
        for given in ("", "wrong", TOKEN.encode()):
            with connect(f"ws://127.0.0.1:{page}/", compression=None) as link:
                link.send(given)
                with pytest.raises(ConnectionClosed) as closed:
                    link.recv(timeout=60)
                assert closed.value.rcvd.code == 1008
        with Reader(page, TOKEN) as reader:
            assert reader.until(client_asked(1))["counts"]["refused"] == 3


def test_a_reader_that_says_nothing_is_sent_nothing_and_given_up(drawn, start):
    _, page = start(drawn, listening={"opening": 0.5})
    with connect(f"ws://127.0.0.1:{page}/") as link, pytest.raises(ConnectionClosed):
        link.recv(timeout=60)


@pytest.mark.parametrize(
    ("headers", "token", "status"),
    [
        ({"Host": "127.0.0.1:8001", "Origin": "http://127.0.0.1:8001"}, None, 101),
        ({"Host": "localhost:8001", "Origin": "http://localhost:8001"}, None, 101),
        ({"Host": "[::1]:8001"}, None, 101),
        ({"Host": "127.0.0.1:8001", "Origin": "http://evil.example"}, None, 403),
        ({"Host": "127.0.0.1:8001", "Origin": "http://127.0.0.1:8002"}, TOKEN, 403),
        # A name that its owner has made lead here; with a token that is of no use to him, and a robot may have a name.
        ({"Host": "evil.example:8001", "Origin": "http://evil.example:8001"}, None, 403),
        ({"Host": "robot.local:8001", "Origin": "http://robot.local:8001"}, TOKEN, 101),
        ({"Host": "[::1"}, None, 403),
    ],
)
def test_pages_of_others_get_no_connection(headers, token, status, drawn, start):
    _, page = start(drawn, listening={"token": token})
    with socket.create_connection(("127.0.0.1", page), timeout=60) as link:
        link.sendall(upgrade(headers))
        assert link.recv(100).startswith(f"HTTP/1.1 {status} ".encode())


def test_a_reader_that_reads_nothing_holds_neither_clients_nor_other_readers(drawn, start):
    views = ("one", "two", "three", "four")
    drawn.spec = replace(drawn.spec, size=256, views=views)
    port, page = start(drawn, style=Style({view: view for view in views}))
    noise, sent = np.random.default_rng(0), 0
    with socket.socket() as stuck, Reader(page) as reader, Talk(port) as talk:
        stuck.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        stuck.settimeout(60)
        stuck.connect(("127.0.0.1", page))
        # Then an empty text, which is the token that is not wanted.
        stuck.sendall(upgrade({"Host": f"127.0.0.1:{page}"}) + b"\x81\x80" + bytes(4))
        for number in range(12):
            images = {view: noise.integers(0, 256, (256, 256, 3), dtype=np.uint8) for view in views}
            assert "actions" in talk.ask({"instruction": "go", **images})
            reader.until(client_asked(number + 1))
            sent += sum(len(picture) for picture in reader.pictures.values())
            reader.pictures.clear()
        # It was sent less: what there is when it reads again, not all that it missed.
        stuck.settimeout(1.0)
        taken = 0
        with suppress(TimeoutError):
            while taken < sent and (part := stuck.recv(2**16)):
                taken += len(part)
                # Of what comes while it reads, the first is enough.
                stuck.settimeout(0.2)
        assert 0 < taken < sent


def test_clients_events_and_readers_are_bounded(drawn, start):
    latest = Latest(execute=2)
    for number in range(100):
        latest.connected(number, "here")
        latest.happened("errors", number, "x" * 10_000)
        if number % 2:
            latest.gone(number)
    assert len(latest.clients) == SHOWN and len(latest.events) == EVENTS
    assert max(len(event.words) for event in latest.events) <= 200
    # Those who are gone gave way first; for the last one, nobody has come yet.
    assert [number for number, client in latest.clients.items() if not client.connected] == [99]
    _, page = start(drawn)
    with ExitStack() as stack:
        readers = [stack.enter_context(Reader(page)) for _ in range(READERS)]
        with pytest.raises((WebSocketException, OSError)):
            connect(f"ws://127.0.0.1:{page}/", open_timeout=30)
        assert readers[0].next()


def test_the_plan_that_is_executed_is_imagined_when_no_client_needs_the_time(policy, start):
    port, page = start(policy, imagine=True, style=Style({"top": "top"}))
    scene = Observation({"top": IMAGE}, "reach the red disc")
    plan = policy.plan([scene], [7], True)[0]
    with Talk(port) as talk:
        answer = talk.ask({"top": IMAGE, "instruction": scene.instruction, "seed": 7})
        np.testing.assert_array_equal(answer["actions"], plan.actions)
        assert "imagined" not in answer
        with Reader(page) as reader:
            state = reader.until(lambda state: "imagined" in state["clients"][0])
        imagined = state["clients"][0]["imagined"]
        assert imagined["offsets"] == list(plan.offsets)
        shown = np.stack([reader.picture(name) for name in imagined["frames"]["top"]]).astype(float)
        assert np.abs(shown - plan.imagined["top"]).mean() < 12
        # It was no request of a client's.
        assert state["counts"]["requests"] == 1


def test_nothing_is_imagined_unless_somebody_looks(drawn, start):
    port, _ = start(drawn, imagine=True)
    with Talk(port) as talk:
        talk.ask(seen(seed=3))
        before = len(drawn.batches)
        time.sleep(1.5)
        assert len(drawn.batches) == before


def test_what_is_asked_aside_waits_for_clients_and_never_they_for_it(drawn):
    served = service(drawn, queue=1)
    request = PlanRequest(Observation({"top": IMAGE}, "reach"), 1, True)
    drawn.begun.clear()
    drawn.go.clear()
    first = served.engine.ask("client", request)
    assert drawn.begun.wait(30)
    assert served.engine.ask_aside(request) is None
    second = served.engine.ask("another", request)
    with pytest.raises(BusyError):
        served.engine.ask("third", request)
    drawn.go.set()
    first.result(30), second.result(30)
    deadline = time.monotonic() + 30
    while (aside := served.engine.ask_aside(request)) is None:
        assert time.monotonic() < deadline
    assert aside.result(30).plan.actions.shape == (4, 2)
    served.engine.close()
    assert served.engine.ask_aside(request) is None


def test_a_rhythm_tells_how_long_nobody_asks():
    now = [0.0]
    rhythm = Rhythm(lambda: now[0])
    assert rhythm.free() == np.inf
    rhythm.asked(1)
    assert rhythm.free() == 0
    for now[0] in (1.0, 1.5, 3.0):
        rhythm.asked(1)
    assert rhythm.free() == 0.5
    now[0] = 3.2
    assert rhythm.free() == pytest.approx(0.3)
    rhythm.asked(2)
    assert rhythm.free() == 0
    rhythm.forget(2)
    assert rhythm.free() == pytest.approx(0.3)
    now[0] += IDLE
    assert rhythm.free() == np.inf
    # Who pauses long is not idle in a pause.
    for now[0] in (100.0, 110.0, 118.0):
        rhythm.asked(3)
    now[0] += IDLE + 1
    assert rhythm.free() == pytest.approx(2.0)


def test_a_port_that_is_taken_is_said(drawn):
    with socket.create_server(("127.0.0.1", 0)) as taken, ThreadPoolExecutor(1) as pool:
        served = service(drawn, latest=Latest(2))

        async def opened():
            async with LivePage(served, served.latest, Listening(port=taken.getsockname()[1]), "x").open():
                pass

        with pytest.raises(UserError, match="try another --page or --host"):
            pool.submit(asyncio.run, opened()).result(60)
        served.engine.close()
