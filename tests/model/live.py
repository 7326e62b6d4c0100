"""Count the elements of all tensors that live at once: memory's bound, without timing or a device."""

from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary


class LiveElements(TorchDispatchMode):
    """Within, `peak` is the largest number of elements in storages that operations have made and somebody holds."""

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._made = WeakIdKeyDictionary()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self._made[leaf] = True
        held = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() // t.element_size() for t in self._made}
        self.peak = max(self.peak, sum(held.values()))
        return out
