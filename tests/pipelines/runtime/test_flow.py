"""Short pieces of work share a task, each with its own result; a task that is lost costs only the piece to blame."""

import os
from typing import Any

import pytest

from reelwright.curation import usage
from reelwright.curation.results import Failed
from reelwright.pipelines.recipes.curation import Need
from reelwright.pipelines.runtime.flow import Done, Flow
from reelwright.pipelines.runtime.pace import MOST, TASK_S, Pace

pytestmark = pytest.mark.usefixtures("ray_local")


def all_done(flow: Flow) -> list[Done]:
    found = []
    while flow:
        found += flow.next_done()
    return found


def test_each_piece_of_a_shared_task_has_its_own_result_and_they_share_a_payload():
    def squares(numbers: list[int], offset: int) -> tuple[list[int], list[bytes]]:
        for _ in numbers:
            usage.lap("scan")
        return [n * n + offset for n in numbers], [b"%d" % n for n in numbers]

    flow = Flow({"scan": (squares, Need(), 2)}, attempts=1, batched=("scan",))
    for number in range(200):
        flow.add("scan", f"context {number}", number, 1000)
    done = all_done(flow)
    assert {d.context: d.value for d in done} == {f"context {n}": n * n + 1000 for n in range(200)}
    payloads = _payloads(done)
    assert len(payloads) < 100, "tasks were shared"
    assert sorted(int(mp4) for mp4s in payloads for mp4 in mp4s) == list(range(200))
    assert flow.figures()["scan"]["tasks"] == 200
    assert flow.figures()["scan"]["in_flight"] == flow.waiting("scan") == 0


def _payloads(done: list[Done]) -> list[list[bytes]]:
    """In order, those of neighbours once: what a writer would be handed."""
    import ray

    refs: list[Any] = []
    for one in done:
        if not refs or refs[-1] is not one.extra:
            refs.append(one.extra)
    return ray.get(refs)


def test_a_piece_that_takes_its_worker_down_fails_alone():
    def deadly(numbers: list[int]) -> list[int]:
        if 13 in numbers:
            os._exit(1)
        return numbers

    flow = Flow({"scan": (deadly, Need(), 1)}, attempts=1, batched=("scan",))
    for number in range(40):
        flow.add("scan", number, number)
    done = {d.context: d.value for d in all_done(flow)}
    assert set(done) == set(range(40))
    assert [n for n, value in done.items() if isinstance(value, Failed)] == [13]


def test_work_of_two_nodes_shares_no_task():
    def node_of(items: list[str]) -> list[set[str]]:
        return [set(items)] * len(items)

    flow = Flow({"scan": (node_of, Need(), 1)}, attempts=1, batched=("scan",))
    here = flow._ray.get_runtime_context().get_node_id()
    for number in range(60):
        flow.add("scan", number, "near" if number % 20 < 10 else "anywhere", node=here if number % 20 < 10 else "")
    assert all(len(done.value) == 1 for done in all_done(flow))


def test_a_task_holds_no_more_work_than_lasts_for_its_time():
    pace = Pace()
    assert not pace.has_room(2, 2.0), "nothing is known yet"
    pace.learn(seconds=TASK_S, count=4, weight=8.0)
    assert pace.has_room(2, 8.0)
    assert not pace.has_room(2, 8.1)
    assert pace.usual_count == 4
    for _ in range(1000):
        pace.learn(seconds=0.001, count=1, weight=1.0)
    assert pace.has_room(MOST, MOST)
    assert not pace.has_room(MOST + 1, MOST + 1)
    assert pace.usual_count == MOST


def test_work_is_spread_thin_only_where_nothing_waits_for_an_earlier_stage():
    def together(numbers: list[int]) -> list[int]:
        return [len(numbers)] * len(numbers)

    flow = Flow({name: (together, Need(), 1) for name in ("probe", "scan")}, attempts=1, batched=("probe", "scan"))
    flow.add("scan", "the first", 0)
    all_done(flow)

    def shared(probes: int) -> set[int]:
        for number in range(flow.slots()):
            flow.add("scan", number, number)
        for number in range(probes):
            flow.add("probe", number, number)
        return {done.value for done in all_done(flow) if done.stage == "scan"}

    assert shared(probes=0) == {1}
    assert shared(probes=20 * flow.slots()) == {flow.slots()}
