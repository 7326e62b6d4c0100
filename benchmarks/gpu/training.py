"""Training speed and memory on GPUs: a DiT of 1.8 B parameters, bf16, 480p × 93 frames, random latents.

    python -m benchmarks.gpu.training                                         # one GPU
    torchrun --nproc-per-node 8 -m benchmarks.gpu.training --context 2        # eight, two to a sample

Print `name value` lines, without and with torch.compile: MFU (against the dense bf16 peak of the device's data sheet,
recomputation not counted), tokens/s over all GPUs, the peak of allocated memory against the plan of
`training.budget.memory`, and how far saving a checkpoint raises allocated memory above its level between steps (it
copies to the CPU: about 0).
Without a GPU it prints that nothing was measured.
"""

import argparse
import gc
import math
import shutil
import tempfile
import time
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from reelwright.model.config import DiTConfig, TextConfig
from reelwright.model.dit import DiT
from reelwright.model.flops import DENSE
from reelwright.model.text import pack_text
from reelwright.training.batch import Batch
from reelwright.training.budget.memory import CUDA_BYTES, plan_memory
from reelwright.training.budget.throughput import Meter, peak_flops
from reelwright.training.checkpoints import Checkpoints
from reelwright.training.data.buckets import Bucket
from reelwright.training.distributed.context import context_parallel
from reelwright.training.distributed.parallel import accumulate, autocast, parallelize
from reelwright.training.distributed.world import World, mesh_sizes, started
from reelwright.training.optim import clip_gradients, make_optimizer, optimizer_tensors
from reelwright.training.recipe import ComputeConfig, DataConfig, ParallelConfig, TrainRecipe

BUCKET = Bucket(frames=93, height=480, width=832)
CHECKPOINTING = [form for form in ("none", "selective", "attention", "full")
                 if form in get_args(ComputeConfig.model_fields["checkpointing"].annotation)]  # fmt: skip
"""From the least recomputation to the most."""
MODEL = DiTConfig(hidden_size=2048, depth=24, num_heads=16)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--depth", type=int, default=MODEL.depth, help="blocks; 24: 1.8 B parameters")
    parser.add_argument("--checkpointing", default="auto", choices=["auto", *CHECKPOINTING])
    parser.add_argument("--context", type=int, default=1, help="GPUs that share a sample")
    parser.add_argument("--form", default="ulysses", choices=["ulysses", "ring"])
    parser.add_argument("--replicate", type=int, default=1)
    parser.add_argument("--keep-weights", action="store_true", help="ZeRO-2: weights stay whole after the forward pass")
    parser.add_argument("--steps", type=int, default=8, help="timed, after as many as compiling and warming up take")
    parser.add_argument("--compile", default="both", choices=["off", "on", "both"])
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu skipped: no CUDA device here, nothing was measured")
        return
    parallel = ParallelConfig(
        context=options.context,
        context_form=options.form,
        replicate=options.replicate,
        reshard_after_forward=not options.keep_weights,
    )
    model = MODEL.model_copy(update={"depth": options.depth})
    with started(parallel) as world:
        for compiled in {"off": [False], "on": [True], "both": [False, True]}[options.compile]:
            recipe = choose(model, parallel, world, options.checkpointing, compiled)
            found = measure(recipe, world, BUCKET, options.steps)
            if world.is_first:
                print(f"checkpointing {recipe.compute.checkpointing}")
                for name, value in found.items():
                    print(f"{'compiled' if compiled else 'eager'}_{name} {value:.4g}", flush=True)


def choose(model: DiTConfig, parallel: ParallelConfig, world: World, checkpointing: str, compiled: bool) -> TrainRecipe:
    """Return the recipe; "auto" takes the least recomputation whose plan leaves a tenth of the memory free."""
    forms = CHECKPOINTING if checkpointing == "auto" else [checkpointing]
    room = torch.cuda.mem_get_info(world.device)[1] if world.device.type == "cuda" else math.inf
    for form in forms:
        compute = ComputeConfig.model_validate({"precision": "bf16", "checkpointing": form, "compile": compiled})
        recipe = recipe_of(model, parallel, compute, world.size)
        if plan_memory(recipe, ranks=world.size, bucket=BUCKET).total < 0.9 * room:
            break
    return recipe


def recipe_of(model: DiTConfig, parallel: ParallelConfig, compute: ComputeConfig, ranks: int) -> TrainRecipe:
    """Return a recipe of one sample per data rank and step."""
    replicate, shard, _ = mesh_sizes(parallel, ranks)
    data = DataConfig(sizes=("480p",), frames=(93,), tokens_per_batch=1, batches_per_step=replicate * shard)
    text = TextConfig(tokens=model.text_tokens, dim=model.caption_channels)
    return TrainRecipe(model=model, data=data, text=text, parallel=parallel, compute=compute)


