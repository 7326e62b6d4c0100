"""Functions that tests run inside a sandbox; found there through sys.path."""

import importlib
import os
import signal
import sys
import time
from typing import Any

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.sandbox_child import report_progress


def echo(**kwargs: Any) -> dict[str, Any]:
    return kwargs


def pid() -> int:
    return os.getpid()


def blobs(sizes: list[int]) -> tuple[str, list[bytes]]:
    return "here", [bytes([i % 251]) * size for i, size in enumerate(sizes)]


def crash(number: int = signal.SIGSEGV) -> None:
    print("the decoder's last words", file=sys.stderr, flush=True)
    os.kill(os.getpid(), number)


def leave(code: int) -> None:
    os._exit(code)


def sleep(seconds: float, progress: bool = False) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if progress:
            report_progress({"at": time.monotonic()})
        time.sleep(0.05)
    return "rested"


def import_all(names: list[str]) -> str:
    for name in names:
        importlib.import_module(name)
    return "imported"


def bloat(mib: int, at_once: bool) -> None:
    held = []
    if at_once:
        held.append(bytearray(mib << 20))
        held[0][::4096] = b"x" * len(held[0][::4096])
    for _ in range(mib // 8):
        held.append(b"x" * (8 << 20))
        time.sleep(0.01)
    time.sleep(5)


def read_text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def chatter() -> str:
    print("\x00\xff" * 5000)
    os.write(1, b"\x01\x00\x00\x00\x00\x00\x00\x00garbage" * 100)
    sys.stdout.flush()
    return "done"


def scream() -> str:
    for _ in range(2000):
        os.write(2, b"[h264 @ 0x1] error while decoding MB\n" * 40)
    return "done"


def fail(kind: str) -> None:
    if kind == "media":
        raise MediaError("open", "not a video", "box 'moov' is missing")
    if kind == "memory":
        raise MemoryError
    if kind == "a library's memory":
        raise RuntimeError("OpenCV(5.0.0) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 64 bytes")
    if kind == "unprintable":
        raise ValueError("\udcff \x00 surrogate")
    raise ZeroDivisionError("a bug of ours")


def unserialisable() -> object:
    return object()


def not_a_number() -> dict[str, float]:
    return {"score": float("nan")}


def call_sys_exit() -> None:
    sys.exit(3)


def environment() -> dict[str, str]:
    return dict(os.environ)
