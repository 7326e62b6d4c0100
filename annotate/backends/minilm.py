"""The MiniLM that pip installs with reelwright, in numpy: captions and queries as vectors.

sentence-transformers gives the same vectors, but importing it (with torch, transformers, scikit-learn and what they
import) takes some 13 CPU seconds, as long as a hundred thousand words take to embed.

Architecture: BERT (Devlin et al., 2019), whose last layer is averaged over the tokens of a text.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 16  # texts at once, of about equal length: their activations fit a cache
GELU_ROWS = 16  # tokens at once: seven arrays of 100 KiB


class MiniLM:
    """Embeds texts; a text longer than `max_seq_length` tokens is cut off there. Weights are read when first used."""

    def __init__(self, folder: Path) -> None:
        """folder: a sentence-transformers model of a BERT with mean pooling and unit length."""
        self.folder = folder
        self.config = json.loads((folder / "config.json").read_text("utf-8"))
        self.max_seq_length: int = json.loads((folder / "sentence_bert_config.json").read_text("utf-8"))[
            "max_seq_length"
        ]

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return where in the text each token lies, without special ones, of the whole text."""
        return self._whole.encode(text, add_special_tokens=False).offsets

    @property
    def num_special_tokens(self) -> int:
        """Number of tokens that the tokenizer adds to a text."""
        return self._whole.num_special_tokens_to_add(is_pair=False)

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Return unit vectors, float32 [N, dim]."""
        ids = [encoded.ids for encoded in self._cut_off.encode_batch(list(texts))]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        found = np.zeros((len(ids), self.config["hidden_size"]), np.float32)
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            found[chosen] = self._pooled([ids[i] for i in chosen])
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12)

    @cached_property
    def _whole(self) -> Any:
        return self._tokenizer()

    @cached_property
    def _cut_off(self) -> Any:
        tokenizer = self._tokenizer()
        tokenizer.enable_truncation(self.max_seq_length)
        return tokenizer

    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _weights(self) -> Mapping[str, np.ndarray]:
        from safetensors.numpy import load_file

        return load_file(self.folder / "model.safetensors")

    def _pooled(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Mean of the last layer over each text's tokens: [N, dim]."""
        longest = max(map(len, ids))
        tokens = np.array([[*one, *[0] * (longest - len(one))] for one in ids])
        is_token = np.arange(longest) < np.array([[len(one)] for one in ids])
        x = self._embedded(tokens)
        unseen = np.where(is_token, np.float32(0), np.float32(-1e9))[:, None, None]
        for layer in self._layers():
            x = self._layer(x, unseen, layer)
        return (x * is_token[..., None]).sum(1) / is_token.sum(1, keepdims=True)

    def _embedded(self, tokens: np.ndarray) -> np.ndarray:
        words, positions, kinds = (
            self._weights[f"embeddings.{of}_embeddings.weight"] for of in ("word", "position", "token_type")
        )
        x = words[tokens] + positions[: tokens.shape[1]] + kinds[0]
        return self._normed(x, "embeddings.LayerNorm")

    def _layers(self) -> Iterator[str]:
        return (f"encoder.layer.{i}." for i in range(self.config["num_hidden_layers"]))

    def _layer(self, x: np.ndarray, unseen: np.ndarray, at: str) -> np.ndarray:
        """x: [N, T, dim]; unseen: [N, 1, 1, T], added to what attention weighs."""
        query, key, value = (self._heads(self._dense(x, f"{at}attention.self.{k}")) for k in ("query", "key", "value"))
        weight = query @ key.swapaxes(2, 3) / np.float32(np.sqrt(query.shape[-1])) + unseen
        weight = np.exp(weight - weight.max(-1, keepdims=True))
        weight /= weight.sum(-1, keepdims=True)
        seen = (weight @ value).swapaxes(1, 2).reshape(x.shape)
        x = self._normed(x + self._dense(seen, f"{at}attention.output.dense"), f"{at}attention.output.LayerNorm")
        inner = _gelu(self._dense(x, f"{at}intermediate.dense"))
        return self._normed(x + self._dense(inner, f"{at}output.dense"), f"{at}output.LayerNorm")

    def _heads(self, x: np.ndarray) -> np.ndarray:
        """[N, T, dim] -> [N, heads, T, dim / heads]."""
        return x.reshape(*x.shape[:2], self.config["num_attention_heads"], -1).swapaxes(1, 2)

    def _dense(self, x: np.ndarray, name: str) -> np.ndarray:
        """One product of two matrices: numpy would multiply text by text, at half the speed."""
        made = x.reshape(-1, x.shape[-1]) @ self._weights[f"{name}.weight"].T
        made += self._weights[f"{name}.bias"]
        return made.reshape(*x.shape[:-1], -1)

    def _normed(self, x: np.ndarray, name: str) -> np.ndarray:
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt(np.square(x).mean(-1, keepdims=True) + np.float32(self.config["layer_norm_eps"]))
        return x * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]


def _gelu(x: np.ndarray) -> np.ndarray:
    """Return x times the normal distribution function of x; erf by Abramowitz and Stegun's 7.1.26, to 1.5e-7."""
    made = np.empty_like(x)
    for part, out in zip(_few_rows(x), _few_rows(made), strict=True):
        size = np.abs(part)
        z = size * np.float32(np.sqrt(0.5))
        t = 1 / (1 + np.float32(0.3275911) * z)
        tail = np.zeros_like(t)
        for factor in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
            tail += np.float32(factor)
            tail *= t
        np.multiply(z, z, out=z)
        np.negative(z, out=z)
        tail *= np.exp(z, out=z)
        np.subtract(1, tail, out=tail)
        tail *= size
        tail += part
        np.multiply(tail, np.float32(0.5), out=out)
    return made


def _few_rows(x: np.ndarray) -> Iterator[np.ndarray]:
    """Return views of `x` with a few tokens each: what is computed of them stays in a core's cache."""
    flat = x.reshape(-1, x.shape[-1])
    return (flat[start : start + GELU_ROWS] for start in range(0, len(flat), GELU_ROWS))
