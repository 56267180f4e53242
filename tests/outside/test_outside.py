"""Another distribution brings plug-ins of seven kinds, and nothing here knows of them."""

import json
import re

import pytest
from tests.outside.installed import install, run

pytestmark = pytest.mark.slow

# Its plug-ins by the tests that judge them.
TRIED = {
    "test_backbones": "narrow",
    "test_envs": "corridor",
    "test_executors": "halfway",
    "test_models": "whole",
    "test_noise": "wide",
    "test_policies": "strolling",
    "test_presets": "narrow_tiny",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    return install(tmp_path_factory.mktemp("installed"))


def videopolicy(installed, *arguments):
    done = run(installed, "-m", "videopolicy", *map(str, arguments))
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(installed, call):
    """The one line that a call of the registry is refused with."""
    script = (
        "from videopolicy import errors, registry\n"
        f"try: registry.{call}\n"
        "except errors.UserError as error: print(error)"
    )
    done = run(installed, "-c", script)
    assert len(done.stdout.splitlines()) == 1, done.stderr
    return done.stdout


def test_its_names_are_found_and_nothing_is_imported(installed):
    script = (
        "import sys; from videopolicy import registry;"
        "print([name for kind in registry.KINDS for name in registry.names(kind)],"
        "[name for name in sys.modules if name.startswith('acme')])"
    )
    done = run(installed, "-c", script)
    assert all(repr(name) in done.stdout for name in TRIED.values())
    assert done.stdout.strip().endswith(" []")


def test_it_is_trained_saved_opened_and_evaluated_through_the_command_line(installed, tmp_path):
    data, run_folder = tmp_path / "data", tmp_path / "run"
    recording = ("--episodes", 2, "--views", "top", "--size", 32, "--steps", 12, "--workers", 1)
    videopolicy(installed, "record", "--env", "pointmass", "--task", "reach-red", "--out", data, *recording)
    learning = ("--preset", "narrow_tiny", "--noise", "wide", "--steps", 2)
    videopolicy(installed, "train", "--data", data, "--out", run_folder, *learning)
    config = (run_folder / "checkpoint" / "config.json").read_text(encoding="utf-8")
    model = json.loads(config)["model"]
    assert (
        '"noise/wide"' in config
        and model["backbone"]["plugin"] == "backbones/narrow"
        and model["backbone"]["head_channels"] == 32
    )
    playing = ("--env", "corridor", "--task", "leave-left", "--episodes", 2, "--workers", 1, "--executor", "halfway")
    for policy in (f"checkpoint:{run_folder / 'checkpoint'}", "strolling:0.5"):
        results = tmp_path / policy.partition(":")[0]
        said = videopolicy(installed, "evaluate", "--policy", policy, "--out", results, *playing)
        assert re.search(r"[012] */ *2|[012] of 2", said), said
        rows = [json.loads(line) for line in (results / "results.jsonl").read_text(encoding="utf-8").splitlines()]
        assert [row["task"] for row in rows] == ["leave-left"] * 2


def test_a_checkpoint_whose_plugin_is_not_installed_names_it(installed, tmp_path):
    script = (
        "import sys; from pathlib import Path; from tests.small import *; from acme_robots import narrow;"
        "from videopolicy import checkpoint;"
        "model = small_model(backbone=narrow.Config(attention=(False, True), id_width=8));"
        "checkpoint.save(model, checkpoint.Provenance('joint', 1), Path(sys.argv[1]));"
        "assert same(checkpoint.load(Path(sys.argv[1]))[0], model)"
    )
    done = run(installed, "-c", script, str(tmp_path / "saved"))
    assert done.returncode == 0, done.stderr
    done = run(
        tmp_path, "-m", "videopolicy", "evaluate", "--checkpoint", str(tmp_path / "saved"), "--task", "reach-red"
    )
    assert done.returncode == 2
    assert "config.json: model.backbone.plugin: no backbone 'narrow'; known: " in done.stderr


def test_a_model_that_cannot_be_told_into_parts_is_measured_as_a_whole(installed, tmp_path):
    script = (
        "import sys; from pathlib import Path; from tests.small import fitted; from acme_robots.whole import EXAMPLE;"
        "from videopolicy import checkpoint;"
        "checkpoint.save(fitted(EXAMPLE), checkpoint.Provenance('joint', 1), Path(sys.argv[1]))"
    )
    done = run(installed, "-c", script, str(tmp_path / "saved"))
    assert done.returncode == 0, done.stderr
    said = videopolicy(installed, "bench", "--checkpoint", tmp_path / "saved", "--repeats", 1)
    assert re.search(r"ms +encode +decode +other +whole", said), said


@pytest.mark.parametrize(("contract", "name"), TRIED.items())
def test_the_contract_tests_judge_it(installed, contract, name):
    only = ("-k", name, "-p", "no:cacheprovider", "-q", "-rA")
    done = run(installed, "-m", "pytest", f"tests/contracts/{contract}.py", *only)
    assert done.returncode == 0, done.stdout
    passed = re.findall(rf"^PASSED .*\b{name}\b", done.stdout, re.MULTILINE)
    skipped = re.findall(r"^SKIPPED .*", done.stdout, re.MULTILINE)
    # The model runs its whole network for every level, and says so.
    assert len(passed) >= 4 and all(name == "whole" and "it " in line for line in skipped), done.stdout


@pytest.mark.parametrize(
    ("points", "message"),
    [
        (
            {"backbones": "unet = acme_robots.narrow"},
            "the backbone 'unet' comes with two distributions, videopolicy and acme-robots; uninstall one of them",
        ),
        (
            {"backbones": "narrow = acme_robots.narrow:Config"},
            "'acme_robots.narrow:Config'; it takes the name of a module",
        ),
        (
            {"backbones": "narrow = acme_robots.nothing"},
            "acme_robots.nothing of the distribution acme-robots cannot be",
        ),
        ({"backbones": "narrow = acme_robots.corridor"}, "acme_robots.corridor .*acme-robots defines no Config, which"),
    ],
)
def test_a_wrong_entry_point_is_refused_with_its_distribution(tmp_path, points, message):
    install(tmp_path, **points)
    (name,) = (point.split()[0] for point in points.values())
    assert re.search(message, refusal(tmp_path, f"entry('backbones', '{name}')"))


def test_two_distributions_may_not_define_the_same_name(tmp_path):
    install(tmp_path, "acme-robots", envs="corridor = acme_robots.corridor")
    install(tmp_path, "other-robots", envs="corridor = acme_robots.corridor")
    said = refusal(tmp_path, "names('envs')")
    assert re.search("the env 'corridor' .* (acme|other)-robots and (other|acme)-robots; uninstall", said)
