"""Files that the first edition wrote, brought to what is read now. Only old file formats are known here."""

from typing import Any

# Names in old files -> their names since.
_MODEL = {"action_space": "action_layout", "state_space": "state_layout"}
_DATASET = {f"videopolicy/{old}": f"videopolicy/{new}" for old, new in _MODEL.items()}
_SKIPPED, _NOTES = "videopolicy/skipped", "videopolicy/notes"
_ENDINGS = {"nan from the world": "nan from the env"}
# What an old settings.json says beside the env, the checkpoint and how the policy samples.
_EVALUATION = ("tasks", "episodes", "execute", "seed", "record", "checkpoint_sha256", "protocol", "protocol_sha256")
# A run's log -> what it was called.
OLD_LOGS = {"validation": "held_out", "throughput": "speed"}


def upgrade_checkpoint(description: dict[str, Any]) -> dict[str, Any]:
    """The content of a checkpoint's config.json as format 2 has it; what is no format 1 stays as it is.

    Format 1 knew one model, and one law of noise levels: the same for video and actions.
    """
    if not isinstance(description, dict) or description.get("format") != 1:
        return description
    model = {_MODEL.get(name, name): value for name, value in description["model"].items()}
    if model["text"].get("plugin") == "text/words":
        model["text"] = {**model["text"], "plugin": "text/hashed_words"}
    provenance = description["provenance"]
    trained = {"noise": {"plugin": "noise/joint"}, "video_by_actions": provenance["stage"] == "end_to_end"}
    return {
        **description,
        "format": 2,
        "model": {"plugin": "models/video_action", **model},
        "provenance": {**provenance, **trained},
    }


def upgrade_statistics(values: Any) -> Any:
    """The content of a checkpoint's statistics.json; it once held the ranges of actions alone, or null without any."""
    return {"actions": values} if values is None or (isinstance(values, dict) and "low" in values) else values


def upgrade_dataset(info: dict[str, Any]) -> dict[str, Any]:
    """The content of a data set's meta/info.json with this project's own keys as they are called now.

    What a conversion did beside leaving out episodes was not kept.
    """
    upgraded = {_DATASET.get(name, name): value for name, value in info.items() if name != _SKIPPED}
    skipped = info.get(_SKIPPED)
    if isinstance(skipped, list):
        upgraded[_NOTES] = [f"left out: {line}" for line in skipped]
    return upgraded


def upgrade_evaluation(settings: dict[str, Any]) -> dict[str, Any]:
    """The content of an evaluation's settings.json; then every policy was a checkpoint, and every executor chunked."""
    if not isinstance(settings, dict) or "world" not in settings:
        return settings
    kept = {name: value for name, value in settings.items() if name in _EVALUATION}
    sampling = {name: value for name, value in settings.items() if name not in (*_EVALUATION, "world", "checkpoint")}
    kept |= {"env": settings["world"], "sampling": sampling}
    if checkpoint := settings.get("checkpoint"):
        kept |= {"policy": "checkpoint", "target": checkpoint}
    return kept


def upgrade_result(values: dict[str, Any]) -> dict[str, Any]:
    """One line of an evaluation's results.jsonl."""
    ended = values.get("ended")
    return {**values, "ended": _ENDINGS[ended]} if ended in _ENDINGS else values


def upgrade_run(settings: dict[str, Any]) -> dict[str, Any]:
    """The content of a run's config.json; a stage once had the action loss stop at the features, or not."""
    training = settings.get("training") if isinstance(settings, dict) else None
    stage = training.get("stage") if isinstance(training, dict) else None
    if not isinstance(training, dict) or not isinstance(stage, dict) or "detach" not in stage:
        return settings
    kept = {name: value for name, value in stage.items() if name != "detach"}
    return {**settings, "training": {**training, "stage": {**kept, "through": float(not stage["detach"])}}}


def is_old_run(facts: Any) -> bool:
    """Whether a run's config.json holds a recipe of the first edition, which cannot be gone on with."""
    training = facts.get("training") if isinstance(facts, dict) else None
    return isinstance(training, dict) and "rate" in training
