"""What an evaluation's settings record of how a checkpoint's plans are drawn."""

from videopolicy.models.base import ModelConfig
from videopolicy.models.sampling import EXACT, Sampling

# What the options of `evaluate` say, recorded where it differs from a plain sampling, or from its mode's own.
UNUSUAL, PLAIN = ("video_steps", "video_until", "reuse", "warm_start", "inpaint"), Sampling()
# What no option changes, but a mode may.
FIXED = ("sigma_max", "sigma_min", "guidance")


def options(sampling: Sampling, config: ModelConfig, mode: str) -> dict[str, str | int | float]:
    """The options that make a checkpoint's policy sample so again; what is None goes with the sampler.

    Args:
        sampling: how plans are drawn.
        config: the checkpoint's.
        mode: that this is, or what it was changed from.
    """
    own = config.modes.get(mode, config.sampling)
    found = {name: getattr(sampling, name) for name in UNUSUAL}
    plain = {name for name in UNUSUAL if found[name] == getattr(PLAIN, name) == getattr(own, name)}
    return {
        **({} if mode == EXACT else {"mode": mode}),
        "sampler": sampling.sampler,
        "steps": sampling.steps,
        **{name: value for name, value in found.items() if value is not None and name not in plain},
    }


def identity(sampling: Sampling, config: ModelConfig) -> dict[str, str]:
    """Where it differs from mode exact in what no option says: a mode can be given another meaning by the same name."""
    own = config.sampling
    return {name: str(getattr(sampling, name)) for name in FIXED if getattr(sampling, name) != getattr(own, name)}
