"""Weights in and out: published folders and LoRA files to checked ones of ours, training checkpoints to published ones.

A folder of ours is the published layout (config.json, diffusion_pytorch_model*.safetensors, index) or one LoRA file,
with about.json beside it: where the weights come from, and their hash.
"""

import heapq
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelwright.errors import UserError, first_line
from reelwright.model.checkpoint import KeyReport, compare_keys, save_model, weights_hash
from reelwright.model.config import DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.lora.files import (
    DOT,
    adapter_names,
    check_layers,
    published_tensors,
    read_lora,
    to_published,
    write_lora,
)
from reelwright.model.lora.layer_weights import LayerWeights
from reelwright.model.weights.about import ABOUT, read_note
from reelwright.model.weights.weight_files import ANCHOR, TensorFiles, open_weights
from reelwright.training.checkpoints import find_checkpoint, read_metadata, stream_tensors, tensor_names
from reelwright.training.errors import TrainError
from reelwright.training.recipe import TrainRecipe

LORA_FILE = "lora.safetensors"

TRAINED = ("step", "recipe_fingerprint", "snapshot", "encoder_fingerprint", "code_version", "parent", "adapters")
FOR_SAMPLING = ("objective", "sampling", "attention", "timing")
"""What about.json says of a training: what weights or a LoRA are for, by which shift they are sampled, the attention
that they were trained with, and how an expert's first stage was enlarged."""


@dataclass(frozen=True)
class Written:
    """The result of a command."""

    path: Path
    parameters: int
    num_bytes: int
    files: int
    sha256: str


def meta_model(config: DiTConfig) -> DiT:
    """Build the network without storage."""
    with torch.device("meta"):
        return DiT(config)


def report_keys(weights: TensorFiles, config: DiTConfig) -> KeyReport:
    """Compare a folder's keys with the network of `config`."""
    return compare_keys(meta_model(config), weights.shapes())


def import_weights(
    source: Path,
    out: Path,
    config: DiTConfig,
    extra: dict[str, Any],
    report: KeyReport,
    *,
    dtype: torch.dtype | None,
    max_shard_bytes: int,
) -> Written:
    """Copy the tensors that fit, a shard at a time; missing tensors are drawn as for a new network."""
    weights = open_weights(source)
    fresh: dict[str, Tensor] = {}
    if report.missing:
        model = DiT(config)
        model.init_weights(0)
        fresh = {name: model.state_dict()[name] for name in report.missing}
    fitting = set(report.fitting)
    tensors = chain(((name, weights[name]) for name in weights if name in fitting), fresh.items())
    save_model(tensors, config, out, max_shard_bytes=max_shard_bytes, dtype=dtype, extra=extra)
    return finish(out, {"kind": "weights", "source": str(source), "initialised": list(report.missing)})


def check_lora(path: Path, config: DiTConfig) -> dict[str, LayerWeights]:
    """Read a LoRA file's layers; raise ModelError unless all are linears of the network of `config`."""
    layers = read_lora(path)
    check_layers(meta_model(config), layers, {}, path)
    return layers


def import_lora(source: Path, out: Path) -> Written:
    """Write a LoRA file of any known form to a folder with published keys, once it has been checked."""
    weights = open_weights(source)
    tensors = {name: weights[name] for name in weights}
    if not any(name.startswith(f"lora{DOT}") for name in tensors):
        tensors = published_tensors(read_lora(source))
    return _write_lora(tensors, out, {"kind": "lora", "source": str(source)})


def export_weights(
    checkpoint: Path, out: Path, *, ema: bool, dtype: torch.dtype | None, max_shard_bytes: int, base: Path | None = None
) -> Written:
    """Write a training checkpoint's network in the published layout; adapters are merged into it."""
    path = find_checkpoint(checkpoint)
    recipe = recipe_of(path)
    note = {"kind": "weights", "merged": merged_adapters(path), "recipe": recipe.model_dump(mode="json")}
    stream = network_tensors(path, ema=ema, base=base)
    save_model(stream, recipe.model, out, max_shard_bytes=max_shard_bytes, dtype=dtype)
    return finish(out, lineage_of(path, ema) | note)


