"""Files of a checkpoint: each rank's shards as safetensors, and one index of all of them.

    shard-00001-model-00001-of-00002.safetensors   what rank 0 holds of some tensors; the header has each one's place
    index.json                                     all tensors: type, shape, and their pieces by file

A header says where its tensors lie in the whole as torch.distributed.checkpoint's safetensors storage does, so that its
reader opens these files too. Nothing is a pickle.
"""

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

SUFFIX = ".safetensors"
INDEX = "index.json"
FILE_BYTES = 2 << 30
"""Bytes of a file, about; the writer holds one file in memory at a time, next to the copy of the shards."""
HEADER_BYTES = 100 << 20
"""Largest header of a file in bytes, as in safetensors itself."""
_PLACES, _OFFSET = "DCP_SHARDING_INFO", "saved_offsets"
_TYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip

Ints = tuple[int, ...]


@dataclass(frozen=True)
class Shard:
    """This rank's part of a tensor. offset: its first element's place in the whole."""

    local: Tensor
    offset: Ints

    @classmethod
    def of(cls, tensor: Tensor) -> "Shard":
        """Take a plain tensor whole, of a DTensor the local part."""
        if not isinstance(tensor, DTensor):
            return cls(tensor.detach(), (0,) * tensor.ndim)
        (chunk,) = tensor.__create_chunk_list__()
        return cls(tensor.detach().to_local(), tuple(chunk.offsets))


class Piece(NamedTuple):
    """A part of a tensor in a file. There are as many as ranks × tensors."""

    file: str
    offset: Ints
    shape: Ints


@dataclass(frozen=True)
class Entry:
    """A tensor of a checkpoint, whole, and its pieces."""

    dtype: torch.dtype
    shape: Ints
    pieces: tuple[Piece, ...]

    @property
    def is_complete(self) -> bool:
        """Whether its pieces are as many numbers as the whole."""
        return sum(torch.Size(piece.shape).numel() for piece in self.pieces) == torch.Size(self.shape).numel()


class Staging:
    """Copies of shards in CPU memory: pinned where they are a GPU's, and kept, as pinning takes longer than copying."""

    def __init__(self) -> None:
        self._kept: dict[str, Tensor] = {}

    def copy(self, tensors: Mapping[str, Tensor]) -> dict[str, Shard]:
        """Copy tensors; each copy holds until the next call. It returns when all have arrived."""
        shards = {name: Shard.of(tensor) for name, tensor in tensors.items()}
        copies = {name: Shard(self._copy(name, shard.local), shard.offset) for name, shard in shards.items()}
        for device in {shard.local.device for shard in shards.values() if shard.local.is_cuda}:
            torch.cuda.current_stream(device).synchronize()  # one wait for all copies
        self._kept = {name: shard.local for name, shard in copies.items()}
        return copies

    def _copy(self, name: str, local: Tensor) -> Tensor:
        kept = self._kept.get(name)
        if kept is None or kept.shape != local.shape or kept.dtype != local.dtype:
            kept = torch.empty(local.shape, dtype=local.dtype, pin_memory=local.is_cuda)
        return kept.copy_(local, non_blocking=True)


def write_shards(path: Path, shards: Mapping[str, Shard], rank: int) -> None:
    """Write a rank's shards, each file synced to the disk."""
    from safetensors.torch import save_file

    groups = _by_file(shards)
    for number, names in enumerate(groups, start=1):
        file = path / f"shard-{rank + 1:05d}-model-{number:05d}-of-{len(groups):05d}{SUFFIX}"
        offsets = {name: {_OFFSET: list(shards[name].offset)} for name in names}
        header = {"format": "pt", "DCP_VERSION": "1.0", _PLACES: json.dumps(offsets)}
        save_file({name: shards[name].local for name in names}, file, metadata=header)
        with file.open("rb") as written:
            os.fsync(written.fileno())


def write_index(path: Path) -> None:
    """Write the index of a folder's files, from their headers: one rank reads them once for all."""
    entries = _from_headers(path)
    files = sorted({piece.file for entry in entries.values() for piece in entry.pieces})
    number = {file: i for i, file in enumerate(files)}
    names = {dtype: name for name, dtype in _TYPES.items()}
    tensors = {
        name: [names[entry.dtype], entry.shape, [[number[p.file], p.offset, p.shape] for p in entry.pieces]]
        for name, entry in entries.items()
    }
    write_json(path / INDEX, {"files": files, "tensors": tensors}, indent=None)


