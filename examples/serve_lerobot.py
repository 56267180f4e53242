"""Serves a policy that LeRobot trained, so that `videopolicy evaluate --policy remote:` plays it.

In LeRobot's environment, with packages/client: python examples/serve_lerobot.py FOLDER PORT. The policy must be one
that plans a chunk from one observation, as ACT, SmolVLA and pi0 do.
"""

import sys

import numpy as np
import torch
from lerobot.configs import PreTrainedConfig
from lerobot.policies import get_policy_class, make_pre_post_processors
from lerobot.policies.utils import prepare_observation_for_inference
from videopolicy_client import pack, unpack
from websockets.sync.server import ServerConnection, serve

IMAGES, STATE = "observation.images.", "observation.state"


def main(folder: str, port: int) -> None:
    """Answers one observation after the other."""
    config = PreTrainedConfig.from_pretrained(folder)
    policy = get_policy_class(config.type).from_pretrained(folder, config=config)
    before, after = make_pre_post_processors(config, folder)
    views = {key.removeprefix(IMAGES): list(feature.shape[1:]) for key, feature in config.image_features.items()}
    states = ["state"] if STATE in config.input_features else []
    # LeRobot's key -> the name under which it is sent.
    sent = {IMAGES + view: view for view in views} | dict.fromkeys([STATE][: len(states)], "state")
    about = {
        "views": views,
        "keys": {"images": {view: view for view in views}, "state": states, "instruction": "instruction"},
        "action_width": config.action_feature.shape[0],
        "chunk": config.chunk_size,
        "execute": config.n_action_steps,
        # Not known here: nothing of it is checked.
        **{"action_layout": "", "state_layout": "", "fps": None, "tasks": [], "sampling": {}},
        "versions": {"protocol": 1},
    }

    def talk(connection: ServerConnection) -> None:
        connection.send(pack(about))
        for message in connection:
            seen = unpack(message)
            arrays = {key: np.array(seen[name]) for key, name in sent.items()}
            with torch.inference_mode():
                batch = prepare_observation_for_inference(arrays, torch.device(config.device), seen["instruction"])
                actions = after(policy.predict_action_chunk(before(batch)))[0]
            connection.send(pack({"actions": actions.numpy()}))

    with serve(talk, "127.0.0.1", port, compression=None, max_size=64 << 20) as server:
        server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
