import subprocess
import sys
import types
from dataclasses import dataclass

import pytest

from videopolicy.cli import main as cli
from videopolicy.errors import UserError


@pytest.mark.parametrize("argv", [[], ["-h"], ["--help"]])
def test_the_overview_names_every_verb_with_its_purpose(argv, capsys):
    cli.main(argv)
    lines = capsys.readouterr().out.splitlines()
    for verb in cli.VERBS:
        (line,) = (line for line in lines if line.split()[:1] == [verb])
        assert len(line.split()) > 2, f"cli/{verb}.py has no docstring to show"


def test_the_overview_imports_no_torch():
    script = "import sys; from videopolicy.cli.main import main; main([]); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], capture_output=True).returncode == 0


@pytest.mark.parametrize("verb", cli.VERBS)
def test_every_verb_explains_itself(verb, capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main([verb, "--help"])
    assert exit.value.code == 0
    assert f"videopolicy {verb}" in capsys.readouterr().out


CHEAP = """
import sys
from videopolicy.cli.main import main
try:
    main(sys.argv[1:])
except SystemExit as ending:
    print(ending.code, [name for name in ("mujoco", "metaworld") if name in sys.modules])
"""


@pytest.mark.slow
@pytest.mark.metaworld
@pytest.mark.parametrize(
    "wrong", [("--workers", "1000000"), ("--episodes", "1000000000"), ("--timeout", "inf"), ("--out", "")]
)
def test_what_makes_no_sense_is_refused_before_a_simulator_is_so_much_as_imported(wrong, tmp_path):
    words = ["evaluate", "--policy", "random:4", "--task", "button-press-v3", "--out", str(tmp_path / "out"), *wrong]
    done = subprocess.run([sys.executable, "-c", CHEAP, *words], capture_output=True, encoding="utf-8")
    assert done.stdout == "2 []\n"
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_unknown_verb_is_one_line_and_exit_code_2(capsys):
    with pytest.raises(SystemExit) as exit:
        cli.main(["evaluat"])
    assert exit.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("videopolicy: no verb 'evaluat'; ")


@pytest.fixture
def failing_verb(monkeypatch):
    """Adds a verb `fail` that raises what it is told to."""

    def add(raised):
        @dataclass(frozen=True)
        class Command:
            def run(self):
                raise raised

        monkeypatch.setattr(cli, "VERBS", ("fail",))
        monkeypatch.setitem(sys.modules, "videopolicy.cli.fail", types.SimpleNamespace(Command=Command))

    return add


@pytest.mark.parametrize(
    ("raised", "code", "line"),
    [(UserError("no file 'x'"), 2, "videopolicy: no file 'x'"), (KeyboardInterrupt(), 130, "videopolicy: interrupted")],
)
def test_what_a_verb_raises_becomes_an_exit_code(raised, code, line, failing_verb, capsys):
    failing_verb(raised)
    with pytest.raises(SystemExit) as exit:
        cli.main(["fail"])
    assert exit.value.code == code
    assert capsys.readouterr().err.splitlines() == [line]


def test_a_bug_keeps_its_traceback(failing_verb):
    failing_verb(ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        cli.main(["fail"])
