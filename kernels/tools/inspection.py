"""Compile the Triton kernels for a GPU that need not be there: `python -m reelwright.kernels.tools.inspection`.

Triton compiles for a named architecture anywhere, with the assembler that its package carries. Shared memory, registers
and spills give the occupancy, and the instructions show whether the matrix units are used; speed is not among them. The
default tiles (`reelwright.kernels.triton.tiles`) were chosen by these numbers.
"""

import argparse
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from reelwright.kernels.triton.tiles import KERNELS, Tiles, default_tiles

BYTES = {"bf16": 2, "fp16": 2, "fp32": 4}
_FP32 = ("lse_ptr", "delta_ptr")
_SCALES = ("qk_scale", "softmax_scale")
_INTEGERS = ("indices_ptr", "counts_ptr", "offsets_q_ptr", "offsets_k_ptr", "queries_ptr", "starts_ptr")


@dataclass(frozen=True)
class Code:
    """A compiled kernel.

    Attributes:
        shared: bytes of shared memory per program.
        registers: registers per thread.
        spilled: bytes stored and loaded because registers ran out.
        wgmma: warp-group matrix instructions in its PTX.
        mma: warp matrix instructions in its PTX.
    """

    shared: int
    registers: int
    spilled: int
    wgmma: int
    mma: int

    def resident(self, warps: int) -> int:
        """Return how many programs a multiprocessor with 228 KiB and 65,536 registers (Hopper) holds at a time."""
        return min((228 << 10) // (self.shared + 1024), 65536 // (self.registers * 32 * warps))


def compiled(
    kernel: str,
    dtype: str,
    dim: int,
    *,
    blocks: tuple[int, int] = (64, 64),
    full: bool = True,
    tiles: Tiles | None = None,
    arch: int = 90,
) -> Code:
    """Compile a kernel of the attention.

    Args:
        kernel: forward, dq or dkdv.
        dtype: bf16, fp16 or fp32.
        dim: D.
        blocks: tokens of the largest query block, and of the largest key block.
        full: all blocks have as many tokens.
        tiles: default: `default_tiles`.
        arch: compute capability, times 10.
    """
    from reelwright.kernels.triton import attention
    from reelwright.kernels.triton.passes import constants

    functions = attention.forward, attention.backward_dq, attention.backward_dkdv
    function = dict(zip(KERNELS, functions, strict=True))[kernel]
    tiles = tiles or default_tiles(kernel, BYTES[dtype], dim, *blocks, full=full)
    options = constants(dim, blocks, tiles, full=(full, full))
    fixed = {name: options.pop(name) for name in list(options) if name in function.arg_names}
    kinds = {name: _kind(name, dtype, fixed) for name in function.arg_names}
    # as a launch passes it, so that a launch finds in Triton's cache the code compiled here
    aligned: dict[tuple[int], list[list[str | int]]] = {
        (i,): [] if kind == "constexpr" else [["tt.divisibility", 16]]
        for i, (name, kind) in enumerate(kinds.items())
        if kind[0] in "*c" or (full and name in {"seqlen_q", "seqlen_k"})
    }
    return _code(function, kinds, fixed, aligned, options, arch)


def compiled_selection(kernel: str, *, dim: int = 128, blocks: int = 2340, cdf: bool = False, arch: int = 90) -> Code:
    """Compile a kernel of the selection.

    Args:
        kernel: means, of bf16 tokens, or ranked.
        dim: D, for means.
        blocks: key blocks per row, for ranked.
        cdf: ranked by the softmax to reach, not by number.
        arch: compute capability, times 10.
    """
    import triton

    from reelwright.kernels.triton import ranking, selection

    padded = triton.next_power_of_2(blocks)
    fixed: dict[str, Any] = {"PADDED": padded, "HIDES": True, "CDF": cdf, "STEP": 2.0**-16}
    types = dict.fromkeys(("scores_ptr", "factor_ptr", "p_ptr", "out_ptr"), "*fp64")
    types |= {"seen_ptr": "*u8", "x_ptr": "*bf16"}
    types |= dict.fromkeys(("kept_ptr", "indices_ptr", "counts_ptr", "offsets_ptr"), "*i32")
    if kernel == "means":
        fixed = {"TILE": ranking.TILE, "HEAD_DIM": dim, "PADDED_DIM": triton.next_power_of_2(dim)}
    function = getattr(selection, kernel)
    types |= dict.fromkeys(fixed, "constexpr")
    kinds = {name: types.get(name, "i32") for name in function.arg_names}
    options = {"num_warps": 4, "enable_fp_fusion": False} if kernel == "means" else ranking.compiler_options(padded)
    return _code(function, kinds, fixed, {}, options, arch)


def _code(
    function: Any, kinds: dict[str, str], fixed: dict[str, Any], attrs: Any, options: dict[str, Any], arch: int
) -> Code:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    source = ASTSource(fn=function, signature=kinds, constexprs=fixed, attrs=attrs)
    found = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    ptx = found.asm["ptx"]
    registers, spilled = _usage(ptx, arch)
    return Code(found.metadata.shared, registers, spilled, ptx.count("wgmma.mma_async"), ptx.count("mma.sync"))


def _kind(name: str, dtype: str, fixed: dict[str, Any]) -> str:
    """Return an argument's type in Triton's signature; q, k, v, out and their gradients are of `dtype`."""
    if name in fixed:
        return "constexpr"
    if name in _FP32:
        return "*fp32"
    if name in _INTEGERS:
        return "*i32"
    if name.endswith("_ptr"):
        return f"*{dtype}"
    return "fp32" if name in _SCALES else "i32"


def _usage(ptx: str, arch: int) -> tuple[int, int]:
    """Ask the assembler for registers per thread and bytes spilled."""
    from triton.backends.nvidia.compiler import get_ptxas

    with TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(ptx)
        suffix = "a" if arch >= 90 else ""
        command = [get_ptxas(arch).path, "-v", f"--gpu-name=sm_{arch}{suffix}", str(path), "-o", str(path) + ".cubin"]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = re.findall(r"(\d+) bytes spill (?:stores|loads)", said)
    return int(re.findall(r"Used (\d+) registers", said)[-1]), sum(map(int, spilled))


def main() -> None:
    """Compile the kernels for an architecture and print their registers, shared memory, spills and occupancy."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", type=int, default=90, help="compute capability, times 10")
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 96, 128])
    parser.add_argument("--blocks", nargs="+", default=["64x64", "128x64", "128x128"], help="QUERIESxKEYS")
    options = parser.parse_args()
    print("| kernel | type | D | blocks | | tiles | shared KiB | registers | spilled | resident | wgmma | mma |")
    print("|" + "---|" * 12)
    for cells in _table(options.dims, [tuple(map(int, b.split("x"))) for b in options.blocks], options.arch):
        print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def _table(dims: list[int], blocks: list[tuple[int, ...]], arch: int) -> Iterator[tuple[Any, ...]]:
    """Yield the cells of one row per type, D, blocks, kernel and form."""
    for dtype, dim, (rows, columns) in ((t, d, b) for t in ("bf16", "fp32") for d in dims for b in blocks):
        for kernel, full in product(KERNELS, (True, False)):
            tiles = default_tiles(kernel, BYTES[dtype], dim, rows, columns, full=full)
            code = compiled(kernel, dtype, dim, blocks=(rows, columns), full=full, arch=arch)
            yield (
                kernel, dtype, dim, f"{rows} x {columns}", "full" if full else "ragged",
                f"{tiles.m} x {tiles.n}, {tiles.warps} warps, {tiles.stages} stages", f"{code.shared / 1024:.1f}",
                code.registers, code.spilled, code.resident(tiles.warps), code.wgmma, code.mma,
            )  # fmt: skip


if __name__ == "__main__":
    main()
