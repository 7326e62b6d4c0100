"""The text around a picture or a video, and the special tokens at which a score is read."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from reelwright.curation.extras import install_command
from reelwright.errors import first_line
from reelwright.training.errors import TrainError

PADS = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
TURNS = (  # Qwen2-VL's chat template: its system turn, one user turn, and the start of an answer
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<|vision_start|>{pads}<|vision_end|>{text}<|im_end|>\n"
    "<|im_start|>assistant\n"
)


def load_tokenizer(base: str, revision: str, added: Sequence[str]) -> Any:
    """Return the tokenizer of a base model, with special tokens added behind its own.

    Raises:
        TrainError: it cannot be loaded.
    """
    try:
        from transformers import AddedToken, AutoTokenizer
    except ImportError as error:
        raise TrainError(f"Qwen2-VL needs transformers: {install_command('models')}") from error
    try:
        tokenizer = AutoTokenizer.from_pretrained(base, revision=revision or None)
    except (OSError, ValueError, KeyError) as error:
        raise TrainError(
            f"base = {base!r}: its tokenizer cannot be loaded ({first_line(error)}); "
            "set base to a Qwen2-VL model's folder or its id on the hub"
        ) from error
    tokenizer.add_tokens([AddedToken(token, special=True) for token in added])
    return tokenizer


def control_tokens(tokenizer: Any) -> list[str]:
    """Return what a prompt must not hold: the tokenizer's special and added tokens."""
    return sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()})


def tamed(prompt: str, control: Iterable[str]) -> str:
    """Return a prompt without control tokens, which would move the place where a score is read.

    A space stands for each, so that what is left beside it makes no other one.
    """
    for token in control:
        prompt = prompt.replace(token, " ")
    return prompt


def conversation(text: str, kind: str, tokens: int) -> str:
    """Return the whole text of a question about one picture ("image") or "video" of so many tokens."""
    return TURNS.format(pads=PADS[kind] * tokens, text=text)
