"""Pictures of one size, packed without loss: each as its difference from the one before, by Zstandard, 64 at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

TOGETHER = 64  # pictures
LEVEL = 1  # of Zstandard: higher ones take several times as long for a few per cent


class Packing:
    """Takes pictures one by one."""

    def __init__(self) -> None:
        self._waiting: list[np.ndarray] = []
        self._shape: tuple[int, ...] = ()
        self._packed = bytearray()
        self._sizes: list[int] = []
        self._count = 0

    def add(self, picture: np.ndarray) -> None:
        """picture: uint8, of the same shape as all others."""
        self._shape = picture.shape
        self._waiting.append(picture)
        self._count += 1
        if len(self._waiting) == TOGETHER:
            self._pack()

    def done(self) -> "Packed":
        """Return all pictures."""
        if self._waiting:
            self._pack()
        return Packed(self._shape, self._count, self._sizes, self._packed)

    def _pack(self) -> None:
        import pyarrow as pa

        changes = np.stack(self._waiting)
        changes[1:] -= changes[:-1].copy()  # modulo 256, as uint8 is
        chunk = pa.Codec("zstd", compression_level=LEVEL).compress(changes.tobytes(), asbytes=True)
        self._packed += chunk
        self._sizes.append(len(chunk))
        self._waiting.clear()


@dataclass
class Packed:
    """Packed pictures, which are unpacked as they are asked for.

    Args:
        shape: of one.
        count: their number.
        sizes: bytes of each 64 of them.
        data: all those bytes, or the file that holds them, which is read as they are asked for.
    """

    shape: tuple[int, ...]
    count: int
    sizes: Sequence[int]
    data: bytes | bytearray | Path
    _at: int = field(default=-1, init=False, repr=False)
    _chunk: np.ndarray | None = field(default=None, init=False, repr=False)

    def __getitem__(self, number: int) -> np.ndarray:
        """Return a picture, uint8; neighbours of the one before come at no cost."""
        if not 0 <= number < self.count:
            raise IndexError(f"picture {number} of {self.count}")
        if number // TOGETHER != self._at or self._chunk is None:
            self._at = number // TOGETHER
            self._chunk = self._unpacked(self._at)
        return self._chunk[number % TOGETHER]

    def _unpacked(self, at: int) -> np.ndarray:
        import pyarrow as pa

        begin = sum(self.sizes[:at])
        count = min(TOGETHER, self.count - at * TOGETHER)
        packed = self._bytes(begin, self.sizes[at])
        raw = pa.Codec("zstd").decompress(packed, int(count * np.prod(self.shape)))
        return np.add.accumulate(np.frombuffer(raw, np.uint8).reshape(count, *self.shape), dtype=np.uint8)

    def _bytes(self, begin: int, size: int) -> bytes | memoryview:
        if isinstance(self.data, bytes | bytearray):
            return memoryview(self.data)[begin : begin + size]
        with self.data.open("rb") as file:
            file.seek(begin)
            return file.read(size)

    def to_json(self) -> dict[str, Any]:
        """Return all but the bytes."""
        return {"shape": list(self.shape), "count": self.count, "sizes": list(self.sizes)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any], data: bytes | bytearray | Path) -> "Packed":
        """Invert `to_json`."""
        return cls(tuple(value["shape"]), value["count"], value["sizes"], data)
