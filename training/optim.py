"""AdamW as the report uses it: one rate per stage, an optional warm-up, decay on matrices alone."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from reelwright.training.recipe import OptimConfig


def make_optimizer(parameters: Mapping[str, nn.Parameter], config: OptimConfig) -> torch.optim.AdamW:
    """AdamW, fused where the weights' devices have it. Make it after the model was parallelized."""
    matrices = [p for p in parameters.values() if p.ndim >= 2]
    others = [p for p in parameters.values() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    fused = all(p.device.type in {"cpu", "cuda"} for p in parameters.values())
    return torch.optim.AdamW(
        [g for g in groups if g["params"]], lr=config.lr, betas=config.betas, eps=config.eps, fused=fused
    )


def learning_rate(step: int, config: OptimConfig) -> float:
    """Rate of step `step` (from 0): it rises linearly over `warmup_steps`, then stays."""
    return config.lr * min(1.0, (step + 1) / (config.warmup_steps + 1))


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate of all groups."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """Return "optim.<parameter>.<exp_avg | exp_avg_sq | step>": AdamW's own tensors, to be saved or filled in place.

    Tensors that AdamW makes at its first step are made here if they are missing. Rates and decay are the recipe's.
    """
    out = {}
    for name, parameter in parameters.items():
        state = optimizer.state[parameter]
        if not state:
            zeros = torch.zeros_like(parameter, memory_format=torch.preserve_format).detach()
            step = torch.zeros((), device=parameter.device)
            state.update(step=step, exp_avg=zeros, exp_avg_sq=zeros.clone())
        out.update({f"optim.{name}.{key}": value for key, value in state.items()})
    return out


@torch.no_grad()
def clip_gradients(parameters: Mapping[str, nn.Parameter], max_norm: float) -> float:
    """Scale the gradients down to a total norm of `max_norm`; returns their norm before, over all shards (collective).

    One that is not finite scales nothing: the guard will see it.
    """
    gradients = [p.grad for p in parameters.values() if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients)
    total = float(norm.full_tensor() if isinstance(norm, DTensor) else norm)
    if max_norm < total < float("inf"):
        torch._foreach_mul_(gradients, max_norm / total)
    return total
