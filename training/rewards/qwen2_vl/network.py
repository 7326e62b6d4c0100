"""Networks from weights that must fit exactly: none missing, none left over, none of another shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from reelwright.annotate.backends.hub import hub_file, quiet
from reelwright.curation.extras import install_command
from reelwright.errors import first_line
from reelwright.training.errors import TrainError

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

EMBEDDING = "language_model.embed_tokens.weight"
HEAD = "rm_head."
UNUSED = ("lm_head.weight",)  # scores are read from hidden states


def load_config(base: str, revision: str) -> Any:
    """Return the config of a base model. Raises where it is no Qwen2-VL."""
    try:
        from transformers import Qwen2VLConfig
    except ImportError as error:
        raise TrainError(f"Qwen2-VL needs transformers: {install_command('models')}") from error
    path = hub_file(base, "config.json", revision, "base")
    config = Qwen2VLConfig.from_pretrained(path.parent)
    if (kind := config.get_config_dict(path.parent)[0].get("model_type")) != "qwen2_vl":
        raise TrainError(f"base = {base!r} is a model of type {kind!r}; set base to the Qwen2-VL that was tuned")
    return config


def load_network(config: Any, weights: Mapping[str, Tensor], dtype: torch.dtype, where: str) -> Any:
    """Return transformers' `Qwen2VLModel`, without a head, on the CPU.

    Args:
        config: of the base; the vocabulary is as large as the weights' embedding, which has rows of added tokens.
        weights: by common names; those of heads are left.
        dtype: to compute in.
        where: the checkpoint, for messages.

    Raises:
        TrainError: the weights do not fit.
    """
    from transformers import Qwen2VLModel

    body = {k: v for k, v in weights.items() if not k.startswith(HEAD) and k not in UNUSED}
    if EMBEDDING not in body:
        raise TrainError(f"{where} lacks {EMBEDDING!r}, which has the rows of its added tokens; name a complete one")
    config.text_config.vocab_size = len(body[EMBEDDING])
    quiet()
    try:
        network, report = Qwen2VLModel.from_pretrained(
            None, config=config, state_dict=body, dtype=dtype, attn_implementation="sdpa", output_loading_info=True
        )
    except (RuntimeError, ValueError) as error:
        raise TrainError(f"{where} does not fit its base's config.json ({first_line(error)})") from error
    _refuse(where, "lacks", {*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
    _refuse(where, "has over", set(report["unexpected_keys"]))
    return network.requires_grad_(False).eval()


def load_head(head: nn.Module, weights: Mapping[str, Tensor], where: str) -> nn.Module:
    """Return a head in float32 with the weights `rm_head.*`. Raises TrainError where they do not fit."""
    own = {k.removeprefix(HEAD): v.float() for k, v in weights.items() if k.startswith(HEAD)}
    _refuse(where, "lacks", {HEAD + k for k in head.state_dict() if k not in own})
    _refuse(where, "has over", {HEAD + k for k in own if k not in head.state_dict()})
    try:
        head.load_state_dict(own)
    except RuntimeError as error:
        raise TrainError(f"{where} does not fit its base's config.json ({error.args[0]})") from error
    return head.requires_grad_(False).eval()


def _refuse(where: str, what: str, names: set[str]) -> None:
    if names:
        raise TrainError(f"{where} {what} {len(names)} weights of its model, such as {min(names)}; name a complete one")
