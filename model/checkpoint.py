"""Load and save the network in the published layout, tensor by tensor, and say which keys do not fit."""

import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from reelwright.model.config import DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.errors import ModelError
from reelwright.model.lora.layers import assign
from reelwright.model.weights.weight_files import (
    dump_config,
    open_weights,
    read_config,
    save_tensors,
    shard_names,
    write_index,
)

Shape = tuple[int, ...]
MAX_SHARD_BYTES = 5 * 10**9


@dataclass(frozen=True)
class KeyReport:
    """Keys of a file against a model's."""

    fitting: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, Shape, Shape], ...]
    """(name, shape in the model, shape in the file)"""

    @property
    def fits(self) -> bool:
        """Whether all keys fit."""
        return not (self.missing or self.unexpected or self.mismatched)

    def summary(self) -> str:
        """Return the counts of fitting, missing, unexpected and mismatched keys, in one line."""
        return (
            f"{len(self.fitting):,} keys fit; {len(self.missing):,} missing, {len(self.unexpected):,} unexpected, "
            f"{len(self.mismatched):,} of another shape"
        )

    def lines(self, most: int = 12) -> Iterator[str]:
        """Yield the summary, then up to `most` names of each kind."""
        yield self.summary()
        mismatched = [f"{n}: {list(ours)} in the model, {list(its)} in the file" for n, ours, its in self.mismatched]
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "shape": mismatched}
        for kind, names in kinds.items():
            yield from (f"  {kind:<10} {name}" for name in names[:most])
            if len(names) > most:
                yield f"  {kind:<10} … and {len(names) - most} more"

    def check(self, source: object, *, allow_missing: bool = False, allow_unexpected: bool = False) -> None:
        """Raise ModelError with one sentence where keys do not fit that have to."""
        missing = () if allow_missing else self.missing
        unexpected = () if allow_unexpected else self.unexpected
        first = [*self.mismatched, *missing, *unexpected]
        if first:
            example = first[0] if isinstance(first[0], str) else f"{first[0][0]} {first[0][2]} for {first[0][1]}"
            raise ModelError(f"{source} does not fit the model ({self.summary()}; for example {example})")


def load_model(
    path: str | Path,
    *,
    config: DiTConfig | None = None,
    dtype: torch.dtype | None = None,
    device: str | torch.device = "cpu",
    allow_missing: bool = False,
    allow_unexpected: bool = False,
) -> DiT:
    """Load the network of a folder or of one .safetensors file.

    A folder holds config.json, diffusion_pytorch_model*.safetensors and their index.

    It needs the memory of the model once: it is built without storage and takes each tensor as it is read (mapped from
    the file on the CPU).

    Args:
        path: the folder or file.
        config: network, instead of the folder's.
        dtype: to cast weights to; as stored if None.
        device: of the network.
        allow_missing: initialise missing weights.
        allow_unexpected: drop unexpected weights.

    Raises:
        ModelError: the keys do not fit.
    """
    weights = open_weights(path)
    config = config or read_config(path, weights)[0]
    with torch.device("meta"):
        model = DiT(config)
    report = compare_keys(model, weights.shapes())
    report.check(path, allow_missing=allow_missing, allow_unexpected=allow_unexpected)
    if report.missing:
        model.to_empty(device=device)
        model.init_weights(0)
        if dtype is not None:
            model.to(dtype)
    fitting = set(report.fitting)
    tensors = {name: weights[name].to(device=device, dtype=dtype) for name in weights if name in fitting}
    model.load_state_dict(tensors, strict=False, assign=True)
    return model


def load_weights(
    model: nn.Module, path: str | Path, *, allow_missing: bool = False, allow_unexpected: bool = False
) -> KeyReport:
    """Copy a file's or folder's tensors into a model that has storage; each rank of a sharded one keeps its part.

    Adapters (`….lora.…`) are not asked for. Raises ModelError, before anything is copied, if the keys do not fit.
    """
    weights = open_weights(path)
    report = compare_keys(model, weights.shapes())
    report.check(path, allow_missing=allow_missing, allow_unexpected=allow_unexpected)
    state = model.state_dict()
    fitting = set(report.fitting)
    for name in weights:  # in the files' order: each is opened once
        if name in fitting:
            assign(state[name], weights[name])
    return report


