"""`python -m benchmarks.plan_memory [--cuda]`: the memory that `reel train --plan` foretells against the measured peak.

A small DiT takes two steps (forward, backward, clipping, AdamW) by the trainer's own parts, each case in a process of
its own. Measured on the CPU in two ways: the allocator's events (torch.profiler) on top of the weights and optimizer
state, and the rise of the resident set (VmHWM), which also has libraries' memory. With --cuda: a larger network, and
torch.cuda.max_memory_allocated. Prints `name value` lines; `.ratio` is planned / measured, wanted within 0.85 … 1.15.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SIZES = {
    "cpu": {"hidden_size": 256, "depth": 6, "num_heads": 4, "caption_channels": 64, "adaln_tembed_dim": 64},
    "cuda": {"hidden_size": 2048, "depth": 24, "num_heads": 16, "caption_channels": 4096, "adaln_tembed_dim": 512},
}  # 7 M and 1.7 B parameters
DATA = {
    "cpu": {"sizes": ["256x256"], "frames": [13], "tokens_per_batch": 2048},
    "cuda": {"sizes": ["832x480"], "frames": [93], "tokens_per_batch": 37440},
}
CASES: dict[str, dict[str, Any]] = {
    f"{precision}.{checkpointing}{'.lora' if lora else ''}": {
        "compute": {"precision": precision, "checkpointing": checkpointing},
        "lora": {"rank": 8, "alpha": 8} if lora else None,
    }
    for precision in ("fp32", "bf16")
    for checkpointing in ("none", "attention", "selective", "full")
    for lora in (False, True)
}
CASES["fp32.none.two_batches"] = CASES["fp32.none"] | {"data": {"batches_per_step": 2}}
CASES["fp32.full.ema"] = CASES["fp32.full"] | {"optim": {"ema": 0.99}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuda", action="store_true")
    parser.add_argument("--only", default="", help="cases whose name begins so")
    parser.add_argument("--case", help="(what each process is called with)")
    arguments = parser.parse_args()
    device = "cuda" if arguments.cuda else "cpu"
    if arguments.case:
        print(json.dumps(measure(arguments.case, device)))
        return
    ratios = []
    for name in (n for n in CASES if n.startswith(arguments.only)):
        for line, value in rows(name, device):
            print(f"memory.{name}.{line} {value:.3f}", flush=True)
            ratios += [value] if line == "ratio" else []
    print(f"memory.worst_error {max(abs(r - 1) for r in ratios):.3f}")


def rows(name: str, device: str) -> Iterator[tuple[str, float]]:
    command = [sys.executable, "-m", "benchmarks.plan_memory", "--case", name]
    command += ["--cuda"] if device == "cuda" else []
    made = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    if made.returncode:
        print(f"# {name}: {made.stderr.strip().splitlines()[-1]}")
        return
    values = json.loads(made.stdout.splitlines()[-1])
    for key, size in values.items():
        yield f"{key}_mib", size / 2**20
    yield "ratio", values["planned"] / values["measured"]
    if "rss" in values:
        yield "ratio_to_rss", values["planned"] / values["rss"]


def recipe_of(name: str, device: str) -> Any:
    from reelwright.training.recipe import TrainRecipe

    case = CASES[name]
    data = {"ratios": ["1:1"], "batches_per_step": 1, **DATA[device], **case.get("data", {})}
    text = {"tokens": 32 if device == "cpu" else 512, "dim": SIZES[device]["caption_channels"]}
    return TrainRecipe(**{**case, "model": SIZES[device], "data": data, "text": text})


def measure(name: str, device: str) -> dict[str, int]:
    """Bytes: planned, measured, and on the CPU the resident set's rise."""
    import torch

    from reelwright.training.budget.memory import CUDA_BYTES, plan_memory

    torch.set_num_threads(1)
    recipe = recipe_of(name, device)
    plan = plan_memory(recipe, ranks=1, device=device)
    if device == "cuda":
        return {"planned": plan.total - CUDA_BYTES, "measured": _peak_cuda(recipe, plan)}
    return {"planned": plan.total, **_peak_cpu(recipe, plan)}


def _peak_cpu(recipe: Any, plan: Any) -> dict[str, int]:
    from torch.profiler import ProfilerActivity, profile

    before = _rss("VmRSS")
    step, held = _trainer(recipe, plan, "cpu")
    step()
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    step()
    rise = _rss("VmHWM") - before
    lasting = held()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        step()
    found = seen.profiler.kineto_results.events()
    changes = sorted((e.start_ns(), e.nbytes()) for e in found if e.name() == "[memory]")
    peak = now = 0
    for _, change in changes:
        now += change
        peak = max(peak, now)
    return {"measured": lasting + peak, "rss": rise}


def _peak_cuda(recipe: Any, plan: Any) -> int:
    import torch

    step, _ = _trainer(recipe, plan, "cuda")
    step()
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated()


def _trainer(recipe: Any, plan: Any, device: str) -> tuple[Any, Any]:
    """(a step of the trainer's parts, bytes that stay between steps)."""
    import torch

    from reelwright.model.dit import DiT
    from reelwright.model.lora.adapters import init_lora
    from reelwright.model.text import pack_text
    from reelwright.training.adapters import adapt
    from reelwright.training.batch import Batch
    from reelwright.training.distributed.parallel import autocast, parallelize
    from reelwright.training.distributed.world import World
    from reelwright.training.ema import Ema
    from reelwright.training.optim import clip_gradients, make_optimizer

    world = World.alone(device)
    with torch.device("meta"):
        model = DiT(recipe.model)
    if recipe.lora:
        adapt(model, recipe.lora, recipe.compute)
    model.to_empty(device=world.device)
    model.init_weights(0)
    if recipe.lora:
        init_lora(model)
    parallelize(model, recipe.parallel, recipe.compute, world)
    parameters = {n: p for n, p in model.named_parameters() if p.requires_grad}
    optimizer = make_optimizer(parameters, recipe.optim)
    ema = Ema(parameters, recipe.optim.ema) if recipe.optim.ema else None
    objective = recipe.objective.build(model, recipe, world)
    size, tokens = (plan.batch, recipe.model.in_channels, *plan.bucket.latent), recipe.text.tokens
    count = plan.batch * plan.micro_batches
    captions = [torch.randn(tokens, recipe.text.dim, device=device) for _ in range(plan.batch)]
    batch = Batch(
        torch.randn(size, device=device), pack_text(captions, tokens), "t2v", 0, list(range(plan.batch)),
        ["clip"] * plan.batch, count, step=0, micro=0,
    )  # fmt: skip

    def step() -> None:
        for _ in range(plan.micro_batches):
            with autocast(recipe.compute, world.device):
                loss = objective.loss(batch).total
            loss.backward()
            del loss
        clip_gradients(parameters, 1.0)
        optimizer.step()
        if ema:
            ema.update(1)
        optimizer.zero_grad(set_to_none=True)

    def held() -> int:
        state = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, torch.Tensor)]
        averages = list(ema.average.values()) if ema else []
        return sum(t.nbytes for t in (*model.parameters(), *state, *averages))

    return step, held


def _rss(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field)) * 1024


if __name__ == "__main__":
    main()
