import os
import signal

import pytest

from videopolicy.policies.base import PlanRequest
from videopolicy.rollout.transport.processes import ProcessSite
from videopolicy.rollout.workers import EpisodeJob, Setup

pytestmark = pytest.mark.slow

JOB = EpisodeJob("reach-red", 0, 7, 7)


def test_a_process_that_hangs_is_not_ready_and_can_be_ended():
    site = ProcessSite(Setup("pointmass", ("top",), 32, "chunked", execute=4, latency=0), 2)
    hanging, lively = links = [site.open(), site.open()]
    os.kill(hanging.process.pid, signal.SIGSTOP)
    for link in links:
        link.send(JOB)
    assert site.ready(links, 60) == [lively]
    assert isinstance(lively.receive(), PlanRequest)
    assert site.ready(links, 0.01) == []
    site.close(links)
    assert not any(link.process.is_alive() for link in links)
