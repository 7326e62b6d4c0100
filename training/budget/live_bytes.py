"""Bytes of live tensors while something runs: every storage that an operation makes, until it is freed."""

import weakref
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveBytes(TorchDispatchMode):
    """Within it, storages that operations make are counted. With fake tensors nothing is computed or allocated.

    Memory that an operation needs only while it runs is not seen. A storage that is resized, as FSDP2 does with
    weights that it gathers and lets go, counts with its new size.
    """

    def __init__(self) -> None:
        super().__init__()
        self._serial: dict[int, int] = {}  # id of a live storage -> its number
        self._refs: dict[int, Any] = {}
        self._sizes: dict[int, int] = {}  # number -> bytes counted of it
        self._events: list[tuple[int, int]] = []  # (number, bytes; negative when freed), in order
        self._made = 0
        self._resize: Any = None

    def __enter__(self) -> Any:
        resize = self._resize = torch.UntypedStorage.resize_

        def resized(storage: torch.UntypedStorage, size: int) -> Any:
            self._see(storage, size=0)
            out = resize(storage, size)
            self._count(self._serial[id(storage)], size)
            return out

        torch.UntypedStorage.resize_ = resized
        return super().__enter__()

    def __exit__(self, *failure: Any) -> None:
        torch.UntypedStorage.resize_ = self._resize
        super().__exit__(*failure)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(issubclass(kind, DTensor) for kind in types):
            return NotImplemented  # it comes again with the shards that it works on
        return self.run(func, args, kwargs)

    def run(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Run an operation, and count its results."""
        for storage in _storages((args, kwargs)):
            self._see(storage, size=0)  # unless it is known, it was there before: a view of it is not new
        out = func(*args, **(kwargs or {}))
        for storage in _storages(out):
            self._see(storage, size=storage.nbytes())
        return out

    def timeline(self, apart: Iterable[Tensor] = ()) -> list[tuple[int, int]]:
        """(bytes of all storages but those of `apart`, bytes of theirs) after each change."""
        numbers = {self._serial[id(t.untyped_storage())] for t in apart if id(t.untyped_storage()) in self._serial}
        line, rest, theirs = [], 0, 0
        for number, size in self._events:
            if number in numbers:
                theirs += size
            else:
                rest += size
            line.append((rest, theirs))
        return line

    def _see(self, storage: torch.UntypedStorage, *, size: int) -> None:
        key = id(storage)
        if key in self._serial:
            return
        number = self._made
        self._made += 1

        def freed(_: Any) -> None:
            self._serial.pop(key, None)
            self._refs.pop(key, None)
            self._count(number, 0)

        self._serial[key], self._refs[key] = number, weakref.ref(storage, freed)
        self._count(number, size)

    def _count(self, number: int, size: int) -> None:
        """Note that a storage has `size` bytes from now on."""
        self._events.append((number, size - self._sizes.get(number, 0)))
        self._sizes[number] = size


def _storages(tree: Any) -> Iterator[torch.UntypedStorage]:
    return (leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor))
