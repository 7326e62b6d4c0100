"""Lists of key blocks against the masks that they stand for, and their transpose."""

import pytest
import torch

from reelwright.kernels import lists
from reelwright.kernels.lists import BlockLists

EXAMPLE = torch.tensor([[1, 0, 1, 1], [1, 0, 1, 0], [0, 1, 0, 0]], dtype=torch.bool)


def masks() -> torch.Tensor:
    """Two samples of three heads; rows of all lengths, none and all among them."""
    drawn = torch.rand(2, 3, 5, 7, generator=torch.Generator().manual_seed(0)) < 0.4
    drawn[0, 0, 0], drawn[1, 2, 4] = False, True
    return drawn


def test_the_example_of_the_page() -> None:
    made = BlockLists.of_mask(EXAMPLE)
    assert made.indices.tolist() == [[[[0, 2, 3], [0, 2, -1], [1, -1, -1]]]]
    assert made.counts.tolist() == [[[3, 2, 1]]]
    queries, starts = made.transpose(4)
    assert queries[0, 0, :6].tolist() == [0, 1, 2, 0, 1, 0]
    assert starts[0, 0].tolist() == [0, 2, 3, 5, 6]


@pytest.mark.parametrize("width", [None, 7])
def test_a_mask_comes_back_from_its_lists(width: int | None) -> None:
    mask = masks()
    made = BlockLists.of_mask(mask, width)
    assert made.indices.shape[-1] == 7
    assert torch.equal(made.mask(7), mask)
    assert torch.equal(made.narrowed().mask(7), mask)


def test_lists_are_as_wide_as_the_longest_row() -> None:
    assert BlockLists.of_mask(EXAMPLE).indices.shape[-1] == 3
    wide = BlockLists.of_mask(EXAMPLE, 4)
    assert wide.indices.shape[-1] == 4
    assert wide.narrowed().indices.shape[-1] == 3


@pytest.mark.parametrize("heads_at_a_time", [1, 2, 100])
def test_the_transpose_holds_each_pair_once_by_ascending_query(
    monkeypatch: pytest.MonkeyPatch, heads_at_a_time: int
) -> None:
    mask = masks()
    made = BlockLists.of_mask(mask)
    bytes_of_a_head = 24 * made.indices.shape[2] * made.indices.shape[3]
    monkeypatch.setattr(lists, "chunk_bytes", lambda device: heads_at_a_time * bytes_of_a_head)
    queries, starts = made.transpose(7)
    for sample in range(2):
        for head in range(3):
            for key in range(7):
                first, last = starts[sample, head, key : key + 2].tolist()
                assert queries[sample, head, first:last].tolist() == mask[sample, head, :, key].nonzero()[:, 0].tolist()
