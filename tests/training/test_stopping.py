"""Ranks end at the same micro-batch, and ask one another no more often than it takes."""

import signal
import time
from pathlib import Path

import pytest

from reelwright.training.distributed.world import World, start
from reelwright.training.recipe import ParallelConfig
from reelwright.training.stopping import ASK_S, EXIT_CODES, Agreement, Stopping, ask, watch
from tests.training.ranks import ranks


def test_what_one_rank_was_told_travels_with_the_step_s_sum() -> None:
    for said in ranks(3, _told):
        assert said["heard"] == [0, signal.SIGINT, signal.SIGTERM]
        assert said["within"] == [0, 0, signal.SIGTERM]


def _told() -> dict[str, list[int]]:
    world = start(ParallelConfig(), device="cpu")
    agreement = Agreement(world, Stopping())
    heard = []
    for told in ({}, {1: signal.SIGINT}, {0: signal.SIGINT, 2: signal.SIGTERM}):
        agreement.stopping.noted = told.get(world.rank, 0)
        heard.append(agreement.heard(world.sum(agreement.words(2))))
    agreement.every = 3
    within = [agreement.within(1)] if world.rank else []  # alone, a question would wait for the others for ever
    within += [agreement.within(2), agreement.within(3)]
    return {"heard": heard, "within": [0, *within][-3:]}


@pytest.mark.parametrize(("seconds", "every"), [(30.0, 1), (ASK_S / 4, 4), (0.001, int(ASK_S / 0.001))])
def test_questions_within_a_step_follow_from_how_long_its_micro_batches_take(seconds: float, every: int) -> None:
    agreement = Agreement(World(size=8), Stopping())
    agreement.heard([0.0] * len(EXIT_CODES) + [8 * seconds])
    assert agreement.every == pytest.approx(every, abs=1)


def test_one_process_asks_nobody() -> None:
    agreement = Agreement(World.alone("cpu"), Stopping(noted=signal.SIGTERM), every=100)
    assert agreement.within(1) == agreement.heard(agreement.words(1)) == signal.SIGTERM


def test_all_ranks_end_by_the_strongest_signal_that_one_was_told() -> None:
    """Their sums are made here, in one process."""
    term, interrupt = signal.SIGTERM, signal.SIGINT
    for told in ((0, 0, 0), (0, interrupt), (term, 0, interrupt), (0, term)):
        each = [Agreement(World(size=len(told)), Stopping(noted=number)) for number in told]
        for one in each:
            one.begin_step()
        sums = [sum(column) for column in zip(*(one.words(2) for one in each), strict=True)]
        assert {one.heard(sums) for one in each} == {max(told)}


def test_the_seconds_that_a_rank_tells_are_those_of_a_micro_batch() -> None:
    agreement = Agreement(World(size=8), Stopping())
    agreement.begin_step()
    began = time.monotonic()
    time.sleep(0.02)  # the time that is told
    *_, seconds = agreement.words(4)
    assert 0.02 / 4 <= seconds <= (time.monotonic() - began) / 4 + 0.01


def test_without_a_measured_step_every_micro_batch_asks_and_a_long_one_goes_on_so() -> None:
    agreement = Agreement(World(size=2), Stopping())
    assert agreement.every == 1
    agreement.heard([0.0] * len(EXIT_CODES) + [2 * 100 * ASK_S])
    assert agreement.every == 1
    agreement.every = 3
    assert agreement.within(1) == agreement.within(2) == 0  # nobody is asked: there is no process group to ask


@pytest.mark.parametrize(
    ("said", "number"), [("", signal.SIGTERM), (" 2\n", signal.SIGINT), ("15", signal.SIGTERM), ("9", signal.SIGTERM)]
)
def test_a_file_asks_for_an_end_as_a_signal_does(said: str, number: int, tmp_path: Path) -> None:
    request = tmp_path / "stop"
    with watch(request) as stopping:
        assert stopping.signal == 0
        request.write_text(said)
        assert stopping.signal == number
        ask(request, signal.SIGINT)
        assert stopping.signal == signal.SIGINT
    assert not request.exists()
