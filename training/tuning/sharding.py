"""FSDP2 on a vision-language model: each block of the language model is a unit, the rest is one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor, nn

    from reelwright.training.distributed.world import World


def blocks_of(model: Any) -> list[nn.Module]:
    """Return the blocks of the language model."""
    inner = getattr(model, "vlm", model)
    return list(inner.model.language_model.layers)


def shard(network: nn.Module, world: World) -> nn.Module:
    """Shard a network over the ranks of a run, in place; gradients are sums over ranks, not means."""
    if world.size == 1:
        return network
    import torch
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    assert world.mesh is not None
    half = torch.bfloat16 if world.device.type == "cuda" else None
    policy = MixedPrecisionPolicy(param_dtype=half, reduce_dtype=torch.float32, cast_forward_inputs=False)
    mesh = world.mesh["shard"]
    for block in blocks_of(network):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    exact = MixedPrecisionPolicy(reduce_dtype=torch.float32, cast_forward_inputs=False)
    fully_shard(network, mesh=mesh, mp_policy=exact, reshard_after_forward=False)
    for module in network.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)
    return network


def whole(parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return trained weights whole, on the CPU, of all ranks' shards. All ranks call it together."""
    from torch.distributed.tensor import DTensor

    found = {}
    for name, parameter in parameters.items():
        weight = parameter.detach()
        found[name] = (weight.full_tensor() if isinstance(weight, DTensor) else weight).cpu()
    return found
