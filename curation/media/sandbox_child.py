"""The child side of `sandbox.py`: reads a call, runs it, writes its progress and its reply."""

import contextlib
import ctypes
import gc
import importlib
import json
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from typing import Any, BinaryIO

from reelwright.curation import usage
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.sandbox import HEADER

PR_SET_PDEATHSIG = 1
PROGRESS_EVERY_S = 1.0
OUT_OF_MEMORY = re.compile(  # as OpenCV, torch, onnxruntime and libavcodec say it
    r"insufficient memory|n['o]t allocate memory|not enough memory|bad[ _]alloc", re.IGNORECASE
)
_progress_at = 0.0
_out: BinaryIO | None = None


def report_progress(value: Any) -> None:
    """Tell the parent that work continues. Call it often (it costs a clock reading); it sends once per second."""
    global _progress_at  # noqa: PLW0603 - one child, one clock
    now = time.monotonic()
    if _out is not None and now - _progress_at >= PROGRESS_EVERY_S:
        _progress_at = now
        _send({"progress": value})


class _ImportsAreProgress(MetaPathFinder):
    """Torch on a slow disk takes longer than a decoder may be silent: each module that is looked for counts."""

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> None:
        """Find nothing: the finders after it do."""
        report_progress(None)


def main() -> None:
    """Serve calls from stdin until it closes. Arguments: memory bound in bytes, the parent's process id."""
    global _out  # noqa: PLW0603
    memory_bytes, parent = int(sys.argv[1]), int(sys.argv[2])
    _die_with_parent(parent)
    # Twice the resident bound: address space that is reserved but never touched (thread arenas) counts here too.
    resource.setrlimit(resource.RLIMIT_DATA, (2 * memory_bytes, 2 * memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not garble the stream
    sys.meta_path.insert(0, _ImportsAreProgress())
    _single_threaded()
    gc.set_threshold(10_000, 20, 20)  # media work leaves few cycles, and the libraries' objects are many to walk
    source = sys.stdin.buffer
    while header := source.read(HEADER.size):
        request = json.loads(source.read(HEADER.unpack(header)[0]))
        _serve(request)


def _serve(request: dict[str, Any]) -> None:
    module, _, name = request["call"].partition(":")
    usage.begin()
    try:
        result = getattr(importlib.import_module(module), name)(**request["kwargs"])
        value, blobs = result if isinstance(result, tuple) else (result, ())
        _send({"value": value}, blobs)
    except MediaError as error:
        _send({"error": {"kind": error.kind, "message": error.message, "detail": error.detail}})
    except Exception as error:
        detail = "".join(traceback.format_exception(error))[-2000:]
        if isinstance(error, MemoryError) or OUT_OF_MEMORY.search(str(error)):
            message = "decoding asked for more memory than it may have"
            _send({"error": {"kind": "memory", "message": message, "detail": detail}})
            return
        _send({"error": {"kind": "bug", "message": f"{type(error).__name__}: {error}", "detail": detail}})


def _send(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> None:
    assert _out is not None
    if "progress" not in header:
        header["usage"] = usage.end().to_json()
    text = json.dumps(header | {"blobs": [len(b) for b in blobs]}).encode()
    _out.write(HEADER.pack(len(text), sum(map(len, blobs))) + text)
    for blob in blobs:
        _out.write(blob)
    _out.flush()


def _die_with_parent(parent: int) -> None:
    """Kill this process once its parent is gone (Linux).

    A hung decoder must not outlive a worker that was killed with SIGKILL.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _single_threaded() -> None:
    """One worker a core: inner thread pools only fight each other. Costs nothing for libraries not yet imported."""
    import av.logging
    import cv2

    cv2.setNumThreads(1)
    av.logging.restore_default_callback()
    av.logging.set_level(av.logging.ERROR)


if __name__ == "__main__":
    import reelwright.curation.media.sandbox_child as this

    this.main()
