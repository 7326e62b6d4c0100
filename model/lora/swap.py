"""Other adapters on a network for a while: the stages of coarse to fine share one base."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn

from reelwright.model.errors import ModelError
from reelwright.model.lora.layers import lora_layers


@contextmanager
def only_adapters(model: nn.Module, weights: Mapping[str, float]) -> Iterator[None]:
    """Within, the named adapters alone are on, with these weights; after it all is as it was, bit for bit.

    Merged layers are unmerged within, so that no weight is rounded twice, and merged again from the base afterwards.

    Args:
        model: with all adapters attached.
        weights: strengths by name; empty: the base alone.

    Raises:
        ModelError: no layer has an adapter of a name.
    """
    layers = [layer for _, layer in lora_layers(model)]
    there = {name for layer in layers for name in layer.lora}
    if unknown := sorted(set(weights) - there):
        raise ModelError(f"no adapter is called {unknown[0]!r}; there are: {', '.join(sorted(there)) or 'none'}")
    before = [(layer, layer.base is not None, {n: a.strength for n, a in layer.lora.items()}) for layer in layers]
    try:
        for layer in layers:
            layer.unmerge()
            for name, adapter in layer.lora.items():
                adapter.strength = float(weights.get(name, 0.0))
        yield
    finally:
        for layer, was_merged, strengths in before:
            for name, strength in strengths.items():
                layer.lora[name].strength = strength
            if was_merged:
                layer.merge()
