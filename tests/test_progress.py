from controlnext.progress import Clock, Pace


class Time:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_clock_knows_nothing_before_the_first_step():
    assert Clock(10, 1, now=Time()).seconds_left is None


def test_clock_starts_from_an_earlier_run_and_follows_this_one():
    time = Time()
    clock = Clock(10, 1, Pace(step_seconds=5.0, after_seconds=1.0), now=time)
    assert clock.seconds_left == 51
    clock.begin_batch()
    time.now = 2.0
    clock.tick()
    assert clock.seconds_left == 19
    for _ in range(9):
        time.now += 2.0
        clock.tick()
    assert (clock.done, clock.total, clock.seconds_left) == (10, 10, 1)
    time.now += 0.5
    clock.end_batch()
    assert clock.seconds_left == 0
    assert clock.pace == Pace(2.0, 0.5)


def test_clock_leaves_out_what_is_no_step():
    time = Time()
    clock = Clock(2, 2, now=time)
    for start in (0.0, 100.0):
        time.now = start
        clock.begin_batch()
        time.now += 1.0
        clock.tick()
        time.now += 1.0
        clock.tick()
        time.now += 3.0
        clock.end_batch()
        if not start:
            assert clock.seconds_left == 5.0
    assert (clock.done, clock.total, clock.seconds_left) == (4, 4, 0)


def test_clock_plans_anew_when_a_batch_has_to_be_made_smaller():
    clock = Clock(4, 2, now=Time())
    for _ in range(4):
        clock.tick()
    clock.end_batch()
    clock.tick()
    clock.replan(2)
    assert (clock.done, clock.total) == (4, 12)
