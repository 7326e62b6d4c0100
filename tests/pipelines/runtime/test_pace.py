"""How much short work shares a task: learned from tasks before it, and not spoilt by a header that lies."""

from reelwright.pipelines.runtime.pace import MOST, TASK_S, Pace


def learned(seconds: float, weight: float) -> Pace:
    pace = Pace()
    for _ in range(3):
        pace.learn(seconds, 1, weight)
    return pace


def test_nothing_shares_a_task_before_one_has_finished():
    assert not Pace().has_room(2, 2.0)
    assert Pace().usual_count == 1


def test_short_work_shares_a_task_and_long_work_does_not():
    quick, slow = learned(TASK_S / 100, 1.0), learned(TASK_S, 1.0)
    assert quick.has_room(MOST, float(MOST))
    assert not quick.has_room(MOST + 1, float(MOST))
    assert not slow.has_room(2, 2.0)
    assert (quick.usual_count, slow.usual_count) == (MOST, 1)


def test_a_header_that_claims_too_much_teaches_little():
    pace = learned(TASK_S / 2, 1000.0)
    pace.learn(1.0, 1, 1e11)
    assert not pace.has_room(6, 6000.0)


def test_work_of_unknown_weight_teaches_nothing():
    pace = learned(TASK_S / 100, 1.0)
    pace.learn(3600.0, 1, 0.0)
    assert pace.has_room(2, 2.0)


def test_a_first_header_that_lied_is_forgotten_by_the_next_task():
    pace = Pace()
    pace.learn(1.0, 1, 1e11)
    pace.learn(TASK_S, 1, 1000.0)
    assert not pace.has_room(2, 2000.0)
