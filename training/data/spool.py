"""Arrow columns and numpy arrays of more rows than memory holds: written by stretches, mapped from files without names.

Whatever ends a process frees such files. A page counts as a process's memory from when it is looked at until `forget`,
which costs little: the system still has it at hand while nothing else wants the memory. What is small stays in memory.
"""

from __future__ import annotations

import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

STRETCH = 1 << 16
"""Rows that are looked at together: a multiple of 8, and 128 or more."""
IN_MEMORY = 1 << 20
"""Bytes of a column or an array that are not put on disk."""
_MAPS: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def stretches(rows: int) -> Iterator[slice]:
    """Yield the rows of a table, STRETCH at a time, at least once; pages of the last ones are let go."""
    for start in range(0, max(rows, 1), STRETCH):
        yield slice(start, min(start + STRETCH, rows))
        forget()


def forget() -> None:
    """Let go of the pages of all files of this module, which come again where they are looked at again."""
    for one in list(_MAPS):
        one.madvise(mmap.MADV_DONTNEED)


def scratch(shape: int | tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an array of zeros."""
    size = math.prod(shape if isinstance(shape, tuple) else (shape,)) * np.dtype(dtype).itemsize
    if size <= IN_MEMORY:
        return np.zeros(shape, dtype)
    with tempfile.TemporaryFile(prefix="reel-") as file:
        _reserve(file.fileno(), size)
        return np.frombuffer(_mapped(file.fileno(), size, mmap.PROT_READ | mmap.PROT_WRITE), dtype).reshape(shape)


def tally(sums: np.ndarray, places: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Add values to sums at their places, one after the other, so that it is the same by how many stretches."""
    every = np.concatenate([np.arange(len(sums)), places])
    return np.bincount(every, weights=np.concatenate([sums, values]), minlength=len(sums))


def total(values: np.ndarray) -> np.float64:
    """Return the sum as numpy's of the whole array is rounded: of halves, whose lengths are multiples of 8."""
    if len(values) <= STRETCH:
        found = values.sum()
        forget()
        return found
    half = len(values) // 2 // 8 * 8
    return total(values[:half]) + total(values[half:])


class Spool:
    """A table that grows by batches.

    Args:
        schema: of the rows: numbers, bool, large_string, and binary of one size, or lists of these.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self.schema, self.rows = schema, 0
        self._columns = [_Column(field.type) for field in schema]

    def add(self, rows: pa.RecordBatch) -> None:
        """Append rows of the schema."""
        self.rows += len(rows)
        for column, array in zip(self._columns, rows.columns, strict=True):
            column.add(array)

    def table(self) -> pa.Table:
        """Return all rows, each column in one piece."""
        return pa.Table.from_arrays([column.array() for column in self._columns], schema=self.schema)


class _Bytes:
    """A buffer that grows."""

    def __init__(self) -> None:
        self._file, self._size = tempfile.SpooledTemporaryFile(IN_MEMORY, prefix="reel-"), 0  # noqa: SIM115

    def add(self, data: Any) -> None:
        self._size += self._file.write(data)

    def buffer(self) -> pa.Buffer:
        self._file.flush()
        if self._size > IN_MEMORY:
            return pa.py_buffer(_mapped(self._file.fileno(), self._size, mmap.PROT_READ))
        self._file.seek(0)
        return pa.py_buffer(self._file.read())


class _Bits:
    """A byte for each of many booleans while they grow, then a bit."""

    def __init__(self) -> None:
        self._bytes, self._count = _Bytes(), 0

    def add(self, values: np.ndarray) -> None:
        self._count += len(values)
        self._bytes.add(np.ascontiguousarray(values, np.uint8))

    def buffer(self) -> pa.Buffer:
        packed, values = _Bytes(), np.frombuffer(self._bytes.buffer(), np.uint8)
        for here in stretches(self._count):  # whole bytes, but for the last
            packed.add(np.packbits(values[here], bitorder="little"))
        return packed.buffer()


class _Column:
    """Buffers of one type. Bits of nulls are there from the first null on."""

    def __init__(self, kind: pa.DataType) -> None:
        self.kind, self.rows, self._nulls, self._end = kind, 0, 0, 0
        self._valid = _Bits()
        self._values, self._flags = _Bytes(), _Bits()
        is_text = pa.types.is_large_string(kind)
        self._offset = np.int64 if is_text else np.int32 if pa.types.is_list(kind) else None
        self._offsets = _Bytes()
        if self._offset:
            self._offsets.add(np.zeros(1, self._offset))
        self._child = _Column(kind.value_type) if pa.types.is_nested(kind) else None

    def add(self, array: pa.Array) -> None:
        if array.null_count and not self._nulls:
            for here in stretches(self.rows):
                self._valid.add(np.ones(here.stop - here.start, bool))
        self._nulls += array.null_count
        if self._nulls:
            self._valid.add(array.is_valid().to_numpy(zero_copy_only=False))
        self.rows += len(array)
        if self._offset:
            self._add_parts(array)
        elif self._child:
            self._child.add(array.flatten())
        elif pa.types.is_boolean(self.kind):
            self._flags.add(array.fill_null(False).to_numpy(zero_copy_only=False))
        else:
            width = self.kind.bit_width // 8
            data = memoryview(array.buffers()[1] or b"")
            self._values.add(data[array.offset * width : (array.offset + len(array)) * width])

    def _add_parts(self, array: pa.Array) -> None:
        """Add rows of different lengths: texts, or lists."""
        offsets = np.frombuffer(array.buffers()[1] or b"\0" * 8, self._offset)[array.offset :][: len(array) + 1]
        first, last = int(offsets[0]), int(offsets[-1])
        if self._end + last - first > np.iinfo(offsets.dtype).max:
            raise OverflowError(f"{self._end + last - first:,} entries do not fit in one column of {self.kind}")
        self._offsets.add(offsets[1:] + np.array(self._end - first, offsets.dtype))
        self._end += last - first
        if self._child:
            self._child.add(array.values.slice(first, last - first))
        else:
            self._values.add(memoryview(array.buffers()[2] or b"")[first:last])

    def array(self) -> pa.Array:
        buffers = [self._valid.buffer() if self._nulls else None]
        if self._offset:
            buffers.append(self._offsets.buffer())
        if not self._child:
            values = self._flags if pa.types.is_boolean(self.kind) else self._values
            buffers.append(values.buffer())
        children = [self._child.array()] if self._child else None
        return pa.Array.from_buffers(self.kind, self.rows, buffers, self._nulls, children=children)


def _reserve(file: int, size: int) -> None:
    """Lengthen a file; a full disk is an error here, and would be a signal when a page is written."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
    else:
        os.ftruncate(file, size)


def _mapped(file: int, size: int, protection: int) -> mmap.mmap:
    found = mmap.mmap(file, size, mmap.MAP_SHARED, protection)
    _MAPS.add(found)
    return found
