"""The smallest real checkpoint: `example(folder)` gives the target of `videopolicy.policies.checkpoint.make`."""

from tests.small import small_model

from videopolicy import checkpoint


def example(folder):
    checkpoint.save(small_model(views=("top", "close")), checkpoint.Provenance("joint", 1), folder / "checkpoint")
    return str(folder / "checkpoint")
