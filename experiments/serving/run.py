"""Is a server of two cores fair and light when 32 clients ask at once? python run.py [--seconds 60] [--clients 32].

Starts `videopolicy serve` on the shipped checkpoint. First one client asks alone, then all ask at once, each in its own
process and as fast as it is answered. Overhead is the time from a request until its answer, less the wait in the queue
and less the plan itself: packing, the connection, unpacking and checks, on both sides. Figures land in figures.json.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import psutil

from videopolicy.client.client import Client

HERE = Path(__file__).parent
CHECKPOINT = HERE.parents[1] / "checkpoints" / "button-press-topdown-v3"


def main() -> None:
    """Starts the server, asks it, writes what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    options = parser.parse_args()
    command = [sys.executable, "-m", "videopolicy", "serve", str(CHECKPOINT), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    server = subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8", env=environment)
    try:
        address = address_of(server)
        process = psutil.Process(server.pid)
        found = {"alone": measure(address, 1, min(10, options.seconds))}
        before = process.memory_info().rss
        found["together"] = measure(address, options.clients, options.seconds)
        found["memory_grown_mib"] = round((process.memory_info().rss - before) / 2**20, 1)
    finally:
        server.send_signal(signal.SIGTERM)
        code = server.wait(60)
    found["exit"] = code
    (HERE / "figures.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(found, indent=1))


def address_of(server: subprocess.Popen[str]) -> str:
    """Waits until the server says where it listens."""
    assert server.stdout is not None
    for line in server.stdout:
        if found := re.search(r"ws://\S+", line):
            return found[0]
    raise SystemExit("the server ended before it listened")


def measure(address: str, clients: int, seconds: float) -> dict[str, object]:
    """So many clients at once, all from the same moment on."""
    start = time.time() + 5 + clients / 4
    with get_context("spawn").Pool(clients) as pool:
        rows = pool.starmap(ask, [(address, number, start, seconds) for number in range(clients)], chunksize=1)
    counts = [len(row["overhead"]) for row in rows]
    merged = {name: np.concatenate([row[name] for row in rows]) for name in ("overhead", "plan", "queue", "whole")}
    return {
        "clients": clients,
        "seconds": seconds,
        "answers": sum(counts),
        "errors": sum(row["errors"] for row in rows),
        "slowest_share_of_mean": round(min(counts) / np.mean(counts), 3),
        "milliseconds": {
            name: {"median": round(float(np.median(some)), 2), "p95": round(float(np.quantile(some, 0.95)), 2)}
            for name, some in merged.items()
        },
    }


def ask(address: str, number: int, start: float, seconds: float) -> dict[str, object]:
    """One client, which asks from the moment `start` on; milliseconds of each answer."""
    times: dict[str, list[float]] = {"overhead": [], "plan": [], "queue": [], "whole": []}
    errors, rng = 0, np.random.default_rng(number)
    with Client(address, timeout=60) as client:
        sizes, keys = client.metadata["views"], client.metadata["keys"]
        images = {keys["images"][view]: rng.integers(0, 256, (*size, 3), np.uint8) for view, size in sizes.items()}
        seen = {**images, "instruction": "press the button"}
        time.sleep(max(0.0, start - time.time()))
        while time.time() < start + seconds:
            begun = time.perf_counter()
            try:
                reply = client.infer(seen)
            except Exception as error:
                errors += 1
                print(f"client {number}: {error}", flush=True)
                continue
            whole = 1e3 * (time.perf_counter() - begun)
            plan, queue = reply["policy_timing"]["infer_ms"], reply["server_timing"]["queue_ms"]
            for name, value in {"overhead": whole - plan - queue, "plan": plan, "queue": queue, "whole": whole}.items():
                times[name].append(value)
    return {**{name: np.array(some) for name, some in times.items()}, "errors": errors}


if __name__ == "__main__":
    main()
