"""A text encoder without weights, a stand-in for umT5: every word is a fixed random direction.

A network trained on it learns the captions' words and pairs of neighbours, not their meaning: synonyms are
strangers to one another.
"""

import functools
import hashlib
import itertools
import math
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from reelwright.model.text.base import TextEncoder

VERSION = 1
# Scripts that put no spaces between words: Thai to Khmer, kana, CJK ideographs. Their unit is the character.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
MARKS = "\u0300-\u036f\u0610-\u061a\u064b-\u065f\u0900-\u0dff"  # vowel signs and accents, which \w leaves out
UNIT = re.compile(rf"[{UNSPACED}]|(?:[^\W{UNSPACED}]|[{MARKS}])+")


class HashingEncoder(TextEncoder):
    """Words, then pairs of neighbouring words, in the order of the text; a state knows nothing of its place.

    States are gaussian with unit variance, from SHAKE-256 of the word: the same on every machine and in every process.
    """

    def __init__(self, dim: int = 64, tokens: int = 512) -> None:
        self.dim, self.tokens = dim, tokens
        self.device = torch.device("cpu")
        self.fingerprint = f"hashing-standin-v{VERSION}-{dim}x{tokens}"

    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Return one state per text, [tokens, width]."""
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> Tensor:
        return torch.from_numpy(np.stack([_direction(u, self.dim) for u in units(text)[: self.tokens]]))


def units(text: str) -> list[str]:
    """Lower-case words (characters, in scripts without spaces) and their pairs; [""] for a text without words."""
    words = UNIT.findall(unicodedata.normalize("NFKC", text).casefold())
    return [*words, *(f"{a} {b}" for a, b in itertools.pairwise(words))] or [""]


@functools.lru_cache(maxsize=1 << 16)
def _direction(unit: str, dim: int) -> np.ndarray:
    """float32 [dim]: normal deviates by Box and Muller's transform of hashed bits."""
    bits = np.frombuffer(hashlib.shake_256(unit.encode("utf-8", "surrogatepass")).digest(8 * dim), "<u4")
    radius, angle = (bits.reshape(2, dim) + 0.5) / 2.0**32
    return (np.sqrt(-2 * np.log(radius)) * np.cos(2 * math.pi * angle)).astype(np.float32)
