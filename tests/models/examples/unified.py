"""The smallest real model whose video model takes noisy actions."""

from tests.small import MODEL

from videopolicy.models.unified import Config

example = Config.of(MODEL, registers=3)
