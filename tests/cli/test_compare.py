import json
from dataclasses import asdict

import pytest

from videopolicy.cli.main import main
from videopolicy.rollout.results import Result


@pytest.fixture
def evaluate(tmp_path):
    """Writes an evaluation as `videopolicy evaluate` does."""

    def write(name, outcomes, env="metaworld", first_seed=0, **settings):
        folder = tmp_path / name / "evaluation"
        folder.mkdir(parents=True)
        (folder / "settings.json").write_text(
            json.dumps({"env": env, "tasks": ["press"], **settings}), encoding="utf-8"
        )
        rows = [Result("press", i, first_seed + i, won, 9, 1.0, 2, False) for i, won in enumerate(outcomes)]
        (folder / "results.jsonl").write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows), encoding="utf-8")
        return str(tmp_path / name)

    return write


def refused(capsys, *runs):
    with pytest.raises(SystemExit) as ending:
        main(["compare", *runs])
    assert ending.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_says_whether_the_difference_is_real(evaluate, capsys):
    main(["compare", evaluate("a", [False] * 12 + [True] * 8), evaluate("b", [True] * 20)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[:3] == ["press", "8/20", "20/20"]
    assert lines[-1].startswith("the second is better: +60 points")


def test_episodes_without_a_partner_are_told(evaluate, capsys):
    main(["compare", evaluate("a", [True] * 5) + "/evaluation", evaluate("b", [True] * 8)])
    assert "note: 3 episodes of the second have no partner" in capsys.readouterr().out


def test_another_protocol_is_told(evaluate, capsys):
    main(["compare", evaluate("a", [True], protocol_sha256="1"), evaluate("b", [True], protocol_sha256="2")])
    assert "not evaluated by the same protocol" in capsys.readouterr().out
    main(["compare", evaluate("c", [True], protocol_sha256="1"), evaluate("d", [True], protocol_sha256="1")])
    assert "protocol" not in capsys.readouterr().out


def test_what_cannot_be_compared_is_refused(evaluate, tmp_path, capsys):
    one = evaluate("a", [True])
    assert "no episode in common" in refused(capsys, one, evaluate("b", [True], first_seed=5))
    assert "env 'metaworld'" in refused(capsys, one, evaluate("c", [True], env="libero"))
    assert "holds no evaluation" in refused(capsys, one, str(tmp_path / "nowhere"))
    assert "no episode has ended" in refused(capsys, one, evaluate("d", []))
