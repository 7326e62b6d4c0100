"""Checkpoints: safetensors shards and one JSON file, written in the background, read by any number of ranks.

RUN/checkpoints/step-00000100/
    shard-00001-model-00001-of-00001.safetensors  …  each rank's part of each tensor, with its place in the whole
    index.json                                       all tensors and their pieces (`training.shards`)
    checkpoint.json                                  origin of the weights; written last: without it, no checkpoint

A rank writes the shards that it holds, of replicas the first, so nothing needs to be planned together. Ranks tell one
another by the process group's key-value store that their shards are written: it needs no group of its own, costs a few
words per rank, and does not mix with the training's collectives, which continue meanwhile.
"""

import itertools
import json
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate

from reelwright.training.distributed.world import Votes, World
from reelwright.training.errors import TrainError
from reelwright.training.shards import (
    INDEX,
    SUFFIX,
    Entry,
    Shard,
    Staging,
    read_index,
    read_into,
    write_index,
    write_json,
    write_shards,
)

FORMAT = 1
METADATA = "checkpoint.json"
_SAVES = itertools.count()
"""Saves of runs of several ranks in this process: a name for each, the same on all ranks, since they save together."""


class Checkpoints:
    """The checkpoints of one run, of which the newest `keep` stay."""

    def __init__(self, folder: Path | str, keep: int, *, world: World | None = None) -> None:
        """folder: RUN/checkpoints, on storage that all ranks see."""
        self.folder, self.keep, self.world = Path(folder), keep, world or World.alone()
        self._staging = Staging()
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def save(self, step: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]) -> Path:
        """Copy this rank's shards to CPU memory and write them in the background. All ranks call it together.

        tensors: DTensors (each rank writes its shard) and tensors that are the same on all ranks (the first writes
        them). Waits for the save before it, if that is still under way; raises its TrainError.
        """
        self.wait()
        votes = self.world.votes(f"checkpoint {next(_SAVES)}") if self.world.size > 1 else None
        owned = self._staging.copy({name: tensor for name, tensor in tensors.items() if _owns(tensor, self.world)})
        path = self.folder / f"step-{step:08d}"
        metadata = {"format": FORMAT, "step": step, **metadata}
        json.dumps(metadata)  # now, rather than after hours in a thread
        given = (path, owned, metadata, votes)
        self._thread = threading.Thread(target=self._run, args=given, name=f"checkpoint-{step}")
        self._thread.start()
        return path

    def wait(self) -> None:
        """Wait until the save under way is on disk. TrainError if it failed, on any rank."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise TrainError(f"checkpoint not saved under {self.folder}: {error}") from error

    def all(self) -> list[Path]:
        """Return the complete checkpoints, oldest first."""
        return sorted(path.parent for path in self.folder.glob(f"step-*/{METADATA}"))

    def latest(self) -> Path | None:
        """Return the newest complete checkpoint."""
        return next(reversed(self.all()), None)

    def _run(self, path: Path, owned: dict[str, Shard], metadata: dict[str, Any], votes: Votes | None) -> None:
        try:
            _together(lambda: self._clear(path), votes)
            _together(lambda: write_shards(path, owned, self.world.rank), votes)
            _together(lambda: self._commit(path, metadata), votes)
        except Exception as error:
            self._error = error

    def _clear(self, path: Path) -> None:
        """Remove leftovers of an unfinished save, or of a run of another size; they would be loaded too."""
        if self.world.is_first:
            path.mkdir(parents=True, exist_ok=True)
            (path / METADATA).unlink(missing_ok=True)
            (path / INDEX).unlink(missing_ok=True)
            for left in path.glob(f"*{SUFFIX}"):
                left.unlink()

    def _commit(self, path: Path, metadata: dict[str, Any]) -> None:
        if not self.world.is_first:
            return
        write_index(path)
        files = {file.name: file.stat().st_size for file in sorted(path.glob(f"*{SUFFIX}"))}
        write_json(path / METADATA, {**metadata, "files": files})
        for old in self.all()[: -self.keep]:
            # checkpoint.json first: half a folder is then no checkpoint
            (old / METADATA).unlink()
            shutil.rmtree(old, ignore_errors=True)


def has_checkpoint(run: Path | str) -> bool:
    """Return whether a run's folder holds a complete checkpoint."""
    return Checkpoints(Path(run) / "checkpoints", 1).latest() is not None


def find_checkpoint(path: Path | str) -> Path:
    """Find a checkpoint's folder, from itself, from a run's folder or its checkpoints/ (the newest).

    Raises:
        TrainError: there is none.
    """
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
    except ValueError:
        raise TrainError(f"{file}: damaged, not JSON; use another checkpoint") from None
    if not isinstance(found, dict):
        raise TrainError(f"{file}: damaged, not an object; use another checkpoint")
    if found.get("format") != FORMAT:
        raise TrainError(f"{file}: format {found.get('format')!r} is not {FORMAT}; it was written by another version")
    return found


