"""Names of weights: every layout of a Qwen2-VL checkpoint under the names of transformers' `Qwen2VLModel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

from reelwright.training.errors import TrainError

PEFT = "base_model.model."
HEADS = ("lm_head.", "rm_head.")
PARTS = ("visual.", "language_model.")
LANGUAGE = ("embed_tokens.", "layers.", "norm.")

T = TypeVar("T")


def common_name(name: str) -> str:
    """Return a weight's name in `Qwen2VLModel`; of a head, and of a weight that no layout knows, its own.

    Until transformers 4.51 a full model held `visual.*` and `model.layers.*`; since 4.52 it holds `model.visual.*` and
    `model.language_model.layers.*`. PEFT wraps either in `base_model.model.`.
    """
    own = name.removeprefix(PEFT)
    if own.startswith(HEADS):
        return own
    inner = own.removeprefix("model.")
    if inner.startswith(PARTS):
        return inner
    return f"language_model.{inner}" if inner.startswith(LANGUAGE) else name


def common_names(weights: Mapping[str, T], where: str) -> dict[str, T]:
    """Return the weights under their common names.

    Args:
        weights: by their names in a file.
        where: the file, for the message.

    Raises:
        TrainError: two of them are one weight.
    """
    found: dict[str, T] = {}
    for name, weight in weights.items():
        common = common_name(name)
        if common in found:
            raise TrainError(f"{where} holds {common!r} twice, in two layouts; name a checkpoint of one model")
        found[common] = weight
    return found
