"""ONNX networks on one CPU thread, at the speed they ought to have."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

NEGLIGIBLE = np.float32(1e-20)
# field numbers of onnx.proto: ModelProto.graph, GraphProto.initializer, TensorProto.{data_type, raw_data}
_GRAPH, _INITIALIZER, _DATA_TYPE, _RAW_DATA, _FLOAT = 7, 5, 2, 9, 1


@lru_cache
def open_session(path: Path) -> InferenceSession:
    """Open the network on one thread, once per process: annotators run side by side, one per core."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    model = without_denormals(path.read_bytes())
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@lru_cache
def model_id(path: Path) -> str:
    """Return file name and content hash, for fingerprints."""
    return f"{path.stem}@{hashlib.sha256(path.read_bytes()).hexdigest()[:16]}"


def without_denormals(model: bytes) -> bytes:
    """Return the same network with float weights below 1e-20 set to zero.

    Weight decay leaves dead channels of 1e-30 and less; they and their products are denormal numbers, which cost a CPU
    some 100 times a normal one: two layers of PP-OCRv6's detector took about 70 % of its time, and no bit of its output
    changed here. onnxruntime's `session.set_denormal_as_zero` is as fast, but works in the first session of a process
    only, and makes the calling thread flush denormals in everybody's arithmetic.
    """
    buffer = bytearray(model)
    for graph in _fields(buffer, 0, len(buffer), _GRAPH):
        for tensor in _fields(buffer, *graph, _INITIALIZER):
            kind = [_varint(buffer, start)[0] for start, _ in _fields(buffer, *tensor, _DATA_TYPE)]
            for start, end in _fields(buffer, *tensor, _RAW_DATA) if kind == [_FLOAT] else ():
                weights = np.frombuffer(buffer, "<f4", (end - start) // 4, start)
                weights[np.abs(weights) < NEGLIGIBLE] = 0
    return bytes(buffer)


def _fields(buffer: bytearray, start: int, end: int, wanted: int) -> Iterator[tuple[int, int]]:
    """(start, end) of each value of field `wanted` in the protobuf message at buffer[start:end]."""
    while start < end:
        key, value = _varint(buffer, start)
        wire = key & 7
        if wire == 0:
            _, start = _varint(buffer, value)
        elif wire == 2:
            size, value = _varint(buffer, value)
            start = value + size
        else:
            start = value + {1: 8, 5: 4}[wire]
        if key >> 3 == wanted:
            yield value, start


def _varint(buffer: bytearray, at: int) -> tuple[int, int]:
    """(value, position after it)."""
    value = shift = 0
    while True:
        byte = buffer[at]
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            return value, at
