"""CIDEr (Vedantam et al., 2015) with tokens of our own: lower-case words without marks, not PTB's, which need Java.

The number is called `cider_own_tokens`, as it is not the published tool's. It weighs n-grams by how few references hold
them, so it needs a corpus, and it was made for captions of one sentence: for long ones look at events first.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence

LONGEST = 4  # words of an n-gram
_WORD = re.compile(r"\w+")


def tokens(text: str) -> list[str]:
    """Return a text's words in lower case."""
    return _WORD.findall(text.lower())


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """Return each caption's CIDEr: 10 times the mean cosine of tf-idf vectors of 1- to 4-grams.

    Args:
        captions: to be scored.
        references: one or more texts per caption; all of them make the document frequencies.
    """
    frequencies: Counter[tuple[str, ...]] = Counter()
    for texts in references:
        frequencies.update({gram for text in texts for some in _grams(text) for gram in some})
    count = max(len(references), 1)
    found = []
    for caption, texts in zip(captions, references, strict=True):
        own = _grams(caption)
        scores = []
        for text in texts:
            others = _grams(text)
            pairs = zip(own, others, strict=True)
            scores.append(sum(_cosine(a, b, frequencies, count) for a, b in pairs) / LONGEST)
        found.append(10 * sum(scores) / len(scores) if scores else 0.0)
    return found


def _grams(text: str) -> list[Counter[tuple[str, ...]]]:
    words = tokens(text)
    return [Counter(zip(*(words[i:] for i in range(n)), strict=False)) for n in range(1, LONGEST + 1)]


def _cosine(
    a: Mapping[tuple[str, ...], int], b: Mapping[tuple[str, ...], int], frequencies: Mapping[tuple[str, ...], int],
    count: int,
) -> float:  # fmt: skip
    def weighed(grams: Mapping[tuple[str, ...], int]) -> dict[tuple[str, ...], float]:
        total = sum(grams.values())
        return {g: n / total * math.log(count / max(1, frequencies.get(g, 0))) for g, n in grams.items()}

    first, second = weighed(a), weighed(b)
    norms = math.sqrt(sum(v * v for v in first.values())) * math.sqrt(sum(v * v for v in second.values()))
    return sum(value * second.get(gram, 0.0) for gram, value in first.items()) / norms if norms else 0.0
