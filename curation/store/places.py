"""Places of a table's rows, as `take` counts them, by their addresses."""

from __future__ import annotations

from typing import Any

import numpy as np


class Places:
    """Places of rows by their addresses, fragment << 32 | offset: deleted rows have an address and no place.

    Memory: the offsets of one fragment's rows, where it has deleted ones.

    Args:
        dataset: at one version.
    """

    def __init__(self, dataset: Any) -> None:
        self._fragments = {f.fragment_id: f for f in dataset.get_fragments()}
        self._starts: dict[int, int] = {}
        start = 0
        for number, fragment in self._fragments.items():
            self._starts[number] = start
            start += fragment.physical_rows - fragment.num_deletions
        self._known: tuple[int, np.ndarray] | None = None  # a fragment and its rows' offsets

    def __call__(self, addresses: np.ndarray) -> np.ndarray:
        """Return the place of each address, int64."""
        fragments, places = addresses >> np.uint64(32), np.empty(len(addresses), np.int64)
        for number in np.unique(fragments).tolist():
            here = fragments == number
            places[here] = self._starts[number] + self._among_the_live(number, _offsets(addresses[here]))
        return places

    def _among_the_live(self, number: int, offsets: np.ndarray) -> np.ndarray:
        fragment = self._fragments[number]
        if not fragment.num_deletions:
            return offsets
        if self._known is None or self._known[0] != number:
            live = fragment.to_table(columns=[], with_row_address=True).column("_rowaddr").to_numpy()
            self._known = number, np.sort(_offsets(live))
        return np.searchsorted(self._known[1], offsets)


def _offsets(addresses: np.ndarray) -> np.ndarray:
    return (addresses & np.uint64(2**32 - 1)).astype(np.int64)
