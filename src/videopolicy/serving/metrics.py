"""What a server has done, as Prometheus reads it. Nothing here locks: the event loop alone counts."""

from collections import deque
from collections.abc import Iterator

# Of so many latencies the quantiles are taken, the latest.
REMEMBERED = 1024
QUANTILES = (0.5, 0.9, 0.99)
PREFIX = "videopolicy"

COUNTERS = {
    "requests": "Requests that were answered with a plan.",
    "errors": "Requests that were wrong, or whose plan failed.",
    "busy": "Requests that were refused because too many waited.",
    "old": "Requests that were refused because what they show was too old.",
    "refused": "Connections that were refused: no token, or too many of them.",
    "limited": "Numbers of actions that were beyond the limits.",
    "connections": "Connections that were accepted.",
}


class Latency:
    """Seconds of what happened again and again."""

    def __init__(self) -> None:
        self._latest: deque[float] = deque(maxlen=REMEMBERED)
        self._sum, self._count = 0.0, 0

    def add(self, seconds: float) -> None:
        """Counts one more."""
        self._latest.append(seconds)
        self._sum += seconds
        self._count += 1

    def quantiles(self) -> dict[float, float]:
        """Of the latest seconds, for each of QUANTILES the value that so many are not above; {} before the first."""
        ordered = sorted(self._latest)
        last = len(ordered) - 1
        return {share: ordered[min(last, int(share * len(ordered)))] for share in QUANTILES if ordered}

    def lines(self, name: str, says: str) -> Iterator[str]:
        """A summary in Prometheus' text format; quantiles of the latest, and none before the first."""
        yield from (f"# HELP {name} {says}", f"# TYPE {name} summary")
        for share, seconds in self.quantiles().items():
            yield f'{name}{{quantile="{share}"}} {seconds:.6g}'
        yield from (f"{name}_sum {self._sum:.6g}", f"{name}_count {self._count}")


class Metrics:
    """Counts and latencies.

    Attributes:
        counts: name (see COUNTERS) -> how often.
        request: from a request's arrival to its answer.
        plan: of a batch of plans.
    """

    def __init__(self) -> None:
        self.counts = dict.fromkeys(COUNTERS, 0)
        self.request, self.plan = Latency(), Latency()

    def count(self, name: str, times: int = 1) -> None:
        """Counts what has happened."""
        self.counts[name] += times

    def text(self, clients: int, queue: int) -> str:
        """All of it in Prometheus' text format.

        Args:
            clients: that are connected.
            queue: requests that wait.
        """
        lines: list[str] = []
        for name, says in COUNTERS.items():
            full = f"{PREFIX}_{name}_total"
            lines += [f"# HELP {full} {says}", f"# TYPE {full} counter", f"{full} {self.counts[name]}"]
        for name, says, value in (
            ("clients", "Clients that are connected.", clients),
            ("queue", "Requests that wait for a plan.", queue),
        ):
            lines += [f"# HELP {PREFIX}_{name} {says}", f"# TYPE {PREFIX}_{name} gauge", f"{PREFIX}_{name} {value}"]
        lines += self.request.lines(f"{PREFIX}_request_seconds", "From a request's arrival to its answer.")
        lines += self.plan.lines(f"{PREFIX}_plan_seconds", "What a batch of plans took.")
        return "\n".join(lines) + "\n"
