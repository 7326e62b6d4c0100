"""The start of an adapter: the adapter of a run, with its lineage, or a LoRA file."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from reelwright.model.lora.files import load_lora
from reelwright.model.lora.layers import named_adapters
from reelwright.training import checkpoints
from reelwright.training.errors import TrainError
from reelwright.training.lineage import parent_of
from reelwright.training.origins import identity_of
from reelwright.training.registry import STUDENT, AdapterPart

LORA_FILE = "lora.safetensors"


def fill_adapter(model: nn.Module, name: str, path: Path) -> None:
    """Give an adapter of a model, whole or sharded, the weights that `path` has.

    Args:
        model: with the adapter.
        name: of the adapter.
        path: a LoRA run or a checkpoint of one, whose trained adapter is taken, averaged where averages were kept; a
            LoRA file with published keys, or a folder with one.

    Raises:
        TrainError: a run has no such adapter.
        ModelError: a file does not fit.
    """
    if not checkpoints.has_checkpoint(path) and not (path / checkpoints.METADATA).is_file():
        load_lora(model, path / LORA_FILE if path.is_dir() else path, name=name)
        return
    found = checkpoints.find_checkpoint(path)
    saved = checkpoints.tensor_names(found)
    wanted: dict[str, Tensor] = {}
    for layer, adapter in named_adapters(model, name):
        for key, tensor in adapter.state_dict().items():
            own = f"{layer}.lora.{STUDENT}.{key}"
            wanted[f"ema.{own}" if f"ema.{own}" in saved else f"model.{own}"] = tensor.detach()
    if not set(wanted) & set(saved):
        raise TrainError(f"{found} holds no adapter; an adapter begins as a LoRA run or a LoRA file")
    checkpoints.load_tensors(found, wanted)
    for layer, adapter in named_adapters(model, name):
        if not torch.isclose(adapter.alpha_scale.cpu(), torch.tensor(adapter.scale)):
            raise TrainError(
                f"{found}: {layer} has alpha / rank {float(adapter.alpha_scale):g}, the recipe {adapter.scale:g}; give "
                "lora the rank and alpha of the run that it begins as"
            )


def adapter_origins(parts: Iterable[AdapterPart], existing: Callable[[Path], Path]) -> dict[str, dict[str, Any]]:
    """Describe the starts of adapters, by name, for lineage; an adapter that begins without effect has no origin."""
    return {part.name: _origin(existing(Path(part.start))) for part in parts if part.start}


def of_other_networks(adapters: Mapping[str, Mapping[str, Any]], parent: Mapping[str, Any] | None) -> list[str]:
    """Return a line for each adapter whose record says that it was trained on another network than this run's.

    The same weights have another identity as a run and as an export, so it is said and not refused.

    Args:
        adapters: origins by name, of `adapter_origins`.
        parent: of the network.
    """
    now = (parent or {}).get("identity")
    found = []
    for name, origin in adapters.items():
        before = origin.get("parent") or {}
        if now and before.get("identity") not in (None, now):
            found.append(
                f"the adapter {name} ({origin['path']}) was trained on {before.get('path')}, and this run's network is "
                f"{(parent or {}).get('path')}: an adapter is of use on its own network alone, unless they are the same"
            )
    return found


def _origin(path: Path) -> dict[str, Any]:
    if checkpoints.has_checkpoint(path) or (path / checkpoints.METADATA).is_file():
        found = checkpoints.find_checkpoint(path)
        return parent_of(found, checkpoints.read_metadata(found))
    note = (path if path.is_dir() else path.parent) / "about.json"
    said = json.loads(note.read_text(encoding="utf-8")) if note.is_file() else {}
    said.pop("recipe", None)
    file = path / LORA_FILE if path.is_dir() else path
    return {"path": str(path.absolute()), "kind": "lora", "identity": identity_of(file), **said}
