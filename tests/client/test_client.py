"""The client against servers that do as they should, and against those that do not."""

import socket
import threading
from time import monotonic, sleep

import msgpack
import numpy as np
import pytest
from tests.client.servers import METADATA, Running, array, behave, running, zeros

from videopolicy.client import (
    BadReply,
    Busy,
    Client,
    ClientError,
    ConnectionLost,
    Refused,
    ServerError,
    TimedOut,
    TooOld,
    WireError,
)

OBSERVATION = {"observation/image": np.zeros((4, 4, 3), np.uint8), "prompt": "go"}
# What a call may take beyond its own bound, on a machine that does much else.
SLACK = 2.0


def asked(reply: bytes | str | None, **options: object) -> dict:
    """What the client makes of one reply."""
    with running(behave(lambda _: reply)) as server, Client(server.url, **options) as client:
        return client.infer(OBSERVATION)


def test_a_reply_has_actions_and_what_else_the_server_says():
    heard = []
    reply = msgpack.packb(
        {"actions": array([2, 3], np.arange(6, dtype=">f8").tobytes(), ">f8"), "server_timing": {"a": 1}}
    )
    with running(behave(lambda message: heard.append(message) or reply)) as server, Client(server.url) as client:
        assert client.metadata["chunk"] == METADATA["chunk"]
        answer = client.infer(OBSERVATION)
    assert answer["actions"].dtype == np.float32 and answer["actions"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert answer["actions"].flags.writeable
    assert answer["server_timing"] == {"a": 1}
    assert heard[0]["prompt"] == "go"
    assert heard[0]["observation/image"] == array([4, 4, 3], bytes(48), "|u1")


def test_the_token_goes_where_openpi_has_it():
    with running(behave(lambda _: zeros()), token="secret") as server:
        with Client(server.url, token="secret") as client:
            client.infer(OBSERVATION)
        assert server.headers == ["Api-Key secret"]
        for token in ("wrong", None):
            began = monotonic()
            with pytest.raises(Refused, match="token"):
                Client(server.url, token=token, timeout=30)
            assert monotonic() - began < 10


@pytest.mark.parametrize("token", ["", "a\r\nHost: b", "é"])
def test_a_token_that_no_header_carries_is_refused(token):
    with pytest.raises(ValueError, match="token"):
        Client("ws://127.0.0.1:1", token=token)


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "http://127.0.0.1", "ws://", ""])
def test_what_is_no_address_is_refused(url):
    with pytest.raises(ValueError, match="address"):
        Client(url, timeout=1)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        ("Traceback: it broke", ServerError),
        (b"\xc1garbage", BadReply),
        (b"", BadReply),
        (msgpack.packb([1, 2]), BadReply),
        (msgpack.packb({"no": "actions"}), BadReply),
        (msgpack.packb({"actions": [[1.0, 2.0]]}), BadReply),
        (msgpack.packb({"actions": array([2], bytes(8))}), BadReply),
        (msgpack.packb({"actions": array([0, 2], b"")}), BadReply),
        (msgpack.packb({"actions": array([1, 1], np.float32(np.nan).tobytes())}), BadReply),
        (msgpack.packb({"actions": array([1, 1], np.float64(1e300).tobytes(), "<f8")}), BadReply),
        (msgpack.packb({"error": "busy", "message": "8 wait"}), Busy),
        (msgpack.packb({"error": "old", "message": "2 s"}), TooOld),
        (msgpack.packb({"error": "other"}), ServerError),
        (None, ConnectionLost),
    ],
)
def test_what_is_no_answer_is_an_error_of_its_kind(reply, error):
    with pytest.raises(error):
        asked(reply)


def test_the_servers_text_is_told():
    with pytest.raises(ServerError, match="it broke"):
        asked("it broke")


def test_a_reply_beyond_the_limit_is_not_read():
    with pytest.raises(ConnectionLost, match=r"1009|big"):
        asked(zeros(1000, 1000), max_size=10_000)


def test_a_refusal_keeps_the_connection_and_an_error_gives_it_up():
    replies = [msgpack.packb({"error": "busy"}), zeros(), "broken", zeros()]
    greeted = []

    def talk(connection):
        greeted.append(1)
        behave(lambda _: replies.pop(0))(connection)

    with running(talk) as server, Client(server.url) as client:
        with pytest.raises(Busy):
            client.infer(OBSERVATION)
        client.infer(OBSERVATION)
        assert len(greeted) == 1
        with pytest.raises(ServerError):
            client.infer(OBSERVATION)
        client.infer(OBSERVATION)
        assert len(greeted) == 2


def test_an_observation_that_cannot_be_sent_costs_no_connection():
    with running(behave(lambda _: zeros())) as server, Client(server.url) as client:
        with pytest.raises(WireError):
            client.infer({"image": object()})
        client.infer(OBSERVATION)
        assert len(server.headers) == 1


