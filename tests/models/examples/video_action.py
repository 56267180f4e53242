"""The smallest real model of a backbone and a head, which many other tests use, too."""

from tests.small import MODEL

example = MODEL
