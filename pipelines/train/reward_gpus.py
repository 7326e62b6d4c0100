"""Which GPUs of a machine are the rewards', and which the ranks'."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from reelwright.training.distributed.world import World


def gpus_in_common(offered: float, there: int, ranks: int) -> str:
    """Return a warning where a cluster may put rewards onto GPUs of this machine that ranks compute on; else "".

    Args:
        offered: GPUs of this machine that Ray hands out.
        there: GPUs of this machine.
        ranks: of the run on this machine, which take the first ones; Ray does not know of them.
    """
    if offered + ranks <= there:
        return ""
    others = ",".join(str(i) for i in range(ranks, there))
    how = f"start Ray here with CUDA_VISIBLE_DEVICES={others}" if others else "start Ray here with --num-gpus 0"
    return (
        f"Ray hands out {offered:g} of this machine's {there} GPUs, and the run's ranks take {ranks} of them, of which "
        f"Ray does not know: rewards may run out of memory beside a rank; {how}"
    )


def gpus_in_common_here() -> str:
    """Return the warning of `gpus_in_common` for this machine and the Ray that was joined."""
    return gpus_in_common(_gpus_offered_here(), _gpus_here(), int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _gpus_offered_here() -> float:
    import ray

    here = ray.util.get_node_ip_address()
    nodes = (one for one in ray.nodes() if one["Alive"] and one["NodeManagerAddress"] == here)
    return sum(one["Resources"].get("GPU", 0.0) for one in nodes)


def _gpus_here() -> int:
    """Return the GPUs of this machine, also of those that CUDA_VISIBLE_DEVICES hides from this rank."""
    import torch

    driver = Path("/proc/driver/nvidia/gpus")
    return max(torch.cuda.device_count(), len(list(driver.iterdir())) if driver.is_dir() else 0)


@contextmanager
def gpus_of_rewards(world: World, *, joined: bool) -> Iterator[None]:
    """Let a Ray that is started in the block see the GPUs that no rank computes on."""
    if joined or world.device.type != "cuda":
        yield
        return
    import torch

    name = "CUDA_VISIBLE_DEVICES"
    before = os.environ.get(name)
    visible = before.split(",") if before else [str(i) for i in range(torch.cuda.device_count())]
    os.environ[name] = ",".join(visible[int(os.environ.get("LOCAL_WORLD_SIZE", "1")) :])
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
