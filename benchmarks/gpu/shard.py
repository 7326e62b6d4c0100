"""Block 6: FSDP2 on one rank in bf16 over the device's backend, a checkpoint in the background, and resuming."""

import tempfile
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.report import Figure
from benchmarks.gpu.train import TOY, TOY_BUCKET
from benchmarks.gpu.training import BUCKET, MODEL, random_batch, recipe_of
from reelwright.model.dit import DiT
from reelwright.training.checkpoints import Checkpoints, load_tensors
from reelwright.training.distributed import parallel
from reelwright.training.distributed.world import World
from reelwright.training.optim import clip_gradients, make_optimizer, optimizer_tensors
from reelwright.training.recipe import ComputeConfig, ParallelConfig, TrainRecipe


def run(bench: Bench) -> None:
    with tempfile.TemporaryDirectory(prefix="reel-gpu-") as folder:
        backend = "cpu:gloo,cuda:nccl" if bench.device.type == "cuda" else "gloo"
        dist.init_process_group(backend, init_method=f"file://{folder}/meet", rank=0, world_size=1)
        try:
            bench.attempt("steps, save, steps; load, the same steps", lambda: _figures(bench, Path(folder)))
        finally:
            dist.destroy_process_group()


def _figures(bench: Bench, folder: Path) -> dict[str, Figure]:
    model, bucket = (TOY, TOY_BUCKET) if bench.toy else (MODEL.model_copy(update={"depth": 8}), BUCKET)
    compute = ComputeConfig.model_validate({"precision": "bf16", "checkpointing": "full"})
    recipe = recipe_of(model, ParallelConfig(), compute, 1)
    world = World(device=bench.device)
    batch = random_batch(recipe, world, bucket)
    first = Sharded(recipe, world)
    losses = [first.step(batch) for _ in range(2)]
    checkpoints = Checkpoints(folder, 1)
    began = time.perf_counter()
    path = checkpoints.save(2, first.tensors(), {})
    stood = time.perf_counter() - began
    after = [first.step(batch) for _ in range(2)]  # beside the writing
    checkpoints.wait()
    written = time.perf_counter() - began
    second = Sharded(recipe, world)
    second.step(batch)  # makes the optimizer's state, which is then replaced
    load_tensors(path, second.tensors())
    again = [second.step(batch) for _ in range(2)]
    size = sum(file.stat().st_size for file in path.iterdir())
    return {
        "parameters": float(sum(p.numel() for p in first.model.parameters())), "loss_first": losses[0],
        "loss_last": after[-1], "stood_s": stood, "written_s": written, "gib": size / 2**30,
        "resumed_alike": after == again, "worst_difference": max(abs(a - b) for a, b in zip(after, again, strict=True)),
    }  # fmt: skip


class Sharded:
    """A network sharded over the one rank that there is, and its optimizer."""

    def __init__(self, recipe: TrainRecipe, world: World) -> None:
        self.recipe, self.world = recipe, world
        with torch.device("meta"):
            model: nn.Module = DiT(recipe.model)
        parallel.parallelize(model, recipe.parallel, recipe.compute, world)
        parallel._shard(model, recipe.parallel, world, half=world.device.type == "cuda")
        model.to_empty(device=world.device)
        model.init_weights(0)
        self.model = model
        self.parameters = dict(model.named_parameters())
        self.optimizer = make_optimizer(self.parameters, recipe.optim)
        self.objective = recipe.objective.build(model, recipe, world)

    def step(self, batch: object) -> float:
        parallel.accumulate(self.model, self.recipe.parallel, last=True)
        with parallel.autocast(self.recipe.compute, self.world.device):
            loss = self.objective.loss(batch).total
        loss.backward()
        clip_gradients(self.parameters, self.recipe.optim.clip_norm)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def tensors(self) -> dict[str, torch.Tensor]:
        weights = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        return weights | optimizer_tensors(self.optimizer, self.parameters)
