"""Watermarks, logos and channel bugs, as a chat model sees them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.annotate.captions.writing.vocabulary import (
    NO_WATERMARK,
    WATERMARKS,
    described,
    enum_of,
    print_of,
    term_of,
)
from reelwright.annotate.chat.about_clip import AsksAboutClip
from reelwright.annotate.chat.frame_times import Sampling
from reelwright.annotate.chat.structured import ask_json
from reelwright.annotate.contract import Column, runtime

FEW_LARGE = Sampling(min_frames=4, max_frames=4, short_side=720)
SCHEMA = {
    "type": "object",
    "properties": {"watermark": {"type": "boolean"}, "kind": enum_of(WATERMARKS)},
    "required": ["watermark", "kind"],
    "additionalProperties": False,
}


@dataclass(frozen=True)
class WatermarkVlm(AsksAboutClip):
    """Whether something is laid over the picture, and of what kind; parsed strictly, as `cinematography` is.

    Few frames, but larger ones, as marks are small. `watermark` measures the same without a model.
    """

    prompt: str = runtime("watermark")
    sampling: Sampling = FEW_LARGE

    name, version = "watermark_vlm", 1
    columns = {
        "watermark_vlm": Column(pa.bool_(), "a chat model sees a watermark, logo or channel bug"),
        "watermark_vlm_kind": Column(pa.string(), f"of what kind: {', '.join(WATERMARKS)}"),
    }

    @property
    def models(self) -> tuple[str, ...]:
        return (*super().models, print_of(WATERMARKS))

    def batch(self, clips: Sequence[tuple]) -> list[dict[str, Any] | Exception]:
        kinds = {name: term for name, term in WATERMARKS.items() if name != NO_WATERMARK}
        questions = self._questions(clips, SCHEMA, vocabulary=described(kinds))
        found = ask_json(self._chat, questions, check, self.attempts)
        return [
            f if isinstance(f, Exception) else {"watermark_vlm": f["watermark"], "watermark_vlm_kind": f["kind"]}
            for f in found
        ]


def check(answer: dict[str, Any]) -> None:
    """Raise ValueError unless the answer is of the schema and agrees with itself."""
    if answer.keys() != {"watermark", "kind"}:
        raise ValueError("the keys must be exactly watermark and kind")
    if not isinstance(answer["watermark"], bool):
        raise ValueError("watermark must be true or false")
    kind = term_of(WATERMARKS, answer["kind"], "kind")
    if answer["watermark"] == (kind == NO_WATERMARK):
        raise ValueError(f"watermark is {answer['watermark']} but kind is {kind!r}: the two must agree")