def compare_keys(model: nn.Module, keys: Mapping[str, Shape | Tensor]) -> KeyReport:
    """keys: shapes, or tensors, by name. Adapters of the model count on neither side."""
    wanted = {n: tuple(t.shape) for n, t in model.state_dict().items() if ".lora." not in n}
    found = {n: tuple(v.shape) if isinstance(v, Tensor) else tuple(v) for n, v in keys.items()}
    both = [n for n in wanted if n in found]
    return KeyReport(
        fitting=tuple(n for n in both if wanted[n] == found[n]),
        missing=tuple(n for n in wanted if n not in found),
        unexpected=tuple(n for n in found if n not in wanted),
        mismatched=tuple((n, wanted[n], found[n]) for n in both if wanted[n] != found[n]),
    )


def save_model(
    weights: nn.Module | Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
    config: DiTConfig,
    folder: str | Path,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    dtype: torch.dtype | None = None,
    extra: Mapping[str, Any] | None = None,
) -> list[Path]:
    """Write the published layout into a new folder, whole or not at all; return its safetensors files.

    weights: a model, a state, or a stream of (name, tensor), which needs memory for one shard. Every rank of a
    sharded model calls this; rank 0 writes. extra: other fields of config.json to carry along. Raises ModelError if the
    folder has something in it, or the model has adapters (`merge_lora(model, keep_base=False)`, or save_lora).
    """
    return save_shards(weights, dump_config(config, extra), folder, max_shard_bytes=max_shard_bytes, dtype=dtype)


def save_shards(
    weights: nn.Module | Mapping[str, Tensor] | Iterable[tuple[str, Tensor]],
    config: str,
    folder: str | Path,
    *,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    dtype: torch.dtype | None = None,
) -> list[Path]:
    """Write tensors as shards with their index, and config.json's text, as `save_model` does; names are free."""
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder} is there already and not empty; give a new folder")
    if torch.distributed.is_initialized() and torch.distributed.get_rank() != 0:
        for _ in _shards(weights, max_shard_bytes, dtype):
            pass  # takes part in the gathering
        return []
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True)
        (partial / "config.json").write_text(config)
        names = _write_shards(_shards(weights, max_shard_bytes, dtype), partial)
        if folder.exists():
            folder.rmdir()
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return [folder / name for name in names]


def weights_hash(state: Mapping[str, Tensor]) -> str:
    """sha256 over names, dtypes, shapes and bytes in the order of names: the same however the tensors are sharded."""
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _shards(weights: Any, max_bytes: int, dtype: torch.dtype | None) -> Iterator[dict[str, Tensor]]:
    """Tensors on the CPU, gathered and cast, a shard at a time; one above the limit has a shard to itself."""
    if isinstance(weights, nn.Module):
        weights = weights.state_dict()
    shard: dict[str, Tensor] = {}
    room = max_bytes
    for name, tensor in weights.items() if isinstance(weights, Mapping) else weights:
        if ".lora." in name:
            raise ModelError(f"the model has adapters ({name}, …): merge them for good, or save them with save_lora")
        whole = _whole(tensor).detach().to("cpu", dtype).contiguous()
        if whole.nbytes > room and shard:
            yield shard
            shard, room = {}, max_bytes
        shard[name] = whole
        room -= whole.nbytes
    yield shard


def _write_shards(shards: Iterator[dict[str, Tensor]], folder: Path) -> list[str]:
    """Return how many there are is known at the end, and stands in each name."""
    held: list[list[str]] = []
    total = 0
    for i, tensors in enumerate(shards):
        save_tensors(tensors, folder / str(i), {"format": "pt"})
        held.append(list(tensors))
        total += sum(t.nbytes for t in tensors.values())
    files = shard_names(len(held))
    for i, file in enumerate(files):
        (folder / str(i)).rename(folder / file)
    if len(files) > 1:
        write_index(folder, {name: file for file, names in zip(files, held, strict=True) for name in names}, total)
    return files


def _whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
