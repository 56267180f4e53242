"""What a run says of itself, and what one that is gone on with is held to; whole runs: tests/cli/test_train.py."""

import json
from dataclasses import replace

import pytest
from tests.small import MODEL, TRAINING, write_data

from videopolicy.clips.statistics import Statistics
from videopolicy.configs import from_json, to_json
from videopolicy.datasets.mixture import open_sources
from videopolicy.diffusion.noise import joint, pinned
from videopolicy.errors import UserError
from videopolicy.training.prepare import suited
from videopolicy.training.run import RunSettings, train
from videopolicy.training.stages import ATTACHED, JOINT

# Settings that are right are gone on with from the state, which is an empty folder here.
GOES_ON = "every state is damaged"


@pytest.fixture
def data(tmp_path):
    return write_data(tmp_path / "dots", episodes=2)


@pytest.fixture
def out(tmp_path, data):
    """A run that was begun with MODEL and TRAINING, as far as it is looked at before it goes on."""
    (source,), model = suited(open_sources([data]), MODEL, TRAINING, None)
    settings = RunSettings("", ((source.dataset.fingerprint, None),), "None", model, TRAINING)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text(json.dumps(to_json(settings)), encoding="utf-8")
    return tmp_path / "run"


def go_on(data, out, model=MODEL, training=TRAINING):
    (out / "state" / "step-000002").mkdir(parents=True, exist_ok=True)
    train(data, model, training, out, resume=True)


def test_the_settings_of_a_run_survive_json_text(out):
    told = json.loads((out / "config.json").read_text(encoding="utf-8"))
    assert to_json(from_json(RunSettings, told)) == told


def test_the_same_settings_go_on_and_others_are_named(data, out):
    for same in (TRAINING, replace(TRAINING, steps=99, log_every=7)):
        with pytest.raises(UserError, match=GOES_ON):
            go_on(data, out, training=same)
    with pytest.raises(UserError, match="the run was begun with another lr, seed; --resume needs the same settings"):
        go_on(data, out, training=replace(TRAINING, lr=0.5, seed=9))
    with pytest.raises(UserError, match="the run was begun with another model;"):
        go_on(data, out, model=replace(MODEL, execute=1))


@pytest.mark.parametrize(("stage", "detach"), [(JOINT, True), (ATTACHED, False)])
def test_a_run_goes_on_whose_stage_told_whether_features_are_detached(data, out, stage, detach):
    path, training = out / "config.json", replace(TRAINING, stage=stage)
    told = json.loads(path.read_text(encoding="utf-8"))
    told["training"] = to_json(training)
    del told["training"]["stage"]["through"]
    told["training"]["stage"]["detach"] = detach
    path.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(UserError, match=GOES_ON):
        go_on(data, out, training=training)
    with pytest.raises(UserError, match="begun with another stage;"):
        go_on(data, out, training=replace(training, stage=replace(stage, through=0.5)))


def test_a_setting_that_the_run_did_not_know_yet_had_its_default(data, out):
    told = json.loads((out / "config.json").read_text(encoding="utf-8"))
    del told["training"]["decay"], told["model"]["relative"]
    (out / "config.json").write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(UserError, match=GOES_ON):
        go_on(data, out)
    with pytest.raises(UserError, match="begun with another decay"):
        go_on(data, out, training=replace(TRAINING, decay=not TRAINING.decay))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"training": 3}, "training is 3; it takes a map of its fields"),
        ({"training": {"steps": "two"}}, 'training.steps is "two"; it takes a whole number'),
        ({"training": {"steps": 0}}, "training.steps is 0; it must be from 1"),
        ({"training": {"stpes": 1}}, "training: no field 'stpes'; did you mean 'steps'"),
        ({"model": []}, r"model is \[\]; it takes a map such as"),
        ({"model": {"plugin": "models/video_action", "size": -3}}, "model.size is -3; it must be from 1"),
        ({"data": [["a"]]}, r'data\[0\] is \["a"\]; it takes a list of 2 values'),
        ({"zzz": 1}, "no field 'zzz'"),
    ],
)
def test_wrong_settings_are_refused_by_file_and_path(data, out, change, message):
    told = json.loads((out / "config.json").read_text(encoding="utf-8"))
    (out / "config.json").write_text(json.dumps({**told, **change}), encoding="utf-8")
    with pytest.raises(UserError, match=rf"run/config\.json: {message}") as refusal:
        go_on(data, out)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("text", ["[]", "3", "null", "{}", "{", ""])
