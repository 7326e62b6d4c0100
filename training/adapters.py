"""LoRA in training: adapters in fp32 on a frozen network, held in the types that its products use."""

import torch
from torch import Tensor, nn

from reelwright.model.config import LoRAConfig
from reelwright.model.lora.adapters import adapter_prefixes, add_lora, lora_parameters
from reelwright.training.recipe import ComputeConfig, TrainRecipe
from reelwright.training.registry import STUDENT

MODULATION = "adaLN_modulation"
"""The part of a block that is computed, held and sharded in fp32."""


def adapt_all(model: nn.Module, recipe: TrainRecipe) -> None:
    """Put all adapters of a LoRA recipe on a DiT, before `parallelize`; only the first asks for gradients.

    An objective that trains another one, such as a critic, lets it ask for gradients when it is built: after the
    trainer has made its list of weights.
    """
    assert recipe.lora
    for part in recipe.objective.adapters:
        adapt(model, recipe.lora, recipe.compute, name=part.name, seed=recipe.seed)
    for part in recipe.objective.adapters:
        for parameter in lora_parameters(model, part.name):
            parameter.requires_grad_(part.name == STUDENT)


def adapt(model: nn.Module, lora: LoRAConfig, compute: ComputeConfig, *, name: str = STUDENT, seed: int = 0) -> None:
    """Put adapters on a DiT, before `parallelize`. Several may lie side by side, under names of their own.

    Under bf16 the frozen linears of the blocks are held in bf16, which changes no bit of a forward or backward pass:
    autocast rounds them so at every use. The rest stays fp32, as the network computes there: modulation, norms,
    embedders, the final layer.
    """
    if compute.precision == "bf16" and not adapter_prefixes(model):  # later adapters stay fp32, as the first ones do
        for path, layer in model.blocks.named_modules():
            if isinstance(layer, nn.Linear) and MODULATION not in path:
                to_bf16(layer)
    add_lora(model, lora, name=name, seed=seed, dtype=torch.float32)


def trainable_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights that a checkpoint must hold, by name: all of a network, or the adapters that are trained.

    Where only adapters ask for gradients, the base and frozen adapters do not change and are left out.
    """
    state = {name: tensor.detach() for name, tensor in model.state_dict().items()}
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    adapters = [prefix for prefix in adapter_prefixes(model) if any(name.startswith(prefix) for name in trained)]
    if not adapters or not all(name.startswith(tuple(adapters)) for name in trained):
        return state
    return {name: tensor for name, tensor in state.items() if name.startswith(tuple(adapters))}


def base_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a network without its adapters, by name."""
    adapters = tuple(adapter_prefixes(model))
    return {name: tensor.detach() for name, tensor in model.state_dict().items() if not name.startswith(adapters)}


def blocks_to_bf16(model: nn.Module) -> None:
    """Make a DiT's blocks bf16 as FSDP gathers them: all but the modulation."""
    for block in model.blocks:
        for name, part in block.named_children():
            if name != MODULATION:
                to_bf16(part)


def to_bf16(module: nn.Module) -> None:
    """Make all of a module's parameters bf16. `Module.to` would not do for tensors without storage (FakeTensor)."""
    for part in module.modules():
        for name, p in list(part.named_parameters(recurse=False)):
            setattr(part, name, nn.Parameter(p.detach().bfloat16(), requires_grad=p.requires_grad))
