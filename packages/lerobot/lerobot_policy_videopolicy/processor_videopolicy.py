"""What LeRobot does to what it sees and to actions: next to nothing, as a checkpoint has its own statistics."""

from typing import Any

from lerobot.processor import (
    AddBatchDimensionProcessorStep,
    DeviceProcessorStep,
    PolicyAction,
    PolicyProcessorPipeline,
    RenameObservationsProcessorStep,
    make_policy_processor_pipelines,
)

from .configuration_videopolicy import VideopolicyConfig

Pipelines = tuple[
    PolicyProcessorPipeline[dict[str, Any], dict[str, Any]], PolicyProcessorPipeline[PolicyAction, PolicyAction]
]


def make_videopolicy_pre_post_processors(config: VideopolicyConfig, dataset_stats: object = None) -> Pipelines:
    """The pipelines before and after the policy.

    Args:
        config: of the policy.
        dataset_stats: LeRobot's, of a data set; not used.

    Returns:
        One that renames keys, as `--rename_map` says, adds a batch and moves to the policy's device; and one that
        moves actions back.
    """
    before = [
        RenameObservationsProcessorStep(rename_map={}),
        AddBatchDimensionProcessorStep(),
        DeviceProcessorStep(device=config.device),
    ]
    return make_policy_processor_pipelines(before, [DeviceProcessorStep(device="cpu")])
