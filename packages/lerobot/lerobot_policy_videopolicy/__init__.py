"""Checkpoints of videopolicy as policies of LeRobot's, which imports this when it looks for plug-ins."""

from .configuration_videopolicy import VideopolicyConfig

__all__ = ["VideopolicyConfig"]
