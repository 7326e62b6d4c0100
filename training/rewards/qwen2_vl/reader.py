"""A tuned Qwen2-VL that reads: pictures or videos and their texts in, hidden states at special tokens out."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from reelwright.annotate.backends.videos.patches import Patches
from reelwright.training.errors import TrainError
from reelwright.training.rewards.qwen2_vl.network import EMBEDDING
from reelwright.training.rewards.qwen2_vl.tokens import PADS, control_tokens, conversation, tamed


class Reader:
    """A network, its tokenizer, and the tokens at which it is read.

    Args:
        network: transformers' `Qwen2VLModel`.
        tokenizer: with the added tokens.
        marks: the special tokens to read at, each of them once in every text.
        where: the checkpoint, for messages.
    """

    def __init__(self, network: Any, tokenizer: Any, marks: Sequence[str], where: str) -> None:
        """Raise TrainError where network and tokenizer are not of one model."""
        self.network, self.tokenizer = network, tokenizer
        self._tokenizing = threading.Lock()
        self.control = control_tokens(tokenizer)
        self.marks = tokenizer.convert_tokens_to_ids(list(marks))
        rows = network.config.text_config.vocab_size
        if rows != len(tokenizer):
            raise TrainError(
                f"{where}: {EMBEDDING} has {rows} rows, and base's tokenizer {len(tokenizer)} tokens with the added "
                "ones; set base to the model that was tuned"
            )
        for kind, pad in PADS.items():
            if tokenizer.convert_tokens_to_ids(pad) != getattr(network.config, f"{kind}_token_id"):
                raise TrainError(f"{where}: base's tokenizer and config.json number {pad} differently; set base anew")

    @property
    def device(self) -> torch.device:
        """The device of the network."""
        return self.network.device

    def text(self, instruction: str, field: str, prompt: str) -> str:
        """Return an instruction with a prompt in its field, rid of control tokens."""
        return instruction.replace(field, tamed(prompt, self.control))

    @torch.inference_mode()
    def __call__(self, texts: Sequence[str], seen: Sequence[Patches], kind: Literal["image", "video"]) -> Tensor:
        """Read one picture or video per text.

        Positions are 0, 1, 2, … on all three axes of the rotary embedding. The published weights were trained so:
        transformers 4.45 took them where a model was given embeddings; newer ones count rows, columns and frames apart
        (mrope) unless told otherwise, and other positions give other scores.

        Args:
            texts: of the user's turn, after the picture or video.
            seen: on the network's device.
            kind: of what is seen.

        Returns:
            Hidden states after the last norm, float32 [B, marks, width], in the order of `marks`.
        """
        whole = [conversation(text, kind, one.tokens) for text, one in zip(texts, seen, strict=True)]
        with self._tokenizing:  # its padding is a state that two threads must not set at once
            tokens = self.tokenizer(whole, padding=True, padding_side="right", return_tensors="pt")
        ids = tokens.input_ids.to(self.device)  # no mask: padding stands behind, where causal attention does not look
        named = {"image": ("pixel_values", "image_grid_thw"), "video": ("pixel_values_videos", "video_grid_thw")}[kind]
        given = (torch.cat([one.values for one in seen]), torch.tensor([one.grid for one in seen], device=self.device))
        positions = torch.arange(ids.shape[1], device=self.device).expand(3, *ids.shape)
        states = self.network(
            input_ids=ids,
            position_ids=positions,
            use_cache=False,
            **dict(zip(named, given, strict=True)),
        ).last_hidden_state
        return torch.stack([_at(states, ids == mark) for mark in self.marks], 1).float()


def _at(states: Tensor, mark: Tensor) -> Tensor:
    """Return [B, width] of states [B, L, width] where a mask [B, L] is true, once per row."""
    if not bool((mark.sum(1) == 1).all()):
        raise TrainError("a text does not hold each special token once; the instruction must, and prompts must not")
    return states[mark]
