"""Checkpoints: safetensors shards and one JSON file, written in the background, read by any number of ranks.

RUN/checkpoints/step-00000100/
    shard-00001-model-00001-of-00001.safetensors  …  what each rank held of each tensor, with its place in the whole
    checkpoint.json                                  what the weights come from; written last: without it, no checkpoint

The shards are written and read through torch.distributed.checkpoint with its safetensors storage. Two of its habits are
left out: the default storage pickles its metadata, and planning a save gathers pickled plans from all ranks. Here a
rank plans alone: it writes the shards it holds, of replicas the first, so nothing needs to be agreed upon.
"""

import json
import os
import shutil
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError

FORMAT = 1
METADATA = "checkpoint.json"
SUFFIX = ".safetensors"
FILE_BYTES = 2 << 30
"""Bytes of a file, about; the writer holds one file in memory at a time, next to the copy of the shards."""


class Checkpoints:
    """The checkpoints of one run, of which the newest `keep` stay."""

    def __init__(self, folder: Path | str, keep: int, *, world: World | None = None) -> None:
        """folder: RUN/checkpoints, on storage that all ranks see."""
        self.folder, self.keep, self.world = Path(folder), keep, world or World.alone()
        self._group: dist.ProcessGroup | None = None
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def save(self, step: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
        """Copy this rank's shards to CPU memory and write them in the background. All ranks call it together.

        tensors: DTensors (each rank writes its shard) and tensors that are the same on all ranks (the first writes
        them). Waits for the save before it, if that is still under way; raises its TrainError.
        """
        self.wait()
        if self.world.size > 1 and self._group is None:
            # A group of its own: the training's collectives go on meanwhile, and the two must not mix.
            self._group = dist.new_group(backend="gloo")
        owned = {name: _copy(tensor) for name, tensor in tensors.items() if _owns(tensor, self.world)}
        path = self.folder / f"step-{step:08d}"
        metadata = {"format": FORMAT, "step": step, **metadata}
        json.dumps(metadata)  # now, rather than after hours in a thread
        self._thread = threading.Thread(target=self._run, args=(path, owned, metadata), name=f"checkpoint-{step}")
        self._thread.start()
        return path

    def wait(self) -> None:
        """Until the save under way is on disk. TrainError if it failed, on any rank."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise TrainError(f"checkpoint not saved under {self.folder}: {error}") from error

    def all(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(path.parent for path in self.folder.glob(f"step-*/{METADATA}"))

    def latest(self) -> Path | None:
        """The newest complete checkpoint."""
        return next(reversed(self.all()), None)

    def _run(self, path: Path, owned: dict[str, Tensor], metadata: dict[str, Any]) -> None:
        try:
            self._together(lambda: self._clear(path))
            self._together(lambda: _write(path, owned, self.world.rank))
            self._together(lambda: self._commit(path, metadata))
        except Exception as error:
            self._error = error

    def _together(self, action: Any) -> None:
        """Do it, and go on only if all ranks have done theirs."""
        error: Exception | None = None
        try:
            action()
        except Exception as problem:
            error = problem
        failed = torch.tensor([error is not None], dtype=torch.int64)
        if self._group is not None:
            dist.all_reduce(failed, group=self._group)
        if error is not None:
            raise error
        if int(failed):
            raise OSError(f"{int(failed)} other ranks could not write")

    def _clear(self, path: Path) -> None:
        """Remove leftovers of an unfinished save, or of a run of another size; they would be loaded too."""
        if self.world.is_first:
            path.mkdir(parents=True, exist_ok=True)
            (path / METADATA).unlink(missing_ok=True)
            for left in path.glob(f"*{SUFFIX}"):
                left.unlink()

    def _commit(self, path: Path, metadata: dict[str, Any]) -> None:
        if not self.world.is_first:
            return
        files = {file.name: file.stat().st_size for file in sorted(path.glob(f"*{SUFFIX}"))}
        _write_json(path / METADATA, {**metadata, "files": files})
        for old in self.all()[: -self.keep]:
            # checkpoint.json first: half a folder is then no checkpoint
            (old / METADATA).unlink()
            shutil.rmtree(old, ignore_errors=True)


def has_checkpoint(run: Path | str) -> bool:
    """Whether a run's folder holds a complete checkpoint."""
    return Checkpoints(Path(run) / "checkpoints", 1).latest() is not None


def find_checkpoint(path: Path | str) -> Path:
    """A checkpoint's folder, from itself, from a run's folder or its checkpoints/ (the newest). TrainError if none."""
    path = Path(path)
    if (path / METADATA).is_file():
        return path
    newest = Checkpoints(path, 1).latest() or Checkpoints(path / "checkpoints", 1).latest()
    if newest is None:
        raise TrainError(f"{path}: no checkpoint here; give a step-… folder with {METADATA}, or a run that has one")
    return newest


def read_metadata(path: Path | str) -> dict[str, Any]:
    """Read checkpoint.json."""
    file = Path(path) / METADATA
    try:
        found = json.loads(file.read_text())
    except FileNotFoundError:
        raise TrainError(f"{path}: no checkpoint here, {METADATA} is missing (the save did not finish?)") from None
    except ValueError as error:
        raise TrainError(f"{file}: damaged, not JSON: {error}; use another checkpoint") from None
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise TrainError(f"{file}: format {found.get('format')!r} is not {FORMAT}; it was written by another version")
    return found


def load_tensors(path: Path | str, into: Mapping[str, Tensor]) -> None:
    """Fill tensors (plain, or DTensors of any layout) in place; each rank reads what it holds, without collectives.

    TrainError for a damaged file, a name that the checkpoint does not have, or another shape.
    """
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint import HuggingFaceStorageReader

    index = _index(path)
    _check(path, index, into)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no process group is used is meant
        dcp.load(dict(into), storage_reader=HuggingFaceStorageReader(str(path)), no_dist=True)


def read_tensors(path: Path | str, prefix: str = "") -> dict[str, Tensor]:
    """Whole tensors whose name begins with `prefix`, without it, on the CPU: for export and generation."""
    return dict(stream_tensors(path, prefix))


def stream_tensors(path: Path | str, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """`read_tensors`, one at a time: no more than one tensor in memory."""
    from safetensors import safe_open

    index = _index(path)
    pieces: dict[str, list[tuple[tuple[int, ...], Any]]] = {}
    for key, info in index.storage_data.items():
        pieces.setdefault(key.fqn, []).append((tuple(key.offset), info))
    names = [name for name in sorted(pieces) if name.startswith(prefix)]
    if not names:
        raise TrainError(f"{path}: no tensor begins with {prefix!r}; it holds {_kinds(pieces)}")
    _check(path, index, dict.fromkeys(names))
    for name in names:
        entry = index.state_dict_metadata[name]
        whole = torch.empty(entry.size, dtype=entry.properties.dtype)
        for offset, info in pieces[name]:
            with safe_open(info.relative_path, framework="pt") as file:
                slices = tuple(slice(start, start + size) for start, size in zip(offset, info.shape, strict=True))
                whole[slices] = file.get_tensor(name)
        yield name.removeprefix(prefix), whole


def tensor_names(path: Path | str) -> dict[str, tuple[int, ...]]:
    """Names and whole shapes of what a checkpoint holds."""
    return {name: tuple(entry.size) for name, entry in _index(path).state_dict_metadata.items()}


def _owns(tensor: Tensor, world: World) -> bool:
    """Whether this rank writes (its shard of) a tensor: of replicas, the first does."""
    if not isinstance(tensor, DTensor):
        return world.is_first
    here = tensor.device_mesh.get_coordinate()
    copies = [c for c, p in zip(here or [], tensor.placements, strict=True) if isinstance(p, Replicate)]
    return here is not None and not any(copies) and tensor.to_local().numel() > 0


def _copy(tensor: Tensor) -> Tensor:
    """In CPU memory, a shard still knowing its place in the whole.

    A DTensor is moved as it is. `DTensor.from_local` of a moved shard would put it back on the device of its mesh.
    """
    return tensor.detach().to("cpu", copy=True).contiguous()


def _write(path: Path, owned: dict[str, Tensor], rank: int) -> None:
    import torch.distributed.checkpoint as dcp

    if not owned:
        return
    writer, planner = _storage(path, rank, _files(owned))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dcp.save(owned, storage_writer=writer, planner=planner, no_dist=True)


def _storage(path: Path, rank: int, files: dict[str, int]) -> tuple[Any, Any]:
    """A writer whose file names carry the rank, and a planner that takes this rank's plan for the whole."""
    from dataclasses import replace

    from torch.distributed.checkpoint import DefaultSavePlanner, HuggingFaceStorageWriter
    from torch.distributed.checkpoint.metadata import Metadata

    class Writer(HuggingFaceStorageWriter):
        def prepare_global_plan(self, plans: list[Any]) -> list[Any]:
            where = {"fqn_to_index_mapping": files, "shard_index": rank + 1}
            return [replace(plan, storage_data=where) for plan in plans]

    class Planner(DefaultSavePlanner):
        def create_global_plan(self, all_plans: list[Any]) -> tuple[list[Any], Metadata]:
            return all_plans, Metadata({})

    return Writer(str(path), fqn_to_index_mapping=files, save_distributed=True), Planner(flatten_state_dict=False)


def _files(owned: dict[str, Tensor]) -> dict[str, int]:
    """Number of the file that each tensor goes to, from 1."""
    number, held, files = 1, 0, {}
    for name, tensor in owned.items():
        local = tensor.to_local() if isinstance(tensor, DTensor) else tensor
        if held and held + local.nbytes > FILE_BYTES:
            number, held = number + 1, 0
        files[name], held = number, held + local.nbytes
    return files


def _write_json(file: Path, content: dict[str, Any]) -> None:
    """All of it or nothing, also when the power fails."""
    draft = file.with_suffix(".tmp")
    with draft.open("w") as out:
        json.dump(content, out, indent=1)
        out.flush()
        os.fsync(out.fileno())
    draft.replace(file)


def _index(path: Path | str) -> Any:
    """The names, shapes and pieces of a checkpoint, from the headers of its files."""
    from torch.distributed.checkpoint import HuggingFaceStorageReader

    for name, size in read_metadata(path).get("files", {}).items():
        file = Path(path) / name
        if not file.is_file():
            raise TrainError(f"{file}: missing; the checkpoint is incomplete, use another")
        if file.stat().st_size != size:
            raise TrainError(f"{file}: damaged, {file.stat().st_size} bytes where {size} were written; use another")
    try:
        return HuggingFaceStorageReader(str(path)).read_metadata()
    except Exception as error:  # safetensors' own, JSON's, KeyError: whatever a broken header makes
        raise TrainError(f"{path}: damaged, a file's header cannot be read: {error}; use another checkpoint") from None


def _check(path: Path | str, index: Any, wanted: Mapping[str, Tensor | None]) -> None:
    found = index.state_dict_metadata
    missing = sorted(set(wanted) - set(found))
    if missing:
        raise TrainError(f"{path}: {len(missing)} tensors are missing: {_few(missing)}; it holds {_kinds(found)}")
    for name, tensor in wanted.items():
        size = found[name].size
        if tensor is not None and tensor.shape != size:
            raise TrainError(f"{path}: {name} is {list(size)}, but {list(tensor.shape)} is wanted: another model?")
        if sum(chunk.sizes.numel() for chunk in found[name].chunks) != size.numel():
            raise TrainError(f"{path}: {name} lacks a piece; the checkpoint is incomplete, use another")


def _kinds(names: Mapping[str, Any]) -> str:
    """'12 model.…, 24 optim.…'."""
    kinds = [name.partition(".")[0] for name in names]
    return ", ".join(f"{kinds.count(kind)} {kind}.…" for kind in sorted(set(kinds))) or "nothing"


def _few(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (" …" if len(names) > count else "")
