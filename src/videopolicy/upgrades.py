"""Files that earlier versions wrote, brought to what this version reads. Only old file formats are known here."""

from typing import Any

# Settings of a checkpoint of format 1 -> their names since.
_MODEL = {"action_space": "action_layout", "state_space": "state_layout"}


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
