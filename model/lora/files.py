"""LoRA files: load onto a model, save from one with the published keys, and translate names.

A layer's tensors are `lora___lorahyphen___` + its module name with `___lorahyphen___` for the dots, then
`.lora_down.weight`, `.lora_up.weight` (or `.lora_up.blocks.{j}.weight` where the layer is fused) and `.alpha_scale`,
which holds alpha / rank (in the parity file: 0.5 for alpha 2 and rank 4). Files of other trainers are recognised by
their keys and read by `reelwright.model.lora.read_forms`; `reelwright.model.lora.forms` writes them.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from reelwright.model.errors import ModelError
from reelwright.model.lora.layer_weights import LayerWeights
from reelwright.model.lora.layers import Adapter, assign, attach, named_adapters
from reelwright.model.lora.read_forms import READABLE, looks_like_lora, parse_forms
from reelwright.model.weights.weight_files import open_weights, save_tensors, unreadable

DOT = "___lorahyphen___"
_FILE_KEY = re.compile(
    r"lora___lorahyphen___(?P<layer>.+)\.(?P<part>lora_down\.weight|lora_up\.(?:blocks\.\d+\.)?weight|alpha_scale)"
)
_STATE_KEY = re.compile(r"(?P<layer>.+)\.lora\.(?P<name>\w+)\.(?P<part>down\.weight|up\.\d+\.weight|alpha_scale)")


def load_lora(model: nn.Module, path: str | Path, *, name: str = "default", weight: float = 1.0) -> list[str]:
    """Put a file's adapters on the model under `name`, weighted; return the layers. Their dtype is the file's.

    An adapter of that name that is there already (from `add_lora`, perhaps sharded since) is filled instead, and has to
    have the file's layers and shapes. Raises ModelError with one sentence if the file does not fit; nothing has been
    changed then.
    """
    layers = read_lora(path)
    there = dict(named_adapters(model, name))
    check_layers(model, layers, there, path)
    for layer_name, found in layers.items():
        adapter = there.get(layer_name) or attach(
            model,
            layer_name,
            name,
            rank=found.rank,
            blocks=len(found.ups),
            scale=float(found.scale),
            dtype=found.down.dtype,
        )
        assign(adapter.down.weight, found.down)
        for up, value in zip(adapter.up, found.ups, strict=True):
            assign(up.weight, value)
        adapter.scale, adapter.strength = float(found.scale), weight
        adapter.alpha_scale = found.scale.to(adapter.alpha_scale.device)
    return list(layers)


def save_lora(model: nn.Module, path: str | Path, *, name: str = "default") -> None:
    """Write the adapter `name` with published keys. Every rank of a sharded model calls this; rank 0 writes."""
    tensors = lora_state(model, name=name)
    if not tensors:
        raise ModelError(f"the model has no adapter called {name!r}")
    if not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0:
        write_lora(tensors, path)


def lora_state(model: nn.Module, *, name: str = "default") -> dict[str, Tensor]:
    """Return the adapter's whole tensors under published keys, on the CPU."""
    state = {
        f"{layer}.lora.{name}.{key}": (v.full_tensor() if isinstance(v, DTensor) else v).detach().cpu()
        for layer, adapter in named_adapters(model, name)
        for key, v in adapter.state_dict().items()
    }
    return to_published(state, name=name)


def write_lora(tensors: Mapping[str, Tensor], path: str | Path) -> None:
    """tensors: under published keys. Rank and alpha are written into the file's metadata too, where one fits all."""
    path = Path(path)
    layers = parse_lora(tensors, path).values()
    metadata = {"format": "pt"}
    if len(sizes := {(w.rank, w.alpha) for w in layers}) == 1:
        ((rank, alpha),) = sizes
        metadata |= {"rank": str(rank), "alpha": f"{alpha:g}"}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors({k: t.contiguous() for k, t in tensors.items()}, path, metadata)


def is_lora(names: Iterable[str]) -> bool:
    """Return whether the names belong to a LoRA file, published or of another trainer."""
    names = list(names)
    return any(name.startswith(f"lora{DOT}") for name in names) or looks_like_lora(names)


