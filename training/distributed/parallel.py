"""Parallelism, put on a model from outside: activation checkpointing, then compilation, then sharding (FSDP2).

The order is the one that torchtitan found to work. Names of weights stay as they are: a block's `forward` is
replaced, not its module wrapped.
"""

import itertools
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn

from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ComputeConfig, ParallelConfig

COMPILED_SHAPES = 128
"""Default number of batch shapes to compile for, where their number is not known."""
KEPT_KEYS = 2048
"""Keys from which `checkpointing: attention` keeps an attention's output. Per byte of it, an attention costs 2 FLOPs
per key to compute again, and a linear layer as many FLOPs as it has inputs (4,096 in the published network): with fewer
keys, an attention is cheaper to compute again than the layers around it, which are computed again.
"""
MODES = 3
"""Each is compiled for training, for validation, and, as a later epoch may cut its batches otherwise, once more."""


def parallelize(
    model: nn.Module,
    parallel: ParallelConfig,
    compute: ComputeConfig,
    world: World,
    *,
    backend: Any = "inductor",
    half: bool | None = None,
    regions: bool = False,
) -> nn.Module:
    """Put a recipe's parallelism and memory savings on a DiT (its `blocks`), in place, and return it.

    Adapters (LoRA) go on before, optimizers are made after: parameters become DTensors. Gradients are summed over all
    ranks, not averaged: a rank's loss is its part of the step's (a sum over its samples / samples of the step).
    Context parallelism is set on a model by `training.distributed.context`, as it also splits the batches. backend:
    torch.compile's, where the recipe compiles. half: blocks travel in bf16; None: on GPUs, where precision is bf16.
    regions: attention is in no graph (a ring of sparse attention, `TrainRecipe.in_regions`). A block is then compiled
    before and after it, within the checkpoint: a checkpoint is one operation of a graph, and one around such attention
    would not be compiled at all. All of such a block is computed again, as what is kept is chosen within a graph.
    """
    for block in model.blocks:
        if compute.compile and regions:
            block.forward = _compiled(block.forward, backend)
        if compute.checkpointing != "none":
            block.forward = _recomputed(block.forward, "full" if regions else compute.checkpointing)
        if compute.compile and not regions:
            block.forward = _compiled(block.forward, backend)
    if world.size > 1:
        on_gpus = compute.precision == "bf16" and world.device.type == "cuda"
        _shard(model, parallel, world, half=on_gpus if half is None else half)
    return model


def autocast(compute: ComputeConfig, device: torch.device) -> AbstractContextManager[Any]:
    """Return the context of the forward pass: bf16 products over fp32 weights, or nothing.

    Its cache of rounded weights is off: a weight is used once per forward pass, and the cache would keep all of them.
    """
    if compute.precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16, cache_enabled=False)


def accumulate(model: nn.Module, parallel: ParallelConfig, *, last: bool) -> None:
    """Say before a micro-batch's backward whether it is the step's last.

    Gradients are reduced to shards after each micro-batch, which takes the least memory; replicas are summed once,
    at the last. With `gradients: whole` they stay whole on every rank until the last: one reduction per step. Under
    ZeRO-2 weights are gathered once per step: they stay whole between micro-batches, and go after the last. That takes
    no more memory at the peak, which lies at the end of a forward pass, where they are whole anyway.
    """
    from torch.distributed.fsdp import FSDPModule

    if isinstance(model, FSDPModule):
        model.set_is_last_backward(last)
        model.set_reshard_after_backward(last or parallel.reshard_after_forward)
        if parallel.gradients == "whole":
            model.set_requires_gradient_sync(last)
        else:
            model.set_requires_all_reduce(last)


def _shard(model: nn.Module, parallel: ParallelConfig, world: World, *, half: bool) -> None:
    """Each block a unit, its modulation another, the rest one: a block's are gathered while the one before computes."""
    from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

    # A block gives its keys and values to a cache as views; the warning is about changes in place, and there are none.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module .* returned a view tensor")
    mesh = _weights_mesh(world, parallel)
    reshard = parallel.reshard_after_forward
    exact, rounded = _precision(half=False), _precision(half=half)
    for block in model.blocks:
        fully_shard(block.adaLN_modulation, mesh=mesh, reshard_after_forward=reshard, mp_policy=exact)
        fully_shard(block, mesh=mesh, reshard_after_forward=reshard, mp_policy=rounded)
    fully_shard(model, mesh=mesh, reshard_after_forward=False, mp_policy=exact)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # FSDP2 averages over its ranks; the loss is divided by the whole step's samples already. Sums that every
            # backend knows, rather than NCCL's averages.
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    _prefetch_backward(list(model.blocks))
    model.register_forward_hook(_let_go)
    register_fsdp_forward_method(model, "cache")


