"""Who a process is, and what processes say to one another."""

import threading

import pytest
import torch

from reelwright.training.distributed.world import World, mesh_sizes, start
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ParallelConfig
from tests.training.ranks import ranks


@pytest.mark.parametrize(
    ("parallel", "size", "expect"),
    [
        (ParallelConfig(), 1, (1, 1, 1)),
        (ParallelConfig(), 8, (1, 8, 1)),
        (ParallelConfig(replicate=2, context=2), 8, (2, 2, 2)),
        (ParallelConfig(shard=2, context=4), 8, (1, 2, 4)),
    ],
)
def test_sizes_multiply(parallel: ParallelConfig, size: int, expect: tuple[int, int, int]) -> None:
    assert mesh_sizes(parallel, size) == expect


@pytest.mark.parametrize("parallel", [ParallelConfig(shard=4), ParallelConfig(context=4), ParallelConfig(replicate=3)])
def test_sizes_that_do_not_multiply_are_a_sentence(parallel: ParallelConfig) -> None:
    with pytest.raises(TrainError, match="do not multiply to the 2 processes"):
        mesh_sizes(parallel, 2)


def test_alone_needs_no_group() -> None:
    world = World.alone("cpu")
    assert start(ParallelConfig(), device="cpu") == world
    assert world.sum([1.5]) == world.max([1.5]) == [1.5]
    assert world.broadcast({"a": [1]}) == {"a": [1]}
    assert world.context_group is None
    assert world.mesh is None
    world.barrier()


def test_four_ranks_know_their_places() -> None:
    said = ranks(4, _say)
    assert [s["place"] for s in said] == [[0, 0, 0], [1, 0, 1], [2, 1, 0], [3, 1, 1]]
    assert all(s["size"] == [4, 2, 2] for s in said)
    assert all(s["sum"] == [6.0, 4.0] and s["max"] == [3.0] for s in said)
    assert all(s["word"] == {"clips": ["ä", 3], "from": 2} for s in said)


def test_votes_are_counted_from_threads_and_leave_nothing_behind() -> None:
    for said in ranks(3, _vote):
        assert said["counts"] == [0, 2, 3]
        assert said["left"] == []


def _vote() -> dict[str, object]:
    world = start(ParallelConfig(), device="cpu")
    votes, counts = world.votes("a vote"), []

    def vote() -> None:
        for yes in (False, world.rank > 0, True):
            counts.append(votes.count(yes))

    thread = threading.Thread(target=vote)
    thread.start()
    world.barrier()  # a collective meanwhile
    thread.join()
    world.barrier()
    return {"counts": counts, "left": [key for key in votes.store.list_keys() if "a vote" in key]}


def _say() -> dict[str, object]:
    world = start(ParallelConfig(context=2), device="cpu")
    assert world.mesh is not None
    assert world.mesh.mesh_dim_names == ("replicate", "shard", "context")
    assert torch.distributed.get_world_size(world.context_group) == 2
    return {
        "place": [world.rank, world.data_rank, world.context_rank],
        "size": [world.size, world.data_size, world.context_size],
        "sum": world.sum([world.rank, 1]),
        "max": world.max([world.rank]),
        "word": world.broadcast({"clips": ["ä", 3], "from": world.rank}, source=2),
    }
