"""A policy behind a websocket in openpi's protocol: that of `videopolicy serve`, or anybody's (docs/others.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from videopolicy.actions.rotations import rewritten
from videopolicy.datasets.transforms.turn import FrameTurn
from videopolicy.errors import UserError, unknown
from videopolicy.policies.base import PolicySpec
from videopolicy.types import Observation, Plan

try:
    from videopolicy.client import Client, ClientError
except ModuleNotFoundError as error:
    raise UserError(f"a policy behind a server needs {error.name}: pip install 'videopolicy[serve]'") from error

NATIVE = "native"
# Of the images that others' servers are sent; they bring them to a size of their own.
SIZE = 256
# Seconds: a server may compile at its first plan.
PATIENCE = 600.0

REQUIRES = ("msgpack", "websockets")


@dataclass(frozen=True)
class Keys:
    """What servers of one benchmark are sent.

    Attributes:
        images: view of the env -> key.
        state: key; the state is the env's, with its quaternion as an axis and an angle.
        instruction: key.
        turn: how images are turned on their way out.
        quaternion: where in the env's state it begins.
        width: S, of the state that is sent.
    """

    images: Mapping[str, str]
    state: str
    instruction: str = "prompt"
    turn: FrameTurn = field(default_factory=FrameTurn)
    quaternion: int = 3
    width: int = 8


# Policies of LIBERO learn from frames as its renderer gives them, turned by half: ours, with left and right exchanged.
STYLES = {
    "libero": Keys(
        {"agentview": "observation/image", "eye_in_hand": "observation/wrist_image"},
        "observation/state",
        turn=FrameTurn(flip="horizontal"),
    )
}


def make(target: str, *, style: str = NATIVE, token: str | None = None, patience: float = PATIENCE) -> "RemotePolicy":
    """The policy that a server plans with.

    Args:
        target: the server, `ws://HOST:PORT` or `wss://HOST:PORT`.
        style: what it is sent: "native" for a server of ours, which says itself what it wants; or "libero".
        token: that the server asks for.
        patience: seconds that connecting may take, and later each answer.

    Raises:
        UserError: no server answers there, it refuses, or what it says is not of this protocol.
    """
    if style not in (NATIVE, *STYLES):
        raise unknown("style", style, (NATIVE, *STYLES))
    try:
        client = Client(target, token, timeout=patience)
    except (ValueError, ClientError) as error:
        raise UserError(f"policy remote: {target}: {error}") from error
    return RemotePolicy(client, target, style)


class RemotePolicy:
    """Asks a server for one plan at a time; a `videopolicy.policies.base.Policy`.

    Args:
        client: connected.
        target: the server, for messages.
        style: what it is sent, by name; "native" if it says so itself.

    Attributes:
        client: its connection.
        spec: see `Policy.spec`.
    """

    def __init__(self, client: Client, target: str, style: str = NATIVE) -> None:
        self.client, self._target, self._named, self._style = client, target, style, STYLES.get(style)
        self._identity: Mapping[str, str] | None = None
        self.spec = self._own_spec(client.metadata) if self._style is None else self._probed_spec(self._style)
        if self._style is None:
            self._identity = self.spec.identity

    def plan(
        self, observations: Sequence[Observation], seeds: Sequence[int], imagine: bool | Sequence[bool]
    ) -> list[Plan]:
        """One plan an observation, one after the other; see `Policy.plan`.

        A server of ours is told the seeds, and its plans are those of its checkpoint in this process. Others draw noise
        of their own.
        """
        wanted = [imagine] * len(observations) if isinstance(imagine, bool) else imagine
        return [self._plan(*asked) for asked in zip(observations, seeds, wanted, strict=True)]

    def _plan(self, observation: Observation, seed: int, imagine: bool) -> Plan:
        message = self.message(observation)
        if self._style is not None:
            return Plan(self._ask(message)["actions"])
        if observation.planned is not None:
            message |= {"planned": observation.planned, "committed": observation.committed}
        message |= {"seed": seed, "imagine": bool(imagine and self.client.metadata.get("imagine"))}
        reply = self._ask(message)
        imagined = reply.get("imagined")
        if not isinstance(imagined, dict):
            return Plan(reply["actions"])
        return Plan(reply["actions"], imagined, tuple(reply["offsets"]))

    def message(self, observation: Observation) -> dict[str, object]:
        """What the server is sent of an observation, under its own names.

        Raises:
            UserError: the env's state is not of the style.
        """
        if self._style is not None:
            return _foreign(observation, self._style)
        message: dict[str, object] = {key: observation.images[view] for view, key in self._images.items()}
        if self._instruction:
            message[self._instruction] = observation.instruction
        if self._state and observation.state is not None:
            message[self._state] = observation.state
        return message

    def _ask(self, message: Mapping[str, object]) -> dict:
        try:
            answer = self.client.infer(message)
        except ClientError as error:
            raise UserError(f"{self._target}: {error}") from error
        # After a connection was lost, another server may stand there.
        if self._identity is not None and _identity(self.client.metadata) != self._identity:
            raise UserError(f"{self._target}: another policy is served there now; begin again, into another folder")
        return answer

    def _own_spec(self, told: Mapping) -> PolicySpec:
        """What a server of ours says of its policy."""
        if not self.client.extended:
            silent = "this server does not say what its policy wants"
            raise UserError(f"{self._target}: {silent}; name it with --style {'|'.join(STYLES)}")
        try:
            keys = told["keys"]
            self._images: dict[str, str] = dict(keys["images"])
            self._instruction, states = keys["instruction"], list(keys["state"])
            self._state = states[0] if states else None
            (size,) = {int(side) for sides in told["views"].values() for side in sides} or {SIZE}
            spec = PolicySpec(
                views=tuple(told["views"]),
                size=size,
                action_width=int(told["action_width"]),
                chunk=int(told["chunk"]),
                execute=int(told["execute"]),
                action_layout=str(told["action_layout"]),
                state_layout=str(told["state_layout"]),
                fps=told["fps"],
                tasks=tuple(told["tasks"]),
                sampling=dict(told["sampling"]),
                identity=_identity(told),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(f"{self._target}: the server's description of its policy is not of this version") from error
        if len(states) > 1:
            raise UserError(f"{self._target}: it wants the state in {len(states)} parts; serve it with --style native")
        return spec

    def _probed_spec(self, style: Keys) -> PolicySpec:
        """What one plan for a black picture shows of a policy that says nothing."""
        black = {key: np.zeros((SIZE, SIZE, 3), np.uint8) for key in style.images.values()}
        actions = self._ask({**black, style.state: np.zeros(style.width, np.float32), style.instruction: ""})["actions"]
        note = f"{self._target} names neither layout nor rate of its actions: nothing is checked"
        return PolicySpec(
            views=tuple(style.images),
            size=SIZE,
            action_width=actions.shape[1],
            chunk=len(actions),
            execute=max(1, len(actions) // 2),
            notes=(note,),
            identity={"style": self._named},
        )


def _identity(told: Mapping) -> dict[str, str]:
    """What tells a server's policy from another that samples alike."""
    checkpoint = told.get("checkpoint")
    digest = checkpoint.get("sha256") if isinstance(checkpoint, Mapping) else None
    return {"served checkpoint": str(digest), "limited": str(told.get("limited"))}


def _foreign(observation: Observation, style: Keys) -> dict[str, object]:
    images = {key: style.turn.apply(observation.images[view][None])[0] for view, key in style.images.items()}
    return {**images, style.state: _axis_angle(observation.state, style), style.instruction: observation.instruction}


def _axis_angle(state: Float32[np.ndarray, "S"] | None, style: Keys) -> Float32[np.ndarray, "S2"]:
    if state is None:
        raise UserError("this style sends the robot's state, which the env does not tell")
    begin, end = style.quaternion, style.quaternion + 4
    turned = rewritten(state[begin:end], "quaternion", "axis_angle")
    sent = np.concatenate((state[:begin], turned, state[end:])).astype(np.float32)
    if len(sent) != style.width:
        raise UserError(f"this style sends {style.width} numbers of state, but this env's makes {len(sent)}")
    return sent