def _prefetch_backward(blocks: list[Any]) -> None:
    """Fetch, while a block's backward pass computes, the block before it and that one's modulation.

    FSDP2 by itself fetches the unit before in forward order. Units alternate, so that would be this block's small
    modulation alone, and the block before would be asked for when it is wanted.
    """
    for before, block in itertools.pairwise(blocks):
        block.set_modules_to_backward_prefetch([before, before.adaLN_modulation])


def _let_go(model: nn.Module, inputs: Any, output: Any) -> None:
    """After a forward that no backward follows, weights that were kept whole go: they would outlive a change (EMA)."""
    from torch.distributed.fsdp import FSDPModule

    if not torch.is_grad_enabled():
        for module in model.modules():
            if isinstance(module, FSDPModule):
                module.reshard()


def _weights_mesh(world: World, parallel: ParallelConfig) -> Any:
    """Return the mesh that weights are sharded over, by `shard` and by `context`, with replicas around it (HSDP)."""
    from torch._subclasses.fake_tensor import unset_fake_temporarily
    from torch.distributed.device_mesh import init_device_mesh

    replicas, shards = parallel.replicate, world.size // parallel.replicate
    if shards * replicas != world.size:
        raise TrainError(f"parallel.replicate {replicas} does not divide the run's {world.size} ranks")
    with unset_fake_temporarily():  # a mesh holds real numbers, also where a step is traced without storage
        mesh = init_device_mesh(world.device.type, (replicas, shards), mesh_dim_names=("replicas", "shards"))
    return mesh if replicas > 1 else mesh["shards"]


def _precision(*, half: bool) -> Any:
    """Return FSDP2's precision policy.

    Blocks travel in bf16 on GPUs (half): half the bytes, autocast rounds them anyway, and no rounded copies wait for
    the backward pass. The rest (modulation, embedders, final layer) stays fp32, as the network computes there.
    Gradients are summed in fp32.
    """
    from torch.distributed.fsdp import MixedPrecisionPolicy

    return MixedPrecisionPolicy(
        param_dtype=torch.bfloat16 if half else None, reduce_dtype=torch.float32, cast_forward_inputs=False
    )


def _compiled(forward: Callable[..., Any], backend: Any) -> Callable[..., Any]:
    """One graph for all blocks, for each shape of batch (bucket, samples, condition frames): buckets are few."""
    compile_for(COMPILED_SHAPES)
    return torch.compile(forward, dynamic=False, backend=backend)


def compile_for(shapes: int) -> None:
    """Let blocks be compiled for so many shapes.

    Past PyTorch's limits it would run the rest uncompiled, and say so only in a log.
    """
    config = torch._dynamo.config
    config.recompile_limit = max(config.recompile_limit, MODES * shapes)
    config.accumulated_recompile_limit = max(config.accumulated_recompile_limit, MODES * shapes)


def _recomputed(forward: Callable[..., Any], form: str) -> Callable[..., Any]:
    """Return a forward whose activations are recomputed in the backward pass: all, or all but those worth keeping.

    No random numbers are drawn in a block, so no generator's state is kept for its second pass.
    """
    from torch.utils.checkpoint import checkpoint

    extra = {} if form == "full" else {"context_fn": _KEEPING[form]}
    return partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False, **extra)


def _keep_attention() -> Any:
    """Long attention is kept; linear layers, norms, RoPE and modulation are computed again."""
    from torch.utils.checkpoint import create_selective_checkpoint_contexts

    always, dense = frozenset(_long_attention()), frozenset(_dense_attention())

    def policy(_: Any, operator: Any, *arguments: Any, **__: Any) -> bool:
        """Arguments of every dense operator begin with q, k and v [B, heads, N, D]."""
        return operator in always or (operator in dense and bool(arguments[1].shape[2] >= KEPT_KEYS))

    return create_selective_checkpoint_contexts(policy)


def _keep_costly() -> Any:
    """Matrix products and attention are kept; norms, activations, RoPE and modulation are computed again."""
    from torch.utils.checkpoint import create_selective_checkpoint_contexts

    aten = torch.ops.aten
    products = [aten.mm.default, aten.addmm.default, aten.bmm.default]
    return create_selective_checkpoint_contexts([*products, *_long_attention(), *_dense_attention()])


_KEEPING = {"attention": _keep_attention, "selective": _keep_costly}


def _long_attention() -> list[Any]:
    """Attention that is there for long videos alone, and the choice of its blocks."""
    import reelwright.kernels.operator  # they make the operators known
    import reelwright.kernels.ranking
    import reelwright.training.distributed.ring  # noqa: F401

    ours = torch.ops.reelwright
    return [ours.block_sparse.default, ours.best_blocks.default, ours.ring_attention.default]


def _dense_attention() -> list[Any]:
    aten = torch.ops.aten
    return [
        aten._scaled_dot_product_flash_attention.default,
        aten._scaled_dot_product_efficient_attention.default,
        aten._scaled_dot_product_cudnn_attention.default,
        aten._scaled_dot_product_flash_attention_for_cpu.default,
    ]