def load_tensors(path: Path | str, into: Mapping[str, Tensor]) -> None:
    """Fill tensors (plain, or DTensors of any layout) in place; each rank reads its own part, without collectives.

    TrainError for a damaged file, a name that the checkpoint does not have, or another shape.
    """
    index = _index(path)
    _check(path, index, into)
    _read(path, index, {name: Shard.of(tensor) for name, tensor in into.items()})


def read_tensors(path: Path | str, prefix: str = "") -> dict[str, Tensor]:
    """Read the tensors with names under `prefix`, whole, without it in their names, on the CPU."""
    return dict(stream_tensors(path, prefix))


def stream_tensors(path: Path | str, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Read as `read_tensors` does, one at a time: no more than one tensor is in memory."""
    index = _index(path)
    names = [name for name in sorted(index) if name.startswith(prefix)]
    if not names:
        raise TrainError(f"{path}: no tensor begins with {prefix!r}; it holds {_kinds(index)}")
    _check(path, index, dict.fromkeys(names))
    for name in names:
        whole = torch.empty(index[name].shape, dtype=index[name].dtype)
        _read(path, index, {name: Shard.of(whole)})
        yield name.removeprefix(prefix), whole


def tensor_names(path: Path | str) -> dict[str, tuple[int, ...]]:
    """Read the names and whole shapes of a checkpoint's tensors."""
    return {name: entry.shape for name, entry in _index(path).items()}


def _owns(tensor: Tensor, world: World) -> bool:
    """Whether this rank writes (its shard of) a tensor: of replicas, the first does."""
    if not isinstance(tensor, DTensor):
        return world.is_first
    here = tensor.device_mesh.get_coordinate()
    copies = [c for c, p in zip(here or [], tensor.placements, strict=True) if isinstance(p, Replicate)]
    return here is not None and not any(copies) and tensor.to_local().numel() > 0


def _together(action: Callable[[], None], votes: Votes | None) -> None:
    """Run an action on every rank; raise if it failed on any."""
    error: Exception | None = None
    try:
        action()
    except Exception as problem:
        error = problem
    failed = votes.count(error is not None) if votes else 0
    if error is not None:
        raise error
    if failed:
        raise OSError(f"{failed} other ranks could not write")


def _index(path: Path | str) -> dict[str, Entry]:
    """Read the names, shapes and pieces of a checkpoint."""
    for name, size in read_metadata(path).get("files", {}).items():
        file = Path(path) / name
        if not file.is_file():
            raise TrainError(f"{file}: missing; the checkpoint is incomplete, use another")
        if file.stat().st_size != size:
            raise TrainError(f"{file}: damaged, {file.stat().st_size} bytes where {size} were written; use another")
    try:
        return read_index(Path(path))
    except Exception as error:  # JSON's, KeyError: whatever a broken header or index makes
        raise TrainError(f"{path}: damaged, its index cannot be read: {error}; use another checkpoint") from None


def _read(path: Path | str, index: Mapping[str, Entry], into: Mapping[str, Shard]) -> None:
    """Fill shards. TrainError for a file that contradicts the index."""
    from safetensors import SafetensorError

    try:
        with torch.no_grad():
            read_into(Path(path), index, into)
    except (SafetensorError, OSError) as error:
        raise TrainError(f"{path}: damaged, a file's header cannot be read: {error}; use another checkpoint") from None


def _check(path: Path | str, index: Mapping[str, Entry], wanted: Mapping[str, Tensor | None]) -> None:
    missing = sorted(set(wanted) - set(index))
    if missing:
        raise TrainError(f"{path}: {len(missing)} tensors are missing: {_few(missing)}; it holds {_kinds(index)}")
    for name, tensor in wanted.items():
        entry = index[name]
        if tensor is not None and tuple(tensor.shape) != entry.shape:
            raise TrainError(
                f"{path}: {name} is {list(entry.shape)}, but {list(tensor.shape)} is wanted: another model?"
            )
        if not entry.is_complete:
            raise TrainError(f"{path}: {name} lacks a piece; the checkpoint is incomplete, use another")


def _kinds(names: Mapping[str, Any]) -> str:
    """'12 model.…, 24 optim.…'."""
    kinds = [name.partition(".")[0] for name in names]
    return ", ".join(f"{kinds.count(kind)} {kind}.…" for kind in sorted(set(kinds))) or "nothing"


def _few(names: list[str], count: int = 3) -> str:
    return ", ".join(names[:count]) + (" …" if len(names) > count else "")
