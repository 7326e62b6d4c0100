"""Real gloo ranks for tests: `ranks(4, check, …)` returns what four processes return."""

import json
import multiprocessing
import os
import socket
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as processes

from reelwright.training.distributed import world

PRELOADED = [
    "tests.training.steps", "tests.training.made_up", "torch._dynamo", "torch.distributed.fsdp",
    "torch.distributed.checkpoint",
]  # fmt: skip
"""One server imports this, and forks: a rank then starts in a tenth of a second, not in four."""


def ranks(size: int, check: Callable[..., Any], *arguments: Any) -> list[Any]:
    """check: a module's function whose result is JSON (tensors are lists). It starts its worlds by `world.start`."""
    with tempfile.TemporaryDirectory() as folder:
        multiprocessing.set_forkserver_preload(PRELOADED)
        given = (size, _free_port(), folder, check, arguments)
        processes.start_processes(_rank, given, nprocs=size, start_method="forkserver")
        return [json.loads((Path(folder) / str(rank)).read_text()) for rank in range(size)]


def _rank(rank: int, size: int, port: int, folder: str, check: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size)}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    try:
        (Path(folder) / str(rank)).write_text(json.dumps(check(*arguments)))
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # at once, or the others wait for this one
    world.stop()


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]