def merged_adapters(path: Path) -> list[str]:
    """Return the names of a training checkpoint's adapters; where it has none, check that its network is whole."""
    shapes = {n.removeprefix("model."): s for n, s in tensor_names(path).items() if n.startswith("model.")}
    names = adapter_names(shapes)
    if not names:
        compare_keys(meta_model(recipe_of(path).model), shapes).check(path)
    return names


def exported_recipe(weights: Path) -> TrainRecipe | None:
    """Return the recipe that exported weights were trained by; None for weights of others.

    It says their codec, text encoder, sizes and noise levels.
    """
    try:
        return TrainRecipe(**(read_note(weights) or {})["recipe"])
    except (ValueError, KeyError, TypeError):
        return None


def network_tensors(checkpoint: Path, *, ema: bool, base: Path | None = None) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of a training checkpoint's whole network in the order of names, one in memory at a time.

    ema: averaged weights. Adapters are merged into the weights that the run began with (it does not store them again):
    those of `base`, or of where the checkpoint says they were. UserError if they are not there any more.
    """
    path = find_checkpoint(checkpoint)
    recipe, names = recipe_of(path), tensor_names(path)
    stream = _tensors(path, ema)
    if adapter_names(names) and f"model.{ANCHOR}" not in names:
        stream = heapq.merge(_base(path, recipe, base), stream, key=lambda pair: pair[0])
    return merge_stream(stream, _scale(recipe))


def export_lora(checkpoint: Path, out: Path, *, ema: bool, dtype: torch.dtype | None, name: str) -> Written:
    """Write a training checkpoint's adapter as a LoRA file with published keys."""
    path = find_checkpoint(checkpoint)
    tensors = adapter_tensors(path, ema=ema, dtype=dtype, name=name)
    return _write_lora(tensors, out, lineage_of(path, ema) | {"kind": "lora"})


def adapter_tensors(path: Path, *, ema: bool, dtype: torch.dtype | None, name: str) -> dict[str, Tensor]:
    """Return a training checkpoint's adapter under published keys.

    Raises:
        UserError: it has no adapter of this name.
    """
    there = adapter_names(tensor_names(path))
    if name not in there:
        have = f"it has {', '.join(there)}" if there else "it has none; without --lora the whole network is exported"
        raise UserError(f"{path}: no adapter is called {name!r}; {have}")
    recipe = recipe_of(path)
    state = {n: t.to(dtype) if dtype and t.ndim else t for n, t in _tensors(path, ema) if f".lora.{name}." in n}
    tensors = to_published(state, name=name)
    for layer in {n.rpartition(".lora.")[0] for n in state}:  # a checkpoint of parameters alone has no scale
        tensors.setdefault(f"lora{DOT}{layer.replace('.', DOT)}.alpha_scale", torch.tensor(_scale(recipe)))
    return tensors


def merge_stream(tensors: Iterable[tuple[str, Tensor]], scale: float) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) in the order of names, adapters added into the weight after them: bias < lora.… < weight.

    A weight is summed in fp32 and rounded once, as `merge_lora` does. scale: alpha / rank where it is not among them.
    """
    for layer, group in groupby(tensors, key=lambda pair: _layer(pair[0])):
        adapters: dict[str, dict[str, Tensor]] = {}
        for name, tensor in group:
            if ".lora." in name:
                adapter, _, part = name.removeprefix(f"{layer}.lora.").partition(".")
                adapters.setdefault(adapter, {})[part] = tensor
            elif adapters and name == f"{layer}.weight":
                yield name, _merged(tensor, adapters, scale)
            else:
                yield name, tensor


def _tensors(path: Path, ema: bool) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of the model in the order of names; averages in place of the weights they average."""
    if not ema:
        yield from stream_tensors(path, "model.")
        return
    averaged = {n.removeprefix("ema.") for n in tensor_names(path) if n.startswith("ema.")}
    if not averaged:
        raise UserError(f"{path}: it holds no averaged weights (optim.ema was 0); leave out --ema")
    rest = ((n, t) for n, t in stream_tensors(path, "model.") if n not in averaged)
    yield from heapq.merge(stream_tensors(path, "ema."), rest, key=lambda pair: pair[0])


