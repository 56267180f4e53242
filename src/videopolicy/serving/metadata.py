"""What a client is told of the policy when it connects."""

from importlib.metadata import PackageNotFoundError, version

from videopolicy.policies.base import PolicySpec
from videopolicy.serving.observations import Style

# Of what is sent beyond openpi's protocol.
PROTOCOL = 1


def metadata(
    spec: PolicySpec,
    style: Style,
    *,
    state_width: int | None,
    checkpoint: str,
    limited: bool,
    max_age: float | None,
    imagine: bool,
) -> dict[str, object]:
    """The first message to every client.

    Args:
        spec: of the policy.
        style: where messages have what it sees.
        state_width: S, of the state that it needs; None if it needs none.
        checkpoint: the hash of its weights, in hexadecimal digits.
        limited: whether actions are held to limits.
        max_age: seconds, of an observation; None for no bound.
        imagine: whether imagined video is sent to those who ask.
    """
    return {
        "views": {view: [spec.size, spec.size] for view in spec.views},
        "keys": {
            "images": dict(style.views),
            "state": list(style.state) if state_width is not None else [],
            "instruction": style.instruction if style.text is None else None,
        },
        "action_width": spec.action_width,
        "action_layout": spec.action_layout,
        "state_width": state_width or 0,
        "state_layout": spec.state_layout,
        "chunk": spec.chunk,
        "execute": spec.execute,
        "fps": spec.fps,
        "tasks": list(spec.tasks),
        "sampling": dict(spec.sampling),
        "checkpoint": {"sha256": checkpoint},
        "versions": {"videopolicy": _version(), "protocol": PROTOCOL},
        "limited": limited,
        "max_age": max_age,
        "imagine": imagine,
    }


def _version() -> str:
    try:
        return version("videopolicy")
    except PackageNotFoundError:
        return "unknown"
