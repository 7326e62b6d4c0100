"""The processes of a run: who this one is, and the few words that they say to one another."""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from reelwright.training.errors import TrainError
from reelwright.training.recipe import ParallelConfig

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

DIMS = ("replicate", "shard", "context")
TIMEOUT_S = 1800


@dataclass(frozen=True)
class World:
    """One process of a run. Ranks of a context group see the same samples, and are neighbours (NVLink).

    rank = (replicate · shards + shard) · context_size + context.
    """

    rank: int = 0
    size: int = 1
    data_rank: int = 0
    data_size: int = 1
    context_rank: int = 0
    context_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    mesh: "DeviceMesh | None" = None
    """(replicate, shard, context); None for one process."""
    hosts: "dist.ProcessGroup | None" = None
    """All ranks over gloo: words that wait for no GPU. None: the default group has gloo for CPU tensors."""

    @classmethod
    def alone(cls, device: str | torch.device | None = None) -> "World":
        """One process without a process group; on the first GPU where there is one."""
        return cls(device=torch.device(device) if device is not None else _device())

    @property
    def is_first(self) -> bool:
        """Whether this rank prints, logs and writes the files that are written once."""
        return self.rank == 0

    @property
    def context_group(self) -> "dist.ProcessGroup | None":
        """The ranks that share this one's samples; None where each has its own."""
        return self.mesh.get_group("context") if self.mesh is not None and self.context_size > 1 else None

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return sums over all ranks, in double precision."""
        return self._reduce(values, dist.ReduceOp.SUM)

    def max(self, values: Sequence[float]) -> list[float]:
        """Return the largest over all ranks, number by number."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def largest(self, number: int) -> int:
        """Return the largest of all ranks' numbers. It waits for other processes, and not for work of their GPUs."""
        if self.size == 1:
            return number
        tensor = torch.tensor(number)
        dist.all_reduce(tensor, dist.ReduceOp.MAX, group=self.hosts)
        return int(tensor)

    def votes(self, name: str) -> "Votes":
        """Begin votes of all ranks that no collective carries. name: of this one; no two may have the same."""
        from torch.distributed.distributed_c10d import _get_default_store

        return Votes(_get_default_store().clone(), name, self.rank, self.size)

    def barrier(self) -> None:
        """Wait until every rank is here."""
        self.sum([0.0])

    def broadcast(self, value: Any, *, source: int = 0) -> Any:
        """`value` of rank `source` on every rank. It travels as JSON: what JSON has no word for is refused."""
        if self.size == 1:
            return value
        data = json.dumps(value).encode() if self.rank == source else b""
        length = torch.tensor([len(data)], device=self.device)
        dist.broadcast(length, source)
        buffer = torch.empty(int(length), dtype=torch.uint8, device=self.device)
        if self.rank == source:
            buffer.copy_(torch.frombuffer(bytearray(data), dtype=torch.uint8))
        dist.broadcast(buffer, source)
        return json.loads(buffer.cpu().numpy().tobytes())

    def _reduce(self, values: Sequence[float], op: Any) -> list[float]:
        if self.size == 1:
            return [float(v) for v in values]
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor, op)
        return tensor.tolist()


class Votes:
    """Votes of all ranks by the process group's key-value store, from any thread: they mix with no collective.

    A rank sends one word per vote and waits for one; rank 0 counts, and leaves last: the store may be its own.
    """

    def __init__(self, store: "dist.Store", name: str, rank: int, size: int) -> None:
        self.store, self.name, self.rank, self.size = store, name, rank, size
        self.store.set_timeout(timedelta(seconds=TIMEOUT_S))
        self.number = 0

    def count(self, yes: bool) -> int:
        """Return how many ranks say yes, once all have voted. All ranks call it as often."""
        key = f"{self.name}/{self.number}"
        self.number += 1
        self.store.set(f"{key}/{self.rank}", "1" if yes else "0")
        if self.rank:
            count = int(self.store.get(f"{key}/count"))
            if self.store.add(f"{key}/read", 1) == self.size - 1:
                self.store.set(f"{key}/read by all", "")
            return count
        keys = [f"{key}/{rank}" for rank in range(self.size)]
        self.store.wait(keys)
        count = sum(map(int, self.store.multi_get(keys)))
        self.store.set(f"{key}/count", str(count))
        if self.size > 1:
            self.store.wait([f"{key}/read by all"])
        for one in (*keys, f"{key}/count", f"{key}/read", f"{key}/read by all"):
            self.store.delete_key(one)
        return count


def start(parallel: ParallelConfig, *, device: str | None = None) -> World:
    """Return this process's World, by the environment that torchrun or Ray Train left; alone where neither started it.

    Ray Train makes the process group itself, before it calls a worker; it is used as it is.
    """
    size = dist.get_world_size() if dist.is_initialized() else int(os.environ.get("WORLD_SIZE", "1"))
    sizes = mesh_sizes(parallel, size)
    own_device = torch.device(device) if device is not None else _device()
    if size == 1:
        return World.alone(own_device)
    if own_device.type == "cuda":
        torch.cuda.set_device(own_device)
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if own_device.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(seconds=TIMEOUT_S))
    return _world(dist.get_rank(), sizes, own_device)


def mesh_sizes(parallel: ParallelConfig, size: int) -> tuple[int, int, int]:
    """(replicate, shard, context) for `size` ranks. TrainError where they do not multiply to it."""
    given = parallel.replicate * parallel.context
    shard = parallel.shard or size // given
    if shard < 1 or given * shard != size:
        raise TrainError(
            f"parallel: replicate {parallel.replicate} × shard {parallel.shard or 'the rest'} × context "
            f"{parallel.context} do not multiply to the {size} processes that were started; "
            f"start a multiple of {given * max(parallel.shard, 1)}, or set parallel.shard to 0 (all that remain)"
        )
    return parallel.replicate, shard, parallel.context


def stop() -> None:
    """Leave the process group, if there is one. Not where Ray Train made it: Ray ends it."""
    if dist.is_initialized():
        dist.destroy_process_group()


@contextmanager
def started(parallel: ParallelConfig, *, device: str | None = None) -> Iterator[World]:
    """`start`, and `stop` at the end: for torchrun."""
    try:
        yield start(parallel, device=device)
    finally:
        stop()


def _world(rank: int, sizes: tuple[int, int, int], device: torch.device) -> World:
    from torch.distributed.device_mesh import init_device_mesh

    replicate, shard, context = sizes
    return World(
        rank=rank,
        size=replicate * shard * context,
        data_rank=rank // context,
        data_size=replicate * shard,
        context_rank=rank % context,
        context_size=context,
        device=device,
        mesh=init_device_mesh(device.type, sizes, mesh_dim_names=DIMS),
        hosts=dist.new_group(backend="gloo") if device.type == "cuda" and not _speaks_gloo() else None,
    )


def _speaks_gloo() -> bool:
    """Whether the default group has gloo for CPU tensors: where Ray Train made it, it has NCCL alone."""
    return "cpu:gloo" in dist.get_backend_config()


def _device() -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
