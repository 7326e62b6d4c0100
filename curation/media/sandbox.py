"""Run media work in a child process that can be killed, so that a hostile file costs only itself.

A `Sandbox` keeps one child (`sandbox_child.py`) alive between calls, because importing decoders and networks costs
seconds. The child may crash, hang or swell: the parent sees it, kills it, raises `MediaError`, and the next call starts
a fresh one. Messages are a JSON header and raw byte strings: nothing is unpickled on either side.
"""

import contextlib
import json
import math
import os
import selectors
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import psutil

from reelwright.curation import usage
from reelwright.curation.media.errors import Kind, MediaError
from reelwright.curation.usage import Usage

HEADER = struct.Struct("<QQ")  # bytes of JSON, bytes of all blobs
POLL_S = 0.2
STDERR_TAIL_CHARS = 2000
CHILD = {
    # One worker per core: inner pools of threads would only fight each other.
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    # Frames and arrays of some MiB come and go with each picture. glibc would map fresh pages for each and hand them
    # back, and the kernel would clear them again: that many page faults cost more than the arithmetic on small frames.
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(128 << 20),
}
"""Environment of the child, over the parent's."""


@dataclass(frozen=True)
class Reply:
    """The result of a sandboxed function: JSON-like `value`, and byte strings too large for JSON."""

    value: Any
    blobs: list[bytes] = field(default_factory=list)


class Sandbox:
    """One killable child process. Not thread-safe; use one per worker process.

    `memory_bytes` bounds the child's resident memory; `stall_s` is how long it may go without reporting progress.
    """

    def __init__(self, *, memory_bytes: int = 2 << 30, stall_s: float = 60.0) -> None:
        self.memory_bytes = memory_bytes
        self.stall_s = stall_s
        self.peak_rss_bytes = 0
        self._child: subprocess.Popen[bytes] | None = None
        self._watched: psutil.Process | None = None  # the child: making it takes thrice a look at its memory
        self._stderr: deque[bytes] = deque(maxlen=200)
        self._drainer: threading.Thread | None = None

    def call(
        self,
        function: str,
        kwargs: Mapping[str, Any],
        on_progress: Callable[[Any], None] | None = None,
        *,
        max_s: float = math.inf,
    ) -> Reply:
        """Call `function` ("package.module:name") with JSON-like `kwargs` in the child.

        max_s: how long it may take in all, however much progress it reports.

        Raises MediaError: the function's own, or `crash`, `timeout`, `memory` for the end of the child.
        """
        child = self._start()
        self._stderr.clear()
        try:
            request = json.dumps({"call": function, "kwargs": kwargs}).encode()
            assert child.stdin is not None
            child.stdin.write(HEADER.pack(len(request), 0) + request)
            child.stdin.flush()
            return self._receive(child, on_progress, max_s)
        except (BrokenPipeError, EOFError):
            raise self._crashed(child) from None
        except MediaError as error:
            if error.kind in ("timeout", "memory", "crash"):
                self.close()
            raise
        except BaseException:
            self.close()  # cancelled half-way: the child's next message would belong to this call
            raise

    def close(self) -> None:
        """Kill the child, if there is one."""
        child, self._child, self._watched = self._child, None, None
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def _start(self) -> subprocess.Popen[bytes]:
        if self._child is not None and self._child.poll() is None:
            return self._child
        self.close()
        self._child = subprocess.Popen(
            [sys.executable, "-m", "reelwright.curation.media.sandbox_child", str(self.memory_bytes), str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | CHILD | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        )
        self._drainer = threading.Thread(target=self._drain, args=(self._child.stderr,), daemon=True)
        self._drainer.start()
        return self._child

    def _drain(self, pipe: Any) -> None:
        with contextlib.suppress(ValueError, OSError):
            while block := pipe.read1(65536):
                self._stderr.append(block[-STDERR_TAIL_CHARS:])

    def _receive(
        self, child: subprocess.Popen[bytes], on_progress: Callable[[Any], None] | None, max_s: float
    ) -> Reply:
        reader = _Reader(child, self, max_s)
        while True:
            header_bytes, blob_bytes = HEADER.unpack(reader.read(HEADER.size))
            header = json.loads(reader.read(header_bytes))
            body = reader.read(blob_bytes)
            if "progress" in header:
                if on_progress:
                    on_progress(header["progress"])
                continue
            usage.note(Usage(**header["usage"]))
            if "error" in header:
                error = header["error"]
                raise MediaError(cast(Kind, error["kind"]), error["message"], error["detail"] or self._tail())
            return Reply(header["value"], _split(body, header["blobs"]))

    def check(self, child: subprocess.Popen[bytes], silent_s: float, over_s: float) -> None:
        """Raise if the child has grown or stalled past its bounds, or taken longer than it may: over_s > 0."""
        with contextlib.suppress(psutil.Error):
            self._watched = self._watched or psutil.Process(child.pid)
            rss = self._watched.memory_info().rss
            self.peak_rss_bytes = max(self.peak_rss_bytes, rss)
            if rss > self.memory_bytes:
                raise MediaError("memory", f"decoding took over {self.memory_bytes >> 20} MiB and was stopped")
        if silent_s > self.stall_s:
            raise MediaError("timeout", f"no progress for {self.stall_s:g} s; decoding was stopped", self._tail())
        if over_s > 0:
            raise MediaError("timeout", "it took longer than one step may and was stopped (limits.max_s)", self._tail())

    def _tail(self) -> str:
        return b"".join(self._stderr).decode("utf-8", "replace")[-STDERR_TAIL_CHARS:].strip()

    def _crashed(self, child: subprocess.Popen[bytes]) -> MediaError:
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(timeout=5)
        if self._drainer:
            self._drainer.join(timeout=2)  # its last words may still be in the pipe
        code = child.returncode
        name = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
        error = MediaError("crash", f"the decoder process died ({name})", self._tail())
        self.close()
        return error


class _Reader:
    """Reads exact byte counts from the child, checking its health whenever it is silent."""

    def __init__(self, child: subprocess.Popen[bytes], owner: Sandbox, max_s: float) -> None:
        assert child.stdout is not None
        self.child, self.owner, self.fd = child, owner, child.stdout.fileno()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.fd, selectors.EVENT_READ)
        self.heard_at = self.checked_at = time.monotonic()
        self.ends_at = self.heard_at + max_s

    def read(self, size: int) -> bytes:
        parts = []
        while size:
            ready = self.selector.select(POLL_S)
            now = time.monotonic()
            if now - self.checked_at >= POLL_S:
                self.checked_at = now
                self.owner.check(self.child, now - self.heard_at, now - self.ends_at)
            if not ready:
                continue
            part = os.read(self.fd, min(size, 1 << 20))
            if not part:
                raise EOFError
            self.heard_at = now
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


def _split(body: bytes, sizes: list[int]) -> list[bytes]:
    view, out = memoryview(body), []
    for size in sizes:
        out.append(bytes(view[:size]))
        view = view[size:]
    return out
