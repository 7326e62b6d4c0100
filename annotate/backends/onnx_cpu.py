"""ONNX networks on one CPU thread."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxruntime import InferenceSession


@lru_cache
def open_session(path: Path) -> InferenceSession:
    """Open the network on one thread, once per process: annotators run side by side, one per core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@lru_cache
def model_id(name: str, path: Path) -> str:
    """Return a network's name with the hash of its file, for fingerprints."""
    return f"{name}@{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"
