"""Weights in the forms that others load: a network for FastVideo, a LoRA for diffusers, FastVideo, ComfyUI, kohya.

The source is a training checkpoint, a folder of weights, or a LoRA file of any form that can be read. The network goes
through a shard at a time.
"""

import json
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelwright.errors import UserError
from reelwright.model.checkpoint import MAX_SHARD_BYTES, compare_keys, save_shards
from reelwright.model.config import DiTConfig
from reelwright.model.lora.files import is_lora, parse_lora, published_tensors, read_lora
from reelwright.model.lora.forms import FORMS, to_form
from reelwright.model.lora.layer_weights import LayerWeights
from reelwright.model.weights.about import read_note
from reelwright.model.weights.converted import COMPONENTS, MODEL_INDEX, converted, converted_config
from reelwright.model.weights.weight_files import dump_config, open_weights, read_config, save_tensors
from reelwright.training.checkpoints import find_checkpoint
from reelwright.training.errors import TrainError
from reelwright.training.weights.convert import (
    FOR_SAMPLING,
    TRAINED,
    Written,
    adapter_tensors,
    finish,
    lineage_of,
    merged_adapters,
    meta_model,
    network_tensors,
    recipe_of,
    refuse_full,
)

PUBLISHED = "published"
NETWORK_FORMATS = (PUBLISHED, "diffusers")
LORA_FORMATS = (PUBLISHED, *FORMS)
Named = Iterable[tuple[str, Tensor]]


@dataclass(frozen=True)
class Choice:
    """What to take out of a source, and how to store it.

    ema: averaged weights of a training checkpoint. dtype: to cast to. adapter: its name in a checkpoint. base: what a
    run began with, where that has moved. max_shard_bytes: of a network's files. components: a published pipeline's
    folder, whose VAE, text encoder, tokenizer and scheduler go along.
    """

    ema: bool = False
    dtype: torch.dtype | None = None
    adapter: str = "default"
    base: Path | None = None
    max_shard_bytes: int = MAX_SHARD_BYTES
    components: Path | None = None


@dataclass(frozen=True)
class Network:
    """A network to write: config, config.json's other fields, and where its tensors come from."""

    source: Path
    config: DiTConfig
    extra: dict[str, Any]
    note: dict[str, Any]
    choice: Choice
    trained: bool

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor) under published names, cast; each call reads again."""
        choice = self.choice
        if self.trained:
            stream: Named = network_tensors(self.source, ema=choice.ema, base=choice.base)
        else:
            weights = open_weights(self.source)
            stream = ((name, weights[name]) for name in weights)
        return ((name, tensor.to(dtype=choice.dtype)) for name, tensor in stream)


def open_network(source: Path, choice: Choice) -> Network:
    """Find a network to write in a training checkpoint or a folder of weights.

    Raises:
        UserError: `source` is neither.
        ModelError: a folder's weights do not fit the network of its config.
    """
    try:
        path = find_checkpoint(source)
    except TrainError as error:
        if not source.exists() or not (source.is_file() or any(source.rglob("*.safetensors"))):
            raise error
        weights = open_weights(source)
        config, extra = read_config(source, weights)
        compare_keys(meta_model(config), weights.shapes()).check(source)
        return Network(source, config, extra, {"source": str(source)}, choice, trained=False)
    recipe = recipe_of(path)
    note = lineage_of(path, choice.ema) | {"merged": merged_adapters(path), "recipe": recipe.model_dump(mode="json")}
    return Network(path, recipe.model, {}, note, choice, trained=True)


def write_network(network: Network, out: Path, form: str) -> Written:
    """Write a network in one of NETWORK_FORMATS: the published folder, or FastVideo's with its components.

    Raises:
        UserError: components are asked for beside the published folder, or `out` is not empty.
    """
    choice, note = network.choice, {"kind": "weights", "form": form, **network.note}
    refuse_full(out)
    if form == PUBLISHED:
        if choice.components is not None:
            raise UserError("--components goes with --format diffusers; the published layout has the network alone")
        text = dump_config(network.config, network.extra)
        save_shards(network.tensors(), text, out, max_shard_bytes=choice.max_shard_bytes)
        return finish(out, note)
    if choice.components is not None:
        check_components(choice.components)
    text = converted_config(network.config, network.extra)
    save_shards(converted(network.tensors()), text, out / "transformer", max_shard_bytes=choice.max_shard_bytes)
    if choice.components is not None:
        add_components(choice.components, out)
    return finish(out, note)


def check_components(pipeline: Path) -> None:
    """Raise UserError where a published pipeline lacks one of the folders beside its network."""
    if missing := [name for name in COMPONENTS if not (pipeline / name).is_dir()]:
        raise UserError(
            f"--components {pipeline}: no {', '.join(missing)} in it; it is the folder above the published dit/"
        )


def add_components(pipeline: Path, out: Path) -> None:
    """Put a published pipeline's other folders beside the network: links to their files, or copies on another disk."""
    for name in COMPONENTS:
        shutil.copytree(pipeline / name, out / name, copy_function=_link)
    (out / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=2) + "\n")


def lora_layers_of(source: Path, choice: Choice) -> tuple[dict[str, LayerWeights], dict[str, Any]]:
    """Return a LoRA's layers, cast, and what about.json is to say: of a checkpoint's adapter, or of a LoRA file."""
    if is_lora_source(source):
        layers = read_lora(source)
        said = read_note(source) or {}  # what it was trained for, and how, stays known
        kept = [k for k in ("ema", *TRAINED, *FOR_SAMPLING) if k in said]
        note: dict[str, Any] = {"source": str(source), **{k: said[k] for k in kept}}
        return {layer: _cast(weights, choice.dtype) for layer, weights in layers.items()}, note
    path = find_checkpoint(source)
    tensors = adapter_tensors(path, ema=choice.ema, dtype=choice.dtype, name=choice.adapter)
    return parse_lora(tensors, path), lineage_of(path, choice.ema)


def is_lora_source(source: Path) -> bool:
    """Say whether a file, or a folder with one file of weights, is a LoRA."""
    files = [source] if source.is_file() else sorted(source.glob("*.safetensors")) if source.is_dir() else []
    return len(files) == 1 and is_lora(open_weights(files[0]))


def write_lora_as(layers: dict[str, LayerWeights], out: Path, form: str, note: dict[str, Any]) -> Written:
    """Write a LoRA in one of LORA_FORMATS."""
    from reelwright.model.lora.files import write_lora
    from reelwright.training.weights.convert import LORA_FILE

    refuse_full(out)
    if form == PUBLISHED:
        write_lora(published_tensors(layers), out / LORA_FILE)
    else:
        tensors, header = to_form(layers, FORMS[form])
        out.mkdir(parents=True, exist_ok=True)
        save_tensors(tensors, out / FORMS[form].file, header)
    return finish(out, {**note, "kind": "lora", "form": form})


def _cast(weights: LayerWeights, dtype: torch.dtype | None) -> LayerWeights:
    if dtype is None:
        return weights
    return LayerWeights(weights.down.to(dtype), [up.to(dtype) for up in weights.ups], weights.scale)


def _link(source: str, target: str) -> None:
    """Link a file, or copy it where the disk is another one or has no links."""
    try:
        os.link(os.path.realpath(source), target)
    except OSError:
        shutil.copy2(source, target)