def test_a_late_answer_is_not_taken_for_the_next_one():
    waits = [0.6, 0.0]

    def answer(message):
        sleep(waits.pop(0))
        return msgpack.packb({"actions": array([1, 1], np.float32(message["number"]).tobytes())})

    with running(behave(answer)) as server, Client(server.url) as client:
        began = monotonic()
        with pytest.raises(TimedOut):
            client.infer({"number": 1}, timeout=0.2)
        assert 0.2 <= monotonic() - began < 0.2 + SLACK
        assert client.infer({"number": 2})["actions"] == 2


def test_a_server_that_does_not_read_does_not_hold_the_client():
    """The message is longer than what the operating system buffers, so that sending it blocks."""
    done = threading.Event()

    def deaf(connection):
        connection.send(msgpack.packb({}))
        # Only a closed window blocks the other side: nothing is taken from the socket any more.
        connection.recv_flow_control.acquire()
        done.wait(20)
        connection.recv_flow_control.release()

    with running(deaf) as server, Client(server.url) as client:
        began = monotonic()
        with pytest.raises(TimedOut):
            client.infer({"image": np.zeros(48 << 20, np.uint8)}, timeout=1)
        assert monotonic() - began < 1 + SLACK
        done.set()


def silent(connection):
    sleep(1)


@pytest.mark.parametrize(
    ("greeting", "error"),
    [
        (silent, TimedOut),
        (lambda connection: connection.send("no seats"), ServerError),
        (lambda connection: connection.send(b"\xc1"), BadReply),
        (lambda connection: connection.send(msgpack.packb(1)), BadReply),
        (lambda connection: None, ConnectionLost),
    ],
)
def test_a_server_that_greets_wrongly(greeting, error):
    # Those that answer are asked again until the time is up; a busy machine's last attempt needs more of it.
    timeout = 0.5 if error is TimedOut else 3
    with running(greeting) as server:
        began = monotonic()
        with pytest.raises(error):
            Client(server.url, timeout=timeout)
        assert monotonic() - began < timeout + SLACK


def test_what_is_no_websocket_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak():
            try:
                while True:
                    connection, _ = listener.accept()
                    connection.sendall(b"220 mail.example ESMTP\r\n")
                    connection.close()
            except OSError:
                return

        threading.Thread(target=speak, daemon=True).start()
        with pytest.raises(ClientError):
            Client(f"ws://127.0.0.1:{listener.getsockname()[1]}", timeout=0.5)
        listener.shutdown(socket.SHUT_RDWR)


def test_nobody_there_is_told_within_the_bound():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    began = monotonic()
    with pytest.raises(ConnectionLost, match="reached"):
        Client(f"ws://127.0.0.1:{port}", timeout=0.5)
    assert monotonic() - began < 0.5 + SLACK


def test_a_server_that_starts_later_is_waited_for():
    server = Running(behave(lambda _: zeros()))
    server.kill()
    timer = threading.Timer(0.5, server.start)
    timer.start()
    with Client(server.url, timeout=20) as client:
        client.infer(OBSERVATION)
    server.kill()


def test_a_killed_server_is_found_again():
    server = Running(behave(lambda _: zeros()))
    with Client(server.url) as client:
        client.infer(OBSERVATION)
        server.kill()
        began = monotonic()
        for _ in range(20):
            with pytest.raises((ConnectionLost, TimedOut)):
                client.infer(OBSERVATION, timeout=0.02)
        assert monotonic() - began < 20 * 0.02 + SLACK
        server.start()
        client.infer(OBSERVATION, timeout=20)
    server.kill()


def test_reset_is_said_only_to_those_who_know_it():
    for metadata, expected in ((METADATA, [{"endpoint": "reset"}]), ({}, [])):
        heard = []
        answer = behave(lambda message, heard=heard: heard.append(message) or msgpack.packb({"reset": True}), metadata)
        with running(answer) as server, Client(server.url) as client:
            client.reset()
        assert heard == expected


def test_closing_ends_a_call_that_waits_and_may_be_done_twice():
    arrived = threading.Event()

    def answer(_):
        arrived.set()
        sleep(2)

    with running(behave(answer)) as server:
        client = Client(server.url, timeout=60)
        caught = []

        def call():
            try:
                client.infer(OBSERVATION)
            except ClientError as error:
                caught.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        assert arrived.wait(20)
        client.close()
        thread.join(10)
        client.close()
        assert isinstance(caught[0], ConnectionLost)
        with pytest.raises(ConnectionLost, match="closed"):
            client.infer(OBSERVATION)


def test_calls_of_several_threads_get_their_own_answers():
    def answer(message):
        return msgpack.packb({"actions": array([1, 1], np.float32(message["number"]).tobytes())})

    with running(behave(answer)) as server, Client(server.url, timeout=60) as client:
        wrong = []

        def ask(number):
            for _ in range(20):
                if client.infer({"number": number})["actions"] != number:
                    wrong.append(number)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
