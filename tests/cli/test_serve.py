import json
import os
import signal
import subprocess
import sys
from threading import Thread
from urllib.request import urlopen

import numpy as np
import pytest
from tests.processes import line_after, running
from tests.serving.serving import Talk
from tests.small import observation, small_model
from websockets.sync.client import connect

from videopolicy.checkpoint import Provenance, save
from videopolicy.cli import main as cli
from videopolicy.policies.checkpoint import make


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "checkpoint"
    save(small_model(), Provenance("joint", steps=1), folder)
    return folder


def test_sigterm_lets_requests_in_flight_finish_and_the_end_is_a_success(checkpoint):
    command = ("-m", "videopolicy", "serve", checkpoint, "--port", "0", "--limits", "training")
    scene, policy = observation(2), make(checkpoint)
    expected = [policy.plan([scene], [seed], False)[0].actions for seed in range(3)]
    with running(sys.executable, *command, stdout=subprocess.PIPE) as process:
        line = line_after(process, "serving ")
        port = int(line.rpartition(":")[2])
        assert line == f"serving {checkpoint} at ws://127.0.0.1:{port}"
        with Talk(port) as talk, Talk(port) as other:
            assert talk.metadata["views"] == {"top": [32, 32]} and len(talk.metadata["checkpoint"]["sha256"]) == 64
            for seed in range(3):
                message = {"top": scene.images["top"], "instruction": scene.instruction, "seed": seed}
                answer = talk.ask(message)
                np.testing.assert_array_equal(answer["actions"], expected[seed])
                assert answer["limited"] == 0
            answers = []
            waiting = [Thread(target=lambda one=one: answers.append(one.receive())) for one in (talk, other)]
            for one in (talk, other):
                one.send(message)
            for thread in waiting:
                thread.start()
            # Both are in the server's hands once a third client, who came later, has been answered.
            with Talk(port) as third:
                third.ask(message)
            os.kill(process.pid, signal.SIGTERM)
            for thread in waiting:
                thread.join(60)
            assert [answer["seed"] for answer in answers] == [2, 2]
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()


def test_a_page_is_served_beside_and_ends_with_the_server(checkpoint):
    command = ("-m", "videopolicy", "serve", checkpoint, "--port", "0", "--page", "0", "--imagine")
    with running(sys.executable, *command, stdout=subprocess.PIPE) as process:
        line = line_after(process, "page at ")
        page = int(line.rpartition(":")[2])
        assert line == f"page at http://127.0.0.1:{page}"
        line_after(process, "serving ")
        with urlopen(line.split()[-1], timeout=60) as answer:
            assert b"<title>videopolicy" in answer.read()
        with connect(f"ws://127.0.0.1:{page}", max_size=None) as link:
            link.send("")
            assert json.loads(link.recv(timeout=60))["about"]["imagine"] is True
            os.kill(process.pid, signal.SIGTERM)
            assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--style", "liberto"), "no style 'liberto'; did you mean 'libero'"),
        (("--limits", "none.toml"), "none.toml: no such file"),
        (("--certificate", "a.pem"), "both --certificate and --key"),
        (("--certificate", "a.pem", "--key", "b.pem"), "--certificate a.pem: no such file"),
        (("--token", " a"), "without blanks"),
        (("--port", "70000"), "--port is 70000"),
        (("--page", "70000"), "--page is 70000"),
        (("--max-age", "0"), "--max-age is 0"),
        (("--host", "999.1.1.1"), "cannot listen at 999.1.1.1"),
        (("--batch", "0"), "--batch is 0"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(words, says, checkpoint, capsys):
    with pytest.raises(SystemExit) as ending:
        cli.main(["serve", str(checkpoint), *words])
    assert ending.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["serve", "drive"])
def test_help_needs_no_torch_and_no_websockets(verb):
    script = (
        f"import sys\nfrom videopolicy.cli.main import main\ntry:\n    main(['{verb}', '--help'])\n"
        "except SystemExit:\n    sys.exit('torch' in sys.modules or 'websockets' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, encoding="utf-8")
    assert done.returncode == 0, done.stderr
    assert f"Example: videopolicy {verb}" in " ".join(done.stdout.split())


def test_what_must_be_installed_is_said(checkpoint, monkeypatch, capsys):
    for name in [name for name in sys.modules if name.startswith("videopolicy.serving.server")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.split(".")[0] == "websockets"]:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(SystemExit):
        cli.main(["serve", str(checkpoint)])
    assert "pip install 'videopolicy[serve]'" in capsys.readouterr().err