def read_lora(path: str | Path) -> dict[str, LayerWeights]:
    """Read the weights of a file, or of the one in a folder, by layer (module name), whichever known form it has.

    Raises:
        ModelError: the file, its names or its ranks cannot be read.
    """
    from safetensors import SafetensorError, safe_open

    if Path(path).is_dir():
        path = open_weights(path).files[0]
    try:
        with safe_open(str(path), "pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            header = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise unreadable(path, error, "LoRA") from None
    if any(name.startswith(f"lora{DOT}") for name in tensors):
        return parse_lora(tensors, path)
    if looks_like_lora(tensors):
        return parse_forms(tensors, header, path)
    raise ModelError(
        f"{path}: {len(tensors)} keys, of which none is a LoRA's ({_some(list(tensors))}); LoRAs of {READABLE} are read"
    )


def parse_lora(tensors: Mapping[str, Tensor], path: str | Path) -> dict[str, LayerWeights]:
    """Tensors under published keys, by layer. Raises ModelError naming keys that are no LoRA keys, and gaps."""
    parts: dict[str, dict[str, Tensor]] = {}
    unexpected = []
    for key, tensor in tensors.items():
        if match := _FILE_KEY.fullmatch(key):
            parts.setdefault(match["layer"].replace(DOT, "."), {})[match["part"]] = tensor
        else:
            unexpected.append(key)
    if unexpected or not parts:
        raise ModelError(
            f"{path}: {len(unexpected)} of {len(tensors)} keys are no LoRA keys (lora{DOT}…): {_some(unexpected)}"
        )
    return {layer: _layer(layer, found, path) for layer, found in sorted(parts.items())}


def to_published(state: Mapping[str, Tensor], *, name: str = "default") -> dict[str, Tensor]:
    """Return a model's state under `….lora.NAME.…` as published keys; other entries are left out."""
    matches = [m for m in map(_STATE_KEY.fullmatch, state) if m and m["name"] == name]
    fused = {m["layer"] for m in matches if m["part"] == "up.1.weight"}
    return {_file_key(m["layer"], m["part"], m["layer"] in fused): state[m.string] for m in matches}


def published_tensors(layers: Mapping[str, LayerWeights]) -> dict[str, Tensor]:
    """Return layers' tensors under published keys."""
    tensors: dict[str, Tensor] = {}
    for layer, weights in layers.items():
        fused = len(weights.ups) > 1
        parts = {"down.weight": weights.down, "alpha_scale": weights.scale}
        parts |= {f"up.{i}.weight": up for i, up in enumerate(weights.ups)}
        tensors |= {_file_key(layer, part, fused): tensor for part, tensor in parts.items()}
    return tensors


def adapter_names(state: Mapping[str, Tensor]) -> list[str]:
    """Names of the adapters in a model's state."""
    return sorted({m["name"] for m in map(_STATE_KEY.fullmatch, state) if m})


def _file_key(layer: str, part: str, fused: bool) -> str:
    if part == "down.weight":
        part = "lora_down.weight"
    elif part.startswith("up."):
        part = f"lora_up.blocks.{part.split('.')[1]}.weight" if fused else "lora_up.weight"
    return f"lora{DOT}{layer.replace('.', DOT)}.{part}"


def _layer(layer: str, found: dict[str, Tensor], path: str | Path) -> LayerWeights:
    ups = [found[k] for k in sorted(found, key=_block) if k.startswith("lora_up")]
    blocks = [_block(k) for k in sorted(found, key=_block) if k.startswith("lora_up")]
    down = found.get("lora_down.weight")
    if down is None or not ups or blocks not in ([-1], list(range(len(ups)))):
        raise ModelError(f"{path}: {layer} is not whole; it has only {', '.join(sorted(found))}")
    weights = LayerWeights(down, ups, found.get("alpha_scale", torch.tensor(1.0)))
    if down.shape[0] % len(ups) or any(up.shape != (ups[0].shape[0], weights.rank) for up in ups):
        shapes = [tuple(t.shape) for t in (down, *ups)]
        raise ModelError(f"{path}: {layer}: down and up do not fit each other: {shapes}")
    return weights


def _block(part: str) -> int:
    found = re.search(r"blocks\.(\d+)", part)
    return int(found[1]) if found else -1


def check_layers(
    model: nn.Module, layers: Mapping[str, LayerWeights], there: Mapping[str, Adapter], path: str | Path
) -> None:
    """Raise ModelError if a file's layers do not fit the model, or not the adapters `there`."""
    modules = dict(model.named_modules())
    unknown = [n for n in layers if not isinstance(modules.get(n), nn.Linear)]
    if unknown:
        raise ModelError(f"{path}: {len(unknown)} of its {len(layers)} layers are not in the model: {_some(unknown)}")
    for name, weights in layers.items():
        sizes = (weights.down.shape[1], sum(up.shape[0] for up in weights.ups))
        expected = (modules[name].in_features, modules[name].out_features)
        if sizes != expected:
            raise ModelError(
                f"{path}: {name}: {sizes[0]} -> {sizes[1]}; the model has {expected[0]} -> {expected[1]}; the LoRA "
                "is for a network of other sizes: give weights like those that it was trained on"
            )
        if name in there and (there[name].rank, len(there[name].up)) != (weights.rank, len(weights.ups)):
            raise ModelError(f"{path}: {name} has rank {weights.rank}; the model's adapter has {there[name].rank}")
    if missing := sorted(there.keys() - layers.keys()):
        raise ModelError(f"{path}: nothing for {len(missing)} layers that have this adapter: {_some(missing)}")


def _some(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")
