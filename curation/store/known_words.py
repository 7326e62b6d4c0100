"""Texts that come again and again in a table, by small numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

TRIED = 8


class Words:
    """Texts that come again and again, by small numbers; 0 is for none, OTHERS for those that came too late."""

    OTHERS = 2**16 - 1

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts
        self._numbers = {text: n for n, text in enumerate(texts, 1)}
        self._last = 0

    def number(self, text: str) -> int:
        """Return the number of a text; OTHERS where it has none."""
        return self._numbers.get(text, self.OTHERS)

    def note(self, text: str) -> None:
        """Give a number to a text that is new."""
        if text and text not in self._numbers and len(self.texts) < self.OTHERS - 1:
            self.texts.append(text)
            self._numbers[text] = len(self.texts)

    def numbers(self, texts: pa.Array) -> np.ndarray:
        """Return uint16 [N], giving numbers to new texts."""
        coded = texts.dictionary_encode()
        for text in coded.dictionary.to_pylist():
            self.note(text)
        codes = np.array([*map(self.number, coded.dictionary.to_pylist()), 0], np.uint16)
        return codes[pc.fill_null(coded.indices, len(codes) - 1).to_numpy(zero_copy_only=False)]

    def latest(self) -> Iterator[int]:
        """Yield numbers: the one that was used last, and then a few of the latest texts."""
        if self._last:
            yield self._last
        yield from range(len(self.texts), max(0, len(self.texts) - TRIED), -1)

    def used(self, number: int) -> int:
        """Note that a number is used, and return it."""
        self._last = number if number != self.OTHERS else self._last
        return number
