"""LoRA as it is trained: adapters in fp32 on a frozen network, of which no more is held than the products use."""

import torch
from torch import nn

from reelwright.model.config import LoRAConfig
from reelwright.model.lora.adapters import add_lora
from reelwright.training.recipe import ComputeConfig

MODULATION = "adaLN_modulation"
"""What of a block is computed in fp32, and held and sharded so."""


def adapt(model: nn.Module, lora: LoRAConfig, compute: ComputeConfig, *, seed: int = 0) -> None:
    """Put adapters on a DiT, before `parallelize`.

    Under bf16 the frozen linears of the blocks are held in bf16, which changes no bit of a forward or backward pass:
    autocast rounds them so at every use. The rest stays fp32, as the network computes there: modulation, norms,
    embedders, the final layer.
    """
    if compute.precision == "bf16":
        for name, layer in model.blocks.named_modules():
            if isinstance(layer, nn.Linear) and MODULATION not in name:
                halve(layer)
    add_lora(model, lora, seed=seed, dtype=torch.float32)


def halve_blocks(model: nn.Module) -> None:
    """Make a DiT's blocks bf16 as FSDP gathers them: all but the modulation."""
    for block in model.blocks:
        for name, part in block.named_children():
            if name != MODULATION:
                halve(part)


def halve(module: nn.Module) -> None:
    """Make all of a module's parameters bf16. `Module.to` would not do for tensors without storage (FakeTensor)."""
    for part in module.modules():
        for name, p in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(p.detach().bfloat16(), requires_grad=p.requires_grad))
