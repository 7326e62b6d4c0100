"""Adapters, and the linear layer that carries them."""

import math
import re
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn import functional as F

from reelwright.model.errors import ModelError


class LoRALinear(nn.Linear):
    """A linear layer with adapters. It takes over the parameters of `linear`, under the same names."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.lora = nn.ModuleDict()
        self.base: Tensor | None = None  # the weight as it was, while merged
        self.train(linear.training)

    def forward(self, x: Tensor) -> Tensor:
        """Apply the layer and its adapters: x [..., in] -> [..., out]."""
        return self.adapted(F.linear(x, self.weight, self.bias), x)

    def adapted(self, out: Tensor, x: Tensor) -> Tensor:
        """Add the adapters to the base layer's output, in x's type, or autocast's."""
        if self.base is None:
            for adapter in self.lora.values():
                if adapter.strength:
                    out = out + adapter(x)
        return out

    @torch.no_grad()
    def merge(self) -> None:
        """Add the adapters to the weight; its old value is kept on the CPU."""
        if self.base is not None:
            return
        self.base = _local(self.weight).detach().to("cpu", copy=True)
        updates = [a.update() for a in self.lora.values() if a.strength]
        if updates:
            update = like(self.weight, torch.stack(updates).sum(0) if len(updates) > 1 else updates[0])
            self.weight.copy_((self.weight.float() + update).to(self.weight.dtype))

    @torch.no_grad()
    def unmerge(self) -> None:
        """Put the weight back to its value before `merge`."""
        if self.base is not None:
            _local(self.weight).copy_(self.base)
            self.base = None


class Adapter(nn.Module):
    """down [blocks · rank, in], then blocks of up [out / blocks, rank]; alpha_scale = alpha / rank."""

    alpha_scale: Tensor

    def __init__(
        self, linear: nn.Linear, *, rank: int, blocks: int, scale: float, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        if linear.out_features % blocks:
            raise ModelError(f"{linear.out_features} outputs do not split into {blocks} equal blocks")
        where = {"device": linear.weight.device, "dtype": dtype or linear.weight.dtype}
        out = linear.out_features // blocks
        self.down = nn.Linear(linear.in_features, blocks * rank, bias=False, **where)
        self.up = nn.ModuleList(nn.Linear(rank, out, bias=False, **where) for _ in range(blocks))
        self.register_buffer("alpha_scale", torch.tensor(scale, device=linear.weight.device))
        self.rank, self.scale = rank, scale
        self.strength = 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Return the update of the output, x [..., in] -> [..., out], in x's dtype, or autocast's."""
        low = F.linear(x, self.down.weight.to(x.dtype)).chunk(len(self.up), dim=-1)
        parts = [F.linear(part, up.weight.to(x.dtype)) for part, up in zip(low, self.up, strict=True)]
        return (parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)) * (self.strength * self.scale)

    def update(self) -> Tensor:
        """Return the matrix that merging adds to the weight, [out, in] fp32."""
        downs = _full(self.down.weight).float().chunk(len(self.up))
        products = [_full(up.weight).float() @ down for up, down in zip(self.up, downs, strict=True)]
        return torch.cat(products) * (self.strength * self.scale)

    @torch.no_grad()
    def reset(self, *, seed: int) -> None:
        """Draw the first matrix from a seed and zero the second, so that the adapter begins without effect."""
        bound = 1 / math.sqrt(self.down.in_features)  # Kaiming-uniform with a = √5, as nn.Linear has it
        noise = torch.rand(tuple(self.down.weight.shape), generator=torch.Generator().manual_seed(seed))
        assign(self.down.weight, noise * (2 * bound) - bound)
        for up in self.up:
            up.weight.zero_()
        self.alpha_scale.fill_(self.scale)


def attach(
    model: nn.Module,
    layer_name: str,
    name: str,
    *,
    rank: int,
    blocks: int,
    scale: float,
    dtype: torch.dtype | None = None,
) -> Adapter:
    """Put an adapter on one layer, its values unset; the layer becomes a LoRALinear."""
    if not re.fullmatch(r"\w+", name):
        raise ModelError(f"{name!r} is no name of an adapter: letters, digits and _ only")
    layer = model.get_submodule(layer_name)
    if not isinstance(layer, nn.Linear):
        raise ModelError(f"{layer_name} is a {type(layer).__name__}; adapters go on linear layers")
    if not isinstance(layer, LoRALinear):
        layer = LoRALinear(layer)
        replace(model, layer_name, layer)
    if name in layer.lora:
        raise ModelError(f"{layer_name} has an adapter called {name!r}; remove it first, or take another name")
    if layer.base is not None:
        raise ModelError(f"{layer_name} is merged; unmerge before adding adapters")
    adapter = Adapter(layer, rank=rank, blocks=blocks, scale=scale, dtype=dtype)
    layer.lora[name] = adapter
    return adapter


@torch.no_grad()
def assign(target: Tensor, value: Tensor) -> None:
    """Copy a whole tensor into `target`, which may be one rank's shard of it. A meta tensor is left alone."""
    if not target.is_meta:
        target.copy_(like(target, value.to(target.device)))


def like(target: Tensor, value: Tensor) -> Tensor:
    """`value` as `target` is laid out: every rank holds the whole and keeps its part, without communication."""
    if isinstance(target, DTensor):
        return distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)
    return value


def lora_layers(model: nn.Module) -> list[tuple[str, LoRALinear]]:
    """Return (module name, layer) of each adapted layer."""
    return [(n, m) for n, m in model.named_modules() if isinstance(m, LoRALinear)]


def named_adapters(model: nn.Module, name: str) -> Iterator[tuple[str, Adapter]]:
    """(layer's module name, its adapter called `name`)."""
    return ((n, layer.lora[name]) for n, layer in lora_layers(model) if name in layer.lora)


def replace(model: nn.Module, name: str, layer: nn.Module) -> None:
    """Put `layer` in the place of the module called `name`."""
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, layer)


def _full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
