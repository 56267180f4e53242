"""`videopolicy-to-lerobot CHECKPOINT FOLDER`: a checkpoint as a folder that LeRobot opens with `--policy.path`."""

import argparse
import shutil
import sys
from pathlib import Path

from lerobot.configs import FeatureType, PolicyFeature

from videopolicy.datasets.lerobot.spec import ACTION, IMAGES, STATE
from videopolicy.durable import replace_folder
from videopolicy.errors import UserError
from videopolicy.policies.checkpoint import make

from .configuration_videopolicy import CHECKPOINT, VideopolicyConfig
from .processor_videopolicy import make_videopolicy_pre_post_processors


def export(checkpoint: Path, folder: Path) -> VideopolicyConfig:
    """Writes LeRobot's config and processors, and a copy of the checkpoint beside them.

    Args:
        checkpoint: the folder that `videopolicy train` wrote.
        folder: there must be none yet.

    Raises:
        UserError: no such checkpoint, or the folder is there already.
    """
    if folder.exists():
        raise UserError(f"{folder} is there already; name another folder")
    config = config_of(checkpoint)
    aside = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    try:
        aside.mkdir(parents=True)
        for pipeline in make_videopolicy_pre_post_processors(config):
            pipeline.save_pretrained(aside)
        # LeRobot chooses where it opens the folder, which may be another machine.
        config.device = None
        config.save_pretrained(aside)
        shutil.copytree(checkpoint, aside / CHECKPOINT)
        replace_folder(aside, folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return config


def config_of(checkpoint: Path) -> VideopolicyConfig:
    """What the checkpoint sees and does, in LeRobot's words."""
    policy = make(checkpoint)
    spec = policy.spec
    seen = {IMAGES + view: PolicyFeature(FeatureType.VISUAL, (3, spec.size, spec.size)) for view in spec.views}
    if policy.origin is not None:
        seen[STATE] = PolicyFeature(FeatureType.STATE, policy.origin.shape)
    return VideopolicyConfig(
        input_features=seen,
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (spec.action_width,))},
        chunk_size=spec.chunk,
        n_action_steps=spec.execute,
        push_to_hub=False,
    )


def main() -> None:
    """The command; bad input is one line and exit code 2."""
    parser = argparse.ArgumentParser(prog="videopolicy-to-lerobot", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="the folder that `videopolicy train` wrote")
    parser.add_argument("folder", type=Path, help="where to write; there must be nothing yet")
    arguments = parser.parse_args()
    try:
        config = export(arguments.checkpoint, arguments.folder)
    except UserError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{arguments.folder} sees {', '.join(config.input_features)}; use it with --policy.path={arguments.folder}")
