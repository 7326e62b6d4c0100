"""The sandbox that a worker process keeps for all its calls: its child keeps the libraries and networks it loaded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.sandbox import Reply, Sandbox

_sandbox: Sandbox | None = None


def call(limits: Mapping[str, Any], function: str, **kwargs: Any) -> Reply:
    """Call a function in this process's sandbox.

    Args:
        limits: Bounds of the call, as a recipe's `limits` has them.
        function: As "module:name".
        **kwargs: Its arguments, as JSON knows them.

    Raises:
        MediaError: the call failed, or took the sandbox down.
    """
    global _sandbox  # noqa: PLW0603 - one sandbox per worker process
    memory_bytes, stall_s = limits["memory_mib"] << 20, limits["stall_s"]
    if _sandbox is None:
        _sandbox = Sandbox()
    if _sandbox.memory_bytes != memory_bytes:
        _sandbox.close()
    _sandbox.memory_bytes, _sandbox.stall_s = memory_bytes, stall_s
    return _sandbox.call(function, kwargs, max_s=limits["max_s"])


def call_twice(limits: Mapping[str, Any], function: str, **kwargs: Any) -> Reply:
    """Call again in a fresh sandbox before the file is blamed; see `call`.

    The first may have been killed because of other processes, for example by the OOM killer, or have grown over many
    files.
    """
    try:
        return call(limits, function, **kwargs)
    except MediaError as error:
        if error.kind not in ("crash", "memory"):
            raise
    return call(limits, function, **kwargs | ({"keep_bytes": 0} if "keep_bytes" in kwargs else {}))
