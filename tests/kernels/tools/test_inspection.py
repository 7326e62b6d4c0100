"""The Triton kernels compile for Hopper where there is no GPU: without spills, and on its matrix units in halves."""

import pytest

pytest.importorskip("triton")

from reelwright.kernels.tools.inspection import compiled, compiled_selection
from reelwright.kernels.tools.tuning import fitting
from reelwright.kernels.triton.tiles import KERNELS, Tiles, default_tiles

SHARED = 227 << 10  # of a program, on Hopper


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize(
    ("dtype", "dim", "blocks", "full"),
    [("bf16", 128, (64, 64), True), ("bf16", 128, (128, 128), False), ("fp16", 64, (64, 64), False),
     ("bf16", 96, (60, 60), False), ("fp32", 128, (64, 64), False)],
)  # fmt: skip
@pytest.mark.every(4)
def test_default_tiles_fit_hopper_and_use_it(kernel, dtype, dim, blocks, full):
    code = compiled(kernel, dtype, dim, blocks=blocks, full=full)
    assert code.shared <= SHARED
    assert code.spilled == 0
    assert code.resident(default_tiles(kernel, 4 if dtype == "fp32" else 2, dim, *blocks, full=full).warps) >= 1
    if dtype != "fp32":
        assert code.wgmma > 0
        assert code.mma == 0


@pytest.mark.parametrize("blocks", [(128, 1024), (128, 64)])
def test_blocks_that_share_a_list_run_by_128_queries(blocks):
    """The report's fastest size, and pairs of 64-token blocks: docs/kernels.md has these figures."""
    tiles = default_tiles("forward", 2, 128, *blocks, full=True)
    assert (tiles.m, tiles.n, tiles.warps) == (128, 64, 8)
    code = compiled("forward", "bf16", 128, blocks=blocks, full=True)
    assert code.shared >> 10 == 96
    assert code.registers <= 150
    assert code.spilled == code.mma == 0


@pytest.mark.parametrize("blocks", [100, 2340, 4096])
def test_the_selection_s_kernels_fit_hopper(blocks):
    """Rows of few blocks, those of 149,760 tokens, and the longest."""
    for code in (compiled_selection("means"), *(compiled_selection("ranked", blocks=blocks, cdf=c) for c in (0, 1))):
        assert code.shared <= SHARED
        assert code.spilled == 0


def test_a_search_tries_only_what_the_compiler_finds_room_for():
    """dk and dv of 64 queries at a time need more registers than there are, where blocks are ragged."""
    narrow, wide = Tiles(32, 64, 4, 3), Tiles(64, 64, 4, 3)
    assert fitting("dkdv", "bf16", 128, (64, 64), [narrow, wide], full=False) == [narrow]