def test_what_holds_no_settings_is_refused_in_one_line(data, out, text):
    (out / "config.json").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=r"run(/|: )config\.json") as refusal:
        go_on(data, out)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(("law", "said"), [(joint.Config(), True), (pinned.Config(), False)])
def test_a_law_that_does_not_cover_the_models_own_sampler_is_noted(data, tmp_path, capsys, law, said):
    model = replace(MODEL, sampling=replace(MODEL.sampling, sampler="one_pass", steps=3))
    train(data, model, replace(TRAINING, steps=1, noise=law), tmp_path / "new")
    assert ("note: noise law 'joint' never shows the head" in capsys.readouterr().out) == said


def rates(run):
    """Step -> learning rate, as the log has them."""
    lines = [json.loads(line) for line in (run / "losses.jsonl").read_text(encoding="utf-8").splitlines()]
    return {line["step"]: line["lr"] for line in lines}


@pytest.mark.slow
def test_more_steps_draw_the_schedule_out_and_a_line_says_so(data, tmp_path, capsys):
    recipe = replace(TRAINING, steps=2, warmup=0, lr=4e-4, head_lr=4e-4)
    train(data, MODEL, recipe, tmp_path / "run")
    assert "learning rate" not in capsys.readouterr().out
    train(data, MODEL, recipe, tmp_path / "run", resume=True)
    assert "learning rate" not in capsys.readouterr().out
    train(data, MODEL, replace(recipe, steps=4), tmp_path / "run", resume=True)
    line = (
        "resumed with --steps 4 instead of 2: the learning rate goes from 0 to 0.0002 (50% of its peak), as its decay "
    )
    assert line in capsys.readouterr().out
    # Of two steps the first has the whole peak and the second half of it; of four, the third half and the fourth 15 %.
    assert rates(tmp_path / "run") == pytest.approx({1: 4e-4, 2: 2e-4, 3: 2e-4, 4: 4e-4 * 0.146447}, rel=1e-5)


@pytest.mark.slow
def test_where_the_rate_stays_more_steps_change_nothing(data, tmp_path, capsys):
    recipe = replace(TRAINING, steps=1, warmup=0, decay=False)
    train(data, MODEL, recipe, tmp_path / "run")
    train(data, MODEL, replace(recipe, steps=2), tmp_path / "run", resume=True)
    assert "learning rate" not in capsys.readouterr().out
    assert rates(tmp_path / "run") == {1: recipe.lr, 2: recipe.lr}


def statistics(run):
    return Statistics.from_json((run / "checkpoint" / "statistics.json").read_text(encoding="utf-8")).actions


def test_a_run_by_quantiles_says_so_and_is_gone_on_with_by_them_alone(data, tmp_path, capsys):
    out, training = tmp_path / "new", replace(TRAINING, steps=1, normalize="quantile")
    train(data, MODEL, training, out)
    assert "actions are clipped to their 1% and 99% quantiles" in capsys.readouterr().out
    assert json.loads((out / "config.json").read_text(encoding="utf-8"))["training"]["normalize"] == "quantile"
    found = statistics(out)
    assert found.method == "quantile"
    train(data, MODEL, replace(training, steps=2), out, resume=True)
    assert statistics(out) == found
    with pytest.raises(UserError, match="begun with another normalize"):
        train(data, MODEL, replace(training, steps=2, normalize="minmax"), out, resume=True)


def test_a_head_that_goes_on_learning_keeps_how_its_actions_were_normalised(data, tmp_path):
    by_quantiles, by_ends = tmp_path / "quantiles", tmp_path / "ends"
    training = replace(TRAINING, steps=1)
    train(data, MODEL, replace(training, normalize="quantile"), by_quantiles)
    train(data, None, training, tmp_path / "on", init=by_quantiles / "checkpoint")
    assert statistics(tmp_path / "on") == statistics(by_quantiles)
    assert (
        json.loads((tmp_path / "on" / "config.json").read_text(encoding="utf-8"))["training"]["normalize"] == "quantile"
    )
    train(data, MODEL, training, by_ends)
    with pytest.raises(UserError, match="its head learnt actions that were normalised by minmax"):
        train(data, None, replace(training, normalize="quantile"), tmp_path / "no", init=by_ends / "checkpoint")
