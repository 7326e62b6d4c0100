"""Low-rank adapters on linear layers: several at once with weights, block-diagonal on fused layers, merged or not.

An adapted layer computes W x + b + Σ weight · alpha/rank · up(down(x)). On a layer that fuses n projections (qkv: 3,
kv_linear: 2) the update is block-diagonal: `down` is [n · rank, in], and each of n `up`s [out / n, rank] sees its own
rank features. Source: Hu et al. 2021 (arXiv 2106.09685); the layout is the published one. Layers: `model.lora.layers`;
files: `reelwright.model.lora.files`.
"""

import zlib
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import torch
from torch import nn

from reelwright.model.config import LoRAConfig
from reelwright.model.errors import ModelError
from reelwright.model.lora.files import load_lora, save_lora
from reelwright.model.lora.layers import LoRALinear, attach, lora_layers, replace

__all__ = [
    "LoRALinear",
    "adapter_prefixes",
    "add_lora",
    "freeze_base",
    "init_lora",
    "load_lora",
    "lora_layers",
    "lora_parameters",
    "merge_lora",
    "remove_lora",
    "save_lora",
    "set_lora_weights",
    "unmerge_lora",
]

FUSED = {"qkv": 3, "kv_linear": 2}
"""Projections that a layer of this name holds; any other holds one."""


def add_lora(
    model: nn.Module,
    config: LoRAConfig,
    *,
    name: str = "default",
    seed: int = 0,
    dtype: torch.dtype | None = None,
    freeze: bool = True,
) -> list[str]:
    """Put a new adapter on every nn.Linear whose module name matches one of `config.targets`; return those names.

    The model computes what it did before: up is zero. down is Kaiming-uniform, from `seed` and the layer's name alone,
    so that it does not depend on ranks or order. On a meta model call `init_lora` once there are bytes. Adapters have
    the layer's dtype, or `dtype`. freeze: nothing but adapters asks for gradients. Add before FSDP wraps the model.
    Raises ModelError where nothing matches, or a layer has an adapter of this name.
    """
    found = [n for n, m in model.named_modules() if isinstance(m, nn.Linear) and _matches(n, config.targets)]
    found = [n for n in found if not n.startswith(tuple(adapter_prefixes(model)))]
    if not found:
        raise ModelError(f"no linear layer matches {', '.join(config.targets)}; names are those of the state dict")
    for layer_name in found:
        blocks = FUSED.get(layer_name.rpartition(".")[2], 1)
        attach(model, layer_name, name, rank=config.rank, blocks=blocks, scale=config.alpha / config.rank, dtype=dtype)
    if freeze:
        freeze_base(model)
    init_lora(model, name=name, seed=seed)
    return found


def init_lora(model: nn.Module, *, name: str = "default", seed: int = 0) -> None:
    """Set an adapter as new (also after `to_empty`, also sharded by FSDP2). Tensors on the meta device stay there."""
    for layer_name, layer in lora_layers(model):
        if name in layer.lora:
            layer.lora[name].reset(seed=zlib.crc32(f"{seed}/{layer_name}".encode()))


def freeze_base(model: nn.Module) -> None:
    """Let adapters alone ask for gradients."""
    adapters = {id(p) for p in lora_parameters(model)}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in adapters)


def lora_parameters(model: nn.Module, name: str | None = None) -> list[nn.Parameter]:
    """Parameters of one adapter, or of all."""
    adapters = ((n, a) for _, layer in lora_layers(model) for n, a in layer.lora.items())
    return [p for n, adapter in adapters if name in (None, n) for p in adapter.parameters()]


def adapter_prefixes(model: nn.Module) -> list[str]:
    """Return the prefix of each adapter's names in a state: `blocks.0.attn.qkv.lora.default.`."""
    return [f"{layer_name}.lora.{name}." for layer_name, layer in lora_layers(model) for name in layer.lora]


def set_lora_weights(model: nn.Module, weights: Mapping[str, float]) -> None:
    """Weigh adapters by name (0: off); adapters without a weight keep theirs. Merged layers are merged again."""
    there = {n for _, layer in lora_layers(model) for n in layer.lora}
    if unknown := sorted(set(weights) - there):
        raise ModelError(f"no adapter is called {unknown[0]!r}; there are: {', '.join(sorted(there)) or 'none'}")
    for _, layer in lora_layers(model):
        was_merged = layer.base is not None
        layer.unmerge()
        for name in layer.lora.keys() & weights.keys():
            layer.lora[name].strength = float(weights[name])
        if was_merged:
            layer.merge()


def merge_lora(model: nn.Module, *, keep_base: bool = True) -> None:
    """Add the weighted adapters into the weights: the forward then costs nothing extra, and trains no adapter.

    The sum is made in fp32 and rounded once. Taking it off again by subtraction would leave rounding errors, so a copy
    of each base weight is kept, in host memory, and `unmerge_lora` is exact to the bit. keep_base=False keeps none and
    takes the adapters away: the model is then a plain one, for export or for good.
    """
    for _, layer in lora_layers(model):
        layer.merge()
        if not keep_base:  # at once, so that the host never holds more than one layer's copy
            layer.base = None
            layer.lora.clear()
    if not keep_base:
        _drop_bare_layers(model)


def unmerge_lora(model: nn.Module) -> None:
    """Put the base weights back, bit for bit."""
    for _, layer in lora_layers(model):
        layer.unmerge()


def remove_lora(model: nn.Module, name: str | None = None) -> None:
    """Take one adapter away, or all; a layer that has none left is a plain nn.Linear again."""
    for _, layer in lora_layers(model):
        was_merged = layer.base is not None
        layer.unmerge()
        for one in [n for n in layer.lora if name in (None, n)]:
            del layer.lora[one]
        if was_merged and layer.lora:
            layer.merge()
    _drop_bare_layers(model)


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _drop_bare_layers(model: nn.Module) -> None:
    for name, layer in lora_layers(model):
        if not layer.lora:
            plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
            plain.weight, plain.bias = layer.weight, layer.bias
            replace(model, name, plain.train(layer.training))
