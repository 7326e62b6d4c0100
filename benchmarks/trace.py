"""A training step of a recipe at full size, without GPUs: operators, collectives, bytes, memory, and its bound.

    python -m benchmarks.trace              # 13.6 B, 480p × 93 and 720p × 93, LoRA and all weights, 8 and 64 ranks
    python -m benchmarks.trace RECIPE --gpus 64 --set parallel.replicate=8
    python -m benchmarks.trace --vae        # what decoding a tile holds (needs diffusers)

Each case is the trainer's own code on tensors without storage and ranks that are not there. Prints `name value` lines;
`.planned_over_traced` is the memory that `reel train --plan` foretells over the trace's. Times are modelled, from the
rates given (`--help`), and name their assumptions.
"""

import argparse
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from reelwright.recipe_files import load, parse_overrides
from reelwright.training.budget.memory import MemoryEstimate, plan_memory, shape_of
from reelwright.training.budget.step_time import Rates, StepTime, step_time
from reelwright.training.budget.step_trace import StepTrace, trace_step
from reelwright.training.data.buckets import Bucket
from reelwright.training.recipe import TrainRecipe

GIB = 1 << 30
CASES = {
    "all.480p": ("stage4-all-480p", Bucket(93, 480, 832)),
    "all.720p": ("stage5-all-720p", Bucket(93, 720, 1280)),
    "lora.480p": ("lora-13b-480p", Bucket(93, 480, 832)),
    "lora.720p": ("refinement-720p", Bucket(93, 720, 1280)),
}
LAYOUTS: dict[int, list[str]] = {8: [], 64: ["parallel.replicate=8", "data.batches_per_step=64"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipe", nargs="?", help="one recipe in place of the cases")
    parser.add_argument("--gpus", type=int, default=8)
    parser.add_argument("--set", action="append", default=[], dest="settings", help="KEY=VALUE over the recipe")
    parser.add_argument("--only", default="", help="cases whose name begins so, such as lora.480p.8")
    parser.add_argument("--vae", action="store_true")
    for name, field in Rates.__dataclass_fields__.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=field.default)
    options = parser.parse_args()
    rates = Rates(**{name: getattr(options, name) for name in Rates.__dataclass_fields__})
    if options.vae:
        print(f"vae.numbers_per_px {decoded_numbers_per_px():.0f}")
        return
    for name, recipe, gpus, bucket in _cases(options):
        began = time.perf_counter()
        plan = plan_memory(recipe, ranks=gpus, bucket=bucket)
        trace = trace_step(recipe, gpus, shape_of(recipe, plan.bucket))
        for line, value in rows(plan, trace, rates):
            print(f"trace.{name}.{line} {value}", flush=True)
        print(f"# {name}: {time.perf_counter() - began:.0f} s", file=sys.stderr)


def _cases(options: argparse.Namespace) -> Iterator[tuple[str, TrainRecipe, int, Bucket | None]]:
    if options.recipe:
        path = Path(options.recipe)
        yield path.stem, _load(path, options.settings), options.gpus, None
        return
    for name, (recipe, bucket) in CASES.items():
        for gpus, layout in LAYOUTS.items():
            if f"{name}.{gpus}".startswith(options.only):
                path = Path(__file__).parents[1] / "configs/train" / f"{recipe}.yaml"
                yield f"{name}.{gpus}", _load(path, [*layout, *options.settings]), gpus, bucket


def _load(path: Path, settings: list[str]) -> TrainRecipe:
    return load(TrainRecipe, path, parse_overrides(settings), example="steps: 1000")


def rows(plan: MemoryEstimate, trace: StepTrace, rates: Rates) -> Iterator[tuple[str, str]]:
    """(name, value) of all figures of a step."""
    counts, planned = trace.counts, sum(plan.bytes.values()) - plan.bytes["CUDA and libraries"]
    batch = f"{plan.batch} x {plan.bucket.key}, {trace.micro_batches} per rank"
    yield "micro_batches", batch
    yield "peak_gib", f"{trace.peak / GIB:.2f}"
    yield "planned_over_traced", f"{planned / trace.peak:.3f}"
    yield "operators", f"{sum(counts.operators.values())}"
    yield "pflops_per_rank", f"{counts.flops / 1e15:.3f}"
    yield "of_it_attention", f"{counts.attention_flops / counts.flops:.3f}"
    yield "computed_over_useful", f"{counts.flops * plan.ranks / plan.flops:.3f}"
    for of, received in sorted(counts.received.items(), key=lambda item: -item[1]):
        yield f"received_gib.{of.kind}.{len(of.ranks)}", f"{received / GIB:.2f} in {counts.calls[of]}"
    found: StepTime = step_time(counts, rates)
    for name, seconds in found.seconds.items():
        yield f"modelled_s.{name}", f"{seconds:.2f}"
    yield "modelled_s", f"{found.total:.2f}"
    yield "bound_by", found.bound
    yield "modelled_mfu", f"{plan.mfu(seconds=found.total, peak_flops=rates.peak_tflops * 1e12):.3f}"


def decoded_numbers_per_px(side: int = 256) -> float:
    """Numbers that Wan 2.1's decoder holds per pixel of a tile of `side` pixels, at its peak."""
    import torch
    from diffusers import AutoencoderKLWan
    from torch._subclasses.fake_tensor import FakeTensorMode

    from reelwright.training.budget.live_bytes import LiveBytes

    frames, before = 5, torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with FakeTensorMode(), torch.no_grad():
            vae: Any = AutoencoderKLWan()
            with LiveBytes() as live:
                vae.decode(torch.empty(1, 16, frames, side // 8, side // 8))
    finally:
        torch.set_default_dtype(before)
    pixels = 3 * (4 * frames - 3) * side * side  # the video itself is planned apart
    return (max(held for held, _ in live.timeline()) / 2 - pixels) / side**2


if __name__ == "__main__":
    main()
