"""The tensors of a file that `torch.save` wrote, without torch, which takes longer to import than a small network runs.

Such a file is a ZIP archive: a pickle that says what tensors there are, and the bytes of each storage. A pickle may
call any function it names; this reader knows the two that a dict of tensors needs, and refuses all others.
"""

from __future__ import annotations

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    """Read a state dict of contiguous float32 and int64 tensors; the arrays are read-only.

    Raises:
        pickle.UnpicklingError: the file holds something else.
    """
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if name is None:
            raise pickle.UnpicklingError(f"{path} has no data.pkl, expected a file written by torch.save")
        found = _Reader(archive, name.removesuffix("data.pkl")).load()
    if not isinstance(found, dict) or not all(isinstance(value, np.ndarray) for value in found.values()):
        raise pickle.UnpicklingError(f"{path} holds {type(found).__name__}, expected a dict of tensors")
    return found


class _Reader(pickle.Unpickler):
    def __init__(self, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(io.BytesIO(archive.read(folder + "data.pkl")))
        self._archive, self._folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        """Return one of the few things a state dict refers to."""
        if (module, name) not in _KNOWN:
            raise pickle.UnpicklingError(f"the file asks for {module}.{name}, expected tensors alone")
        return _KNOWN[module, name]

    def persistent_load(self, pid: Any) -> np.ndarray:
        """Read a storage."""
        _, dtype, key, *_ = pid
        return np.frombuffer(self._archive.read(f"{self._folder}data/{key}"), dtype)


def _tensor(storage: np.ndarray, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> np.ndarray:
    array = storage[offset : offset + int(np.prod(size))].reshape(size)
    if any(step * array.itemsize != s for step, s, n in zip(stride, array.strides, size, strict=True) if n > 1):
        raise pickle.UnpicklingError(f"a tensor {tuple(size)} has strides {tuple(stride)}, expected a contiguous one")
    return array


_KNOWN: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch", "FloatStorage"): np.dtype("<f4"),
    ("torch", "LongStorage"): np.dtype("<i8"),
}
