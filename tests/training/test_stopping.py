"""Ranks end at the same micro-batch, and ask one another no more often than it takes."""

import signal

import pytest

from reelwright.training.distributed.world import World, start
from reelwright.training.recipe import ParallelConfig
from reelwright.training.stopping import ASK_S, EXIT_CODES, Agreement, Stopping
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
