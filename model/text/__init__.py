"""Captions to states: umT5 as published, or hashed words that stand in for it where there are no weights."""

from collections.abc import Sequence

from reelwright.model.config import TextConfig
from reelwright.model.text.base import TextEncoder, pad_text
from reelwright.model.text.packed import PackedText, pack_text

__all__ = [
    "PackedText",
    "TextEncoder",
    "count_tokens",
    "load_text_encoder",
    "pack_text",
    "pad_text",
    "text_fingerprint",
]


def load_text_encoder(config: TextConfig, *, device: str = "cpu") -> TextEncoder:
    """Load the encoder that a recipe names.

    Raises:
        ModelError: its weights or its library are not there.
    """
    if config.kind == "hashing":
        from reelwright.model.text.hashing import HashingEncoder

        return HashingEncoder(config.dim, config.tokens)
    from reelwright.model.text.umt5 import UMT5Encoder

    return UMT5Encoder(config, device=device)


def count_tokens(config: TextConfig, texts: Sequence[str]) -> list[int]:
    """Return how many states each text has, without loading the network.

    Raises:
        ModelError: the encoder's tokenizer is not there.
    """
    if config.kind == "hashing":
        from reelwright.model.text.hashing import units

        return [min(config.tokens, len(units(text))) for text in texts]
    from reelwright.model.text.umt5 import umt5_tokens

    return umt5_tokens(config, texts)


def text_fingerprint(config: TextConfig) -> str:
    """`load_text_encoder(config).fingerprint`, without loading the network."""
    if config.kind == "hashing":
        return load_text_encoder(config).fingerprint
    from reelwright.model.text.umt5 import umt5_fingerprint

    return umt5_fingerprint(config)
