"""The published text encoder: umT5 through transformers, with its tokenizer."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from reelwright.curation.extras import install_command
from reelwright.errors import first_line
from reelwright.model.config import TextConfig
from reelwright.model.dtypes import DTYPES
from reelwright.model.errors import ModelError
from reelwright.model.text.base import TextEncoder
from reelwright.model.text.clean import clean_text
from reelwright.model.weights.pretrained import digest, resolve

BATCH = 8  # texts at once
TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer_config.json", "special_tokens_map.json")


class UMT5Encoder(TextEncoder):
    """UMT5's encoder.

    Texts are cleaned, tokenized with the end token, cut to `tokens`; padding is masked, so a state does not depend on
    the texts beside it.
    """

    def __init__(self, config: TextConfig, *, device: str = "cpu") -> None:
        """Load the encoder.

        Raises:
            ModelError: weights, tokenizer or transformers are missing.
        """
        self.fingerprint, self.tokens = umt5_fingerprint(config), config.tokens
        self.device = torch.device(device)
        folder = resolve(config.path, "text_encoder", revision=config.revision)
        self.model, self.tokenizer = _load(folder, DTYPES[config.dtype])
        self.model.to(device)
        self.dim = int(self.model.config.d_model)

    @torch.no_grad()
    def encode(self, texts: Sequence[str]) -> list[Tensor]:
        """Return one state per text, [tokens, width].

        Texts of about one length are encoded together, since the shorter ones are padded to the longest.
        """
        cleaned = [clean_text(text) for text in texts]
        order = sorted(range(len(cleaned)), key=lambda i: len(cleaned[i]))
        states: dict[int, Tensor] = {}
        for start in range(0, len(order), BATCH):
            chosen = order[start : start + BATCH]
            states |= dict(zip(chosen, self._encode([cleaned[i] for i in chosen]), strict=True))
        return [states[i] for i in range(len(cleaned))]

    def _encode(self, texts: list[str]) -> list[Tensor]:
        """Encode a batch.

        Padding is on the right, so that the host knows the lengths and need not wait for the device.
        """
        tokens = self.tokenizer(
            texts, padding=True, padding_side="right", truncation=True, max_length=self.tokens, return_tensors="pt"
        )
        lengths = tokens.attention_mask.sum(1).tolist()
        ids, mask = (t.to(self.device, non_blocking=True) for t in (tokens.input_ids, tokens.attention_mask))
        states = self.model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
        return [state[:length] for state, length in zip(states, lengths, strict=True)]


def umt5_fingerprint(config: TextConfig) -> str:
    """Return the fingerprint of weights, tokenizer, length and precision, without loading the network."""
    folder = resolve(config.path, "text_encoder", revision=config.revision)
    tokenizer = _tokenizer_folder(folder)
    files = [hashlib.sha256((tokenizer / name).read_bytes()).hexdigest() for name in _present(tokenizer)]
    return f"umt5-{digest(folder, *files)}-{config.tokens}-{config.dtype}"


def umt5_tokens(config: TextConfig, texts: Sequence[str]) -> list[int]:
    """Return the tokens of each text, as the encoder counts them, without loading the network."""
    folder = resolve(config.path, "text_encoder", revision=config.revision)
    tokenizer = _tokenizer(folder)
    cleaned = [clean_text(text) for text in texts]
    return [len(ids) for ids in tokenizer(cleaned, truncation=True, max_length=config.tokens).input_ids]


def _load(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    tokenizer = _tokenizer(folder)
    from transformers import UMT5EncoderModel

    try:
        model = UMT5EncoderModel.from_pretrained(folder, dtype=dtype, use_safetensors=True)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{folder} does not load as a umT5 encoder: {first_line(error)}") from error
    return model.eval().requires_grad_(False), tokenizer


def _tokenizer(folder: Path) -> Any:
    try:
        from transformers import AutoTokenizer
    except ImportError as error:
        raise ModelError(f"umT5 needs transformers: {install_command('models')}") from error
    path = _tokenizer_folder(folder)
    try:
        return AutoTokenizer.from_pretrained(path)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise ModelError(f"{path} does not load as a tokenizer: {first_line(error)}") from error


def _tokenizer_folder(folder: Path) -> Path:
    """Beside the weights (transformers), or the pipeline's `tokenizer` folder (diffusers)."""
    for path in (folder, folder.parent / "tokenizer"):
        if _present(path):
            return path
    raise ModelError(f"no tokenizer beside {folder}: neither tokenizer.json nor spiece.model is there")


def _present(folder: Path) -> list[str]:
    found = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    return found if {"tokenizer.json", "spiece.model"} & set(found) else []