def read_index(path: Path) -> dict[str, Entry]:
    """Read the index; of a checkpoint that has none yet, the headers of its files.

    Raises:
        ValueError, KeyError, OSError: the files are damaged.
    """
    file = path / INDEX
    if not file.is_file():
        return _from_headers(path)
    said = json.loads(file.read_text(encoding="utf-8"))
    return {
        name: Entry(
            _TYPES[dtype], tuple(shape),
            tuple(Piece(said["files"][number], tuple(offset), tuple(size)) for number, offset, size in pieces),
        )
        for name, (dtype, shape, pieces) in said["tensors"].items()
    }  # fmt: skip


def read_into(path: Path, entries: Mapping[str, Entry], into: Mapping[str, Shard]) -> None:
    """Fill shards in place, each file opened once and only where it holds some of them."""
    from safetensors import safe_open

    wanted: dict[str, list[tuple[str, Shard, Piece]]] = {}
    for name, shard in into.items():
        for piece in entries[name].pieces:
            if _overlap(shard, piece) is not None:
                wanted.setdefault(piece.file, []).append((name, shard, piece))
    for file, parts in sorted(wanted.items()):
        with safe_open(str(path / file), framework="pt") as opened:
            for name, shard, piece in parts:
                overlap = _overlap(shard, piece)
                assert overlap is not None
                here, there = overlap
                source = opened.get_slice(name)[there] if there else opened.get_tensor(name)
                shard.local[here].copy_(source)


def write_json(file: Path, content: Mapping[str, Any], indent: int | None = 1) -> None:
    """All of it or nothing, also when the power fails."""
    draft = file.with_suffix(".tmp")
    with draft.open("w", encoding="utf-8") as out:
        json.dump(content, out, indent=indent)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)


def _overlap(shard: Shard, piece: Piece) -> tuple[tuple[slice, ...], tuple[slice, ...]] | None:
    """Slices of the shard and of the piece that are the same part of the whole; None where they share nothing."""
    here, there = [], []
    for mine, size, first, length in zip(shard.offset, shard.local.shape, piece.offset, piece.shape, strict=True):
        begin, end = max(mine, first), min(mine + size, first + length)
        if begin >= end:
            return None
        here.append(slice(begin - mine, end - mine))
        there.append(slice(begin - first, end - first))
    return tuple(here), tuple(there)


def _by_file(shards: Mapping[str, Shard]) -> list[list[str]]:
    """Names of the tensors of each file."""
    groups: list[list[str]] = []
    held = 0
    for name, shard in shards.items():
        if not groups or held + shard.local.nbytes > FILE_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += shard.local.nbytes
    return groups


def _from_headers(path: Path) -> dict[str, Entry]:
    found: dict[str, list[Piece]] = {}
    types: dict[str, torch.dtype] = {}
    for file in sorted(path.glob(f"*{SUFFIX}")):
        for name, dtype, piece in _pieces(file):
            found.setdefault(name, []).append(piece)
            types[name] = dtype
    return {
        name: Entry(types[name], tuple(_end(pieces, axis) for axis in range(len(pieces[0].shape))), tuple(pieces))
        for name, pieces in found.items()
    }


def _end(pieces: list[Piece], axis: int) -> int:
    return max(piece.offset[axis] + piece.shape[axis] for piece in pieces)


def _pieces(file: Path) -> Iterator[tuple[str, torch.dtype, Piece]]:
    """Yield name, type and place of each tensor of a file, from its header."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(8), "little")
        if length > HEADER_BYTES:
            raise ValueError(f"{file.name}: a header of {length} bytes")
        header = json.loads(opened.read(length))
    offsets = json.loads(header.pop("__metadata__", {}).get(_PLACES, "{}"))
    for name, said in header.items():
        shape = tuple(said["shape"])
        offset = tuple(offsets[name][_OFFSET]) if offsets else (0,) * len(shape)
        yield name, _TYPES[said["dtype"]], Piece(file.name, offset, shape)
