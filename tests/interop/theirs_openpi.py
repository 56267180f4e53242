"""The other side: runs in an environment with the real `openpi-client`, which this project never imports.

python theirs_openpi.py PORT TOKEN IMAGES.npz ANSWERS.npz

asks a server for a plan of each picture, as openpi's LIBERO example does, and stores what came back.
"""

import json
import platform
import sys
import time
from importlib.metadata import version

import numpy as np
from openpi_client.action_chunk_broker import ActionChunkBroker
from openpi_client.websocket_client_policy import WebsocketClientPolicy

EXECUTED = 8


def observation(image):
    state = np.zeros(8, np.float64)
    return {
        "observation/image": image,
        "observation/wrist_image": image,
        "observation/state": state,
        "prompt": "press the button from above",
    }


def refusal(port, token, asked):
    """What a client is told whose token or observation is wrong."""
    try:
        WebsocketClientPolicy("127.0.0.1", port, token).infer(asked)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was wrong"


def main(port, token, images, answers):
    """Plans, then a chunk executed one action at a time by their broker, then what goes wrong."""
    pictures = np.load(images)["images"]
    policy = WebsocketClientPolicy("127.0.0.1", port, token)
    plans, took = [], []
    for picture in pictures:
        begun = time.perf_counter()
        plans.append(policy.infer(observation(picture)))
        took.append(1000 * (time.perf_counter() - begun))
    broker = ActionChunkBroker(policy, EXECUTED)
    executed = [broker.infer(observation(pictures[0])) for _ in range(EXECUTED)]
    broker.reset()
    facts = {
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("openpi-client", "numpy", "msgpack", "websockets")},
        },
        "metadata": sorted(policy.get_server_metadata()),
        "answer": sorted(plans[0]),
        "round_trip_ms": took,
        "infer_ms": [plan["server_timing"]["infer_ms"] for plan in plans],
        "wrong_token": refusal(port, "other", {}),
        "no_image": refusal(port, token, {"prompt": "press the button from above"}),
        "no_array": refusal(port, token, observation("picture.png")),
    }
    np.savez(
        answers,
        actions=np.stack([plan["actions"] for plan in plans]),
        seeds=np.array([plan["seed"] for plan in plans]),
        executed=np.stack([step["actions"] for step in executed]),
        executed_seed=np.array(executed[0]["seed"]),
    )
    print(json.dumps(facts))


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
