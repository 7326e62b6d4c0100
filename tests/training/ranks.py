"""Real gloo ranks for tests: `ranks(4, check, …)` returns what four processes return."""

import json
import multiprocessing
import os
import tempfile
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as processes
from torch.distributed import TCPStore

from reelwright.training.distributed import world

PRELOADED = [
    "tests.training.steps", "tests.training.made_up", "torch._dynamo", "torch.distributed.fsdp",
    "torch.distributed.checkpoint",
]  # fmt: skip
"""One server imports this, and forks: a rank then starts in a tenth of a second, not in four."""


def ranks(size: int, check: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Run `check` in `size` processes that can talk by gloo; return what each returned, by rank.

    The store by which they find one another lives here, as torchrun's lives in its agent: no rank that ends, by an
    error or as the first, takes it away from those that still speak. They leave together, since gloo aborts a rank
    whose peer has closed its sockets.

    Args:
        size: Number of processes.
        check: A module's function whose result is JSON (tensors are lists). It starts its worlds by `world.start`.
        arguments: Of `check`.
    """
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.set_forkserver_preload(PRELOADED)
        store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        given = (size, store.port, folder, check, arguments)
        processes.start_processes(_rank, given, nprocs=size, start_method="forkserver")
        return [json.loads((Path(folder) / str(rank)).read_text()) for rank in range(size)]


def _rank(rank: int, size: int, port: int, folder: str, check: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
    try:
        (Path(folder) / str(rank)).write_text(json.dumps(check(*arguments)))
        _wait_for_all(size, port)
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # at once: the others are ended by whoever started them
    world.stop()


def _wait_for_all(size: int, port: int) -> None:
    """Return once every rank is here. One that fails never is; then the process that started them ends them all."""
    store = TCPStore("127.0.0.1", port, is_master=False, timeout=timedelta(hours=1))
    if store.add("ended", 1) == size:
        store.set("all ended", "")
    store.wait(["all ended"])
