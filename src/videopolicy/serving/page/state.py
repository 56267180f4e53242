"""What the page is sent: one map of plain values, and the pictures that it names, as JPEG."""

import base64
import io
import time
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image as Pictures

from videopolicy.actions.layout import Layout
from videopolicy.images import fit_to_size
from videopolicy.policies.base import PolicySpec
from videopolicy.serving.page.latest import Latest, Watched
from videopolicy.serving.session import Service
from videopolicy.types import Image

# Pixels of a picture's side, and JPEG's quality; dimensions of an action that are plotted.
SIDE, QUALITY, DIMENSIONS = 256, 85, 16
# Seconds between two pictures that are encoded.
YIELD = 0.001
# Plans whose rest, which another plan replaced, is shown too.
RESTS = 3


def about(service: Service, name: str) -> dict[str, Any]:
    """What does not change: of the policy, and of the limits."""
    spec, limits = service.spec, service.limits
    return {
        "name": name,
        "views": list(spec.views),
        "dimensions": _dimensions(spec)[:DIMENSIONS],
        "fps": spec.fps,
        "low": list(limits.low) if limits else None,
        "high": list(limits.high) if limits else None,
        "imagine": service.imagine,
    }


class Album:
    """The pictures of the clients, each encoded once and only as long as it is shown."""

    def __init__(self) -> None:
        self._encoded: dict[str, str] = {}

    def encode(self, pictures: Mapping[str, Image], size: int) -> dict[str, str]:
        """All of these pictures by name, as JPEG in base64; a name stands for the same picture always.

        Args:
            pictures: as a robot sent or a policy imagined them.
            size: what the policy sees them at: they are fitted as for it, and shown as it sees them.
        """
        known, self._encoded = self._encoded, {}
        for name, image in pictures.items():
            if name not in known:
                # Lets others have the interpreter, which an encoder keeps.
                time.sleep(YIELD)
            self._encoded[name] = known.get(name) or _jpeg(image, size)
        return self._encoded


def state(service: Service, latest: Latest, clients: int) -> tuple[dict[str, Any], dict[str, Image]]:
    """What is shown now, and the pictures in it by name. It holds nothing that changes later.

    Args:
        service: for its metrics.
        latest: what it did.
        clients: how many are connected.
    """
    pictures: dict[str, Image] = {}
    ordered = sorted(latest.clients.values(), key=lambda client: (not client.connected, client.number))
    shown = [_client(client, pictures) for client in ordered]
    metrics = service.metrics
    return {
        "now": time.time(),
        "clients": shown,
        "connected": clients,
        "queue": len(service.engine),
        "counts": dict(metrics.counts),
        "request_ms": _milliseconds(metrics.request.quantiles().values()),
        "plan_ms": _milliseconds(metrics.plan.quantiles().values()),
        "events": [vars(event) for event in latest.events],
    }, pictures


def _dimensions(spec: PolicySpec) -> list[str]:
    """What each dimension of an action is called."""
    if not spec.action_layout:
        return [f"action {number}" for number in range(spec.action_width)]
    names = []
    for part in Layout.parse(spec.action_layout).parts:
        kind = f"{part.reference} {part.kind}".strip().replace("_", " ")
        names += [kind] if part.width == 1 else [f"{kind} {number}" for number in range(part.width)]
    return names


def _client(client: Watched, pictures: dict[str, Image]) -> dict[str, Any]:
    values: dict[str, Any] = {
        "number": client.number,
        "address": client.address,
        "since": client.since,
        "connected": client.connected,
        "requests": client.requests,
        "limited": client.limited,
        "asked": client.asked,
        "latencies": _packed(client.latencies),
        "plans": _plans(client),
    }
    if client.last:
        seen = client.last.request.observation
        names = {view: f"{client.number}.{client.requests}.{index}" for index, view in enumerate(seen.images)}
        pictures |= {names[view]: image for view, image in seen.images.items()}
        values |= {"seen": names, "instruction": seen.instruction}
    if client.dream:
        dream, names = client.dream, {}
        for index, (view, frames) in enumerate(dream.frames.items()):
            names[view] = [f"{client.number}.{dream.at}.{index}.{frame}" for frame in range(len(frames))]
            pictures |= dict(zip(names[view], frames, strict=True))
        values["imagined"] = {"frames": names, "offsets": list(dream.offsets), "at": dream.at}
    return values


def _plans(client: Watched) -> list[dict[str, Any]]:
    """Plans from the oldest on, each as far as it was executed; of the last ones, all that was planned."""
    trace = list(client.trace)
    plans = []
    for index, (step, planned, sent) in enumerate(trace):
        after = trace[index + 1][0] if index + 1 < len(trace) else step + len(sent)
        kept = len(sent) if index >= len(trace) - RESTS else after - step
        rows, asked = sent[:kept, :DIMENSIONS], planned[:kept, :DIMENSIONS]
        same = np.array_equal(rows, asked)
        plans.append({"step": step, "sent": _packed(rows), "planned": None if same else _packed(asked)})
    return plans


def _milliseconds(seconds: Iterable[float]) -> list[float]:
    return [round(value * 1e3, 2) for value in seconds]


def _packed(rows: Any) -> str:
    """Numbers as little-endian float32 in base64, which takes a hundredth of the time of digits."""
    return base64.b64encode(np.asarray(rows, "<f4").tobytes()).decode()


def _jpeg(image: Image, size: int) -> str:
    fitted = fit_to_size(image[None], min(size, SIDE))[0]
    buffer = io.BytesIO()
    # Small pictures would lose their colours if four pixels shared one.
    Pictures.fromarray(fitted).save(buffer, "JPEG", quality=QUALITY, subsampling=0)
    return base64.b64encode(buffer.getvalue()).decode()