def _base(path: Path, recipe: TrainRecipe, base: Path | None) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights that a LoRA run began with, in the order of names; averages where `reel train` takes them."""
    began = (read_metadata(path).get("parent") or {}).get("path")
    place = base or Path(began or recipe.init)
    if not place.exists():
        raise UserError(f"{path} holds adapters alone, and their base {place} is not there; say where with --base")
    try:
        found = find_checkpoint(place)
    except TrainError:
        weights = open_weights(place)
        compare_keys(meta_model(recipe.model), weights.shapes()).check(place)
        return ((name, weights[name]) for name in sorted(weights))
    return _tensors(found, any(name.startswith("ema.") for name in tensor_names(found)))


def _merged(weight: Tensor, adapters: dict[str, dict[str, Tensor]], scale: float) -> Tensor:
    total = weight.float()
    for parts in adapters.values():
        ups = [parts[k] for k in sorted((k for k in parts if k.startswith("up.")), key=lambda k: int(k.split(".")[1]))]
        down = parts["down.weight"].float().chunk(len(ups))
        factor = float(parts["alpha_scale"]) if "alpha_scale" in parts else scale
        total = total + torch.cat([up.float() @ low for up, low in zip(ups, down, strict=True)]) * factor
    return total.to(weight.dtype)


def _layer(name: str) -> str:
    return name.partition(".lora.")[0] if ".lora." in name else name.rpartition(".")[0]


def _scale(recipe: TrainRecipe) -> float:
    return recipe.lora.alpha / recipe.lora.rank if recipe.lora else 1.0


def recipe_of(path: Path) -> TrainRecipe:
    """Return the recipe of a checkpoint; raise UserError if it cannot be read."""
    try:
        return TrainRecipe(**read_metadata(path)["recipe"])
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: its recipe cannot be read ({first_line(error)})") from None


def lineage_of(path: Path, ema: bool) -> dict[str, Any]:
    """Return what about.json says of a training checkpoint: step, snapshot, fingerprints, parent."""
    found = read_metadata(path)
    recipe = found.get("recipe") or {}
    said = {name: recipe[name] for name in FOR_SAMPLING if recipe.get(name)}
    if pair := (recipe.get("data") or {}).get("pair"):
        said["timing"] = pair["timing"]
    return {"source": str(path), "ema": ema, **{k: found[k] for k in TRAINED if k in found}, **said}


def _write_lora(tensors: dict[str, Tensor], out: Path, note: dict[str, Any]) -> Written:
    refuse_full(out)
    write_lora(tensors, out / LORA_FILE)
    return finish(out, note)


def lora_file(path: Path) -> Path:
    """Return a LoRA file, or the one in a folder, which may have the name that others look for."""
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.safetensors"))
    return files[0] if len(files) == 1 else path / LORA_FILE


def refuse_full(out: Path) -> None:
    """Raise UserError unless `out` is a new or empty folder."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already and not empty; give a new folder")


def finish(out: Path, note: dict[str, Any]) -> Written:
    """Read what was written, and put down what it is."""
    weights = open_weights(out)
    count = sum(map(numel, weights.shapes().values()))
    made = Written(out, count, weights.num_bytes, len(weights.files), weights_hash(weights))
    note = {"format": 1, **note, "parameters": made.parameters, "sha256": made.sha256}
    (out / ABOUT).write_text(json.dumps(note, indent=1) + "\n")
    return made


def numel(shape: tuple[int, ...]) -> int:
    """Return the number of elements of a tensor of this shape."""
    return torch.Size(shape).numel()
