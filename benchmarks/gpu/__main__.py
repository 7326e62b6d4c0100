"""Measure all that only a GPU can show: `python -m benchmarks.gpu` (or `make gpu`).

Runs from the repository on a machine with a CUDA torch and triton; other packages are asked for by the blocks that need
them, and a block that lacks one is left out and says how to install it. Blocks come by weight, each in a process and a
time box of its own: one that fails or hangs costs the others nothing. Every row is printed, and written to
OUT/gpu.json and OUT/gpu.md at once, so that a run cut off at any moment leaves its figures.

    python -m benchmarks.gpu --list                       # the blocks
    python -m benchmarks.gpu --blocks kernels sparse      # some of them
    python -m benchmarks.gpu --minutes 9                  # as far as the time goes

`torchrun --nproc-per-node 8 -m benchmarks.gpu.training --context 2` measures training on several GPUs.
"""

import argparse
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
LEAST_S = 10
"""Seconds that a block is worth starting for."""
if find_spec("reelwright") is None:  # not installed: a bare machine
    sys.path.insert(0, str(ROOT / "src"))

from benchmarks.gpu.blocks import BLOCKS, Block, named  # noqa: E402
from benchmarks.gpu.machine import facts, how_to_install, missing  # noqa: E402
from benchmarks.gpu.report import Report  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--blocks", nargs="+", default=[], metavar="BLOCK", help=", ".join(b.name for b in BLOCKS))
    parser.add_argument("--minutes", type=float, default=30, help="for all blocks together")
    parser.add_argument("--out", type=Path, default=Path("gpu-report"))
    parser.add_argument("--list", action="store_true", help="print the blocks and what they need, and end")
    parser.add_argument("--dry-run", action="store_true", help="toy sizes, on a CPU too: figures say nothing")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # in a block's own process
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.list:
        for block in BLOCKS:
            print(f"{block.name:8} {block.seconds:4} s  {block.says}; needs {', '.join(block.needs) or 'nothing more'}")
        return 0
    options.out = options.out.absolute()
    try:
        blocks = named([options.one] if options.one else options.blocks)
    except ValueError as error:
        parser.exit(2, f"{error}\n")
    if lacking := missing(("torch", "triton")):
        parser.exit(2, f"{' and '.join(lacking)} are missing; fastest: {how_to_install(lacking)}\n")
    import torch

    if not torch.cuda.is_available() and not options.dry_run:
        parser.exit(2, f"torch {torch.__version__} sees no GPU: nothing was measured (--dry-run walks through)\n")
    if options.one:
        return run_block(blocks[0], options.out, until=options.until, toy=options.dry_run)
    return run_all(blocks, options.out, minutes=options.minutes, toy=options.dry_run)


def run_all(blocks: list[Block], out: Path, *, minutes: float, toy: bool) -> int:
    """Run blocks one after the other, each in its process; return how many failed."""
    end = time.monotonic() + 60 * minutes
    report = Report(out, facts=facts())
    report.write()
    for name, value in report.facts.items():
        print(f"{name}: {value}", flush=True)
    failed = 0
    for block in blocks:
        seconds = min(block.seconds, end - time.monotonic())
        print(f"\n== {block.name}: {block.says} (at most {max(0.0, seconds):.0f} s)", flush=True)
        if seconds < LEAST_S:
            Report.read(out).note(block.name, f"left out: --minutes {minutes:g} have passed")
            continue
        if lacking := missing(block.needs):
            Report.read(out).note(block.name, f"left out: {', '.join(lacking)} missing; {how_to_install(lacking)}")
            continue
        failed += _in_process(block, out, seconds, toy)
    print(f"\nwritten: {out / 'gpu.md'}, {out / 'gpu.json'}")
    return failed


def _in_process(block: Block, out: Path, seconds: float, toy: bool) -> bool:
    """Run a block in a process of its own, ended when its time box is: an illegal access would poison this one."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--one", block.name, "--out", str(out)]
    command += ["--until", str(time.monotonic() + seconds - 5), *(["--dry-run"] if toy else [])]
    began = time.monotonic()
    paths = [str(ROOT), str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        command, cwd=ROOT, env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)}, start_new_session=True
    )
    try:
        code = process.wait(seconds)
        said = f"ended with status {code}, {time.monotonic() - began:.0f} s" if code else ""
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # with the compilers that it started
        process.wait()
        said = f"ended after its {seconds:.0f} s; rows above are whole"
    if said:
        Report.read(out).note(block.name, said)
    return bool(said)


def run_block(block: Block, out: Path, *, until: float, toy: bool) -> int:
    """Run a block in this process; an error that it did not note itself is noted here."""
    import traceback

    from benchmarks.gpu.bench import Bench

    report = Report.read(out)
    try:
        block.run(Bench(block.name, report, until, toy))
    except Exception as error:
        traceback.print_exc()
        report.note(block.name, f"FAILED {type(error).__name__}: {str(error)[:600]}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
