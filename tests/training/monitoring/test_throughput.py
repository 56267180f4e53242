from videopolicy.training.monitoring.throughput import ThroughputMeter


class Clock:
    """Stands still unless it is moved on."""

    now = 7.0

    def __call__(self):
        return self.now

    def pass_(self, seconds):
        self.now += seconds


def step(meter, clock, waiting, computing):
    with meter.waiting():
        clock.pass_(waiting)
    clock.pass_(computing)
    meter.step()


def test_speed_and_the_share_of_waiting_are_those_of_the_steps_alone():
    clock = Clock()
    meter = ThroughputMeter(clock)
    step(meter, clock, waiting=0.5, computing=1.5)
    clock.pass_(1000)
    step(meter, clock, waiting=0.0, computing=2.0)
    assert meter.read(batch=8) == {"clips_a_second": 4.0, "waiting": 0.125}


def test_each_reading_begins_anew():
    clock = Clock()
    meter = ThroughputMeter(clock)
    step(meter, clock, waiting=3.0, computing=1.0)
    meter.read(batch=8)
    step(meter, clock, waiting=0.5, computing=0.5)
    assert meter.read(batch=3) == {"clips_a_second": 3.0, "waiting": 0.5}