def measure(recipe: TrainRecipe, world: World, bucket: Bucket, steps: int, *, warm_up: int = 3) -> dict[str, float]:
    """Take `warm_up` and then `steps` optimizer steps on a random batch."""
    on_gpu = world.device.type == "cuda"
    gc.collect()
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(world.device)
    model = _model(recipe, world)
    weights = sum(parameter.numel() for parameter in model.parameters())
    context = context_parallel(model, recipe.parallel, world)
    parameters = dict(model.named_parameters())
    optimizer = make_optimizer(parameters, recipe.optim)
    batch = random_batch(recipe, world, bucket)
    meter = Meter(recipe.model, world)
    objective = recipe.objective.build(model, recipe, world)

    def step() -> None:
        meter.start_step()
        accumulate(model, recipe.parallel, last=True)
        mine = context.share(batch, recipe.model.patch_size) if context else batch
        with autocast(recipe.compute, world.device):
            loss = objective.loss(mine)
        loss.total.backward()
        clip_gradients(parameters, recipe.optim.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        if on_gpu:
            torch.cuda.synchronize(world.device)
        meter.add(batch, objective.flops(batch, DENSE))
        meter.end_step()

    began = time.perf_counter()
    for _ in range(warm_up):
        step()
    warm_up_s = time.perf_counter() - began
    meter.read()
    for _ in range(steps):
        step()
    seconds = meter.seconds / steps
    read = meter.read()
    names = ("mfu", "tokens_per_s")
    found = {"parameters": float(weights), "gpus": float(world.size), "step_s": seconds, "warm_up_s": warm_up_s}
    found |= {name: read[name] for name in names if name in read}
    if on_gpu:
        found |= _memory(recipe, world, bucket) | {"peak_tflops_of_the_device": (peak_flops(world.device) or 0) / 1e12}
    return found | _save(model, optimizer, world)


def _save(model: nn.Module, optimizer: torch.optim.Optimizer, world: World) -> dict[str, float]:
    """Save weights and AdamW's state; return the seconds that training waits and that the disk takes, and the peak."""
    on_gpu = world.device.type == "cuda"
    before = 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(world.device)
        before = torch.cuda.memory_allocated(world.device)
    weights = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors = weights | optimizer_tensors(optimizer, dict(model.named_parameters()))
    folder = Path(world.broadcast(tempfile.mkdtemp(prefix="reel-gpu-") if world.is_first else ""))
    began = time.perf_counter()
    checkpoints = Checkpoints(folder, 1, world=world)
    checkpoints.save(1, tensors, {})
    copied = time.perf_counter()
    checkpoints.wait()
    found = {"save_copy_s": copied - began, "save_write_s": time.perf_counter() - copied}
    if on_gpu:
        found["save_peak_gib"] = world.max([torch.cuda.max_memory_allocated(world.device) - before])[0] / 2**30
    world.barrier()
    if world.is_first:
        shutil.rmtree(folder)
    return found


def _model(recipe: TrainRecipe, world: World) -> nn.Module:
    with torch.device("meta"):
        model = DiT(recipe.model)
    model.to_empty(device=world.device)
    model.init_weights(0)
    return parallelize(model, recipe.parallel, recipe.compute, world)


def random_batch(recipe: TrainRecipe, world: World, bucket: Bucket) -> Batch:
    """Return one random sample of a bucket, another on each data rank."""
    config, (frames, height, width) = recipe.model, bucket.latent
    generator = torch.Generator().manual_seed(world.data_rank)
    caption = config.text_tokens, config.caption_channels
    return Batch(
        latents=torch.randn(1, config.in_channels, frames, height, width, generator=generator).to(world.device),
        text=pack_text(list(torch.randn(1, *caption, generator=generator)), config.text_tokens).to(world.device),
        task="t2v",
        cond_frames=0,
        seeds=[world.data_rank],
        clip_ids=["random"],
        samples_in_step=world.data_size,
        step=0,
        micro=0,
    )


def _memory(recipe: TrainRecipe, world: World, bucket: Bucket) -> dict[str, float]:
    """Return the largest peak of any rank, and the planned memory without CUDA's own."""
    peak = world.max([torch.cuda.max_memory_allocated(world.device)])[0]
    planned = plan_memory(recipe, ranks=world.size, device="cuda", bucket=bucket).total - CUDA_BYTES
    return {"peak_gib": peak / 2**30, "planned_gib": planned / 2**30, "planned_over_peak": planned / peak}


if __name__ == "__main__":
    main()
