"""A stream of its own for each thread that encodes on a GPU while the training computes on it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_own = threading.local()


@contextmanager
def side_stream(device: torch.device | None) -> Iterator[Callable[[], torch.cuda.Event | None]]:
    """Run the block on this thread's own stream of a GPU; on a CPU nothing changes.

    On the default stream each layer of an encoder would queue behind the whole of the training step.

    Args:
        device: that the block computes on; None: the CPU.

    Yields:
        A function that returns the event at which the GPU has done what the block has asked for so far; None on a CPU.
        Who uses the tensors on another stream makes that stream wait for the event (`Batch.to` does).
    """
    if device is None or device.type != "cuda":
        yield lambda: None
        return
    import torch

    streams: dict[torch.device, torch.cuda.Stream] = _own.__dict__.setdefault("streams", {})
    if device not in streams:
        # The weights were loaded on the stream that was current then.
        streams[device] = torch.cuda.Stream(device)
        streams[device].wait_stream(torch.cuda.default_stream(device))
    with torch.cuda.stream(streams[device]):
        yield lambda: torch.cuda.current_stream(device).record_event()
