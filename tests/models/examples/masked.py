"""The smallest real masked model: that of `video_action`, with holes."""

from tests.small import MODEL

from videopolicy.models import masked

example = masked.Config.of(MODEL)
