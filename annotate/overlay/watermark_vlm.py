"""Watermarks, logos and channel bugs, as a chat model sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.annotate.chat.about_clip import AsksAboutClip
from reelwright.annotate.chat.asking import ask_json
from reelwright.annotate.chat.frame_times import FrameSampling
from reelwright.annotate.chat.vocabulary import Term, described, enum_of, term_of, vocabulary_fingerprint
from reelwright.annotate.contract import Column, runtime

NO_WATERMARK = "none"
WATERMARKS: Mapping[str, Term] = {
    NO_WATERMARK: Term("nothing is laid over the picture"),
    "logo": Term("a logo, emblem or channel bug of a broadcaster, a platform or a company"),
    "stock_mark": Term("a semi-transparent mark of an agency across the picture, often repeated"),
    "name": Term("the name, handle or address (@name, www) of an author or a site"),
    "app": Term("marks of a recording or editing program, such as 'made with' or a trial notice"),
    "timestamp": Term("a date, clock, counter or camera display burned into the picture"),
}

FEW_LARGE = FrameSampling(min_frames=4, max_frames=4, short_side=720)
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
    sampling: FrameSampling = FEW_LARGE

    name, version = "watermark_vlm", 1
    profiles = ("full",)
    typical_tokens = (4900, 20)
    columns = {
        "watermark_vlm": Column(pa.bool_(), "a chat model sees a watermark, logo or channel bug"),
        "watermark_vlm_kind": Column(pa.string(), f"of what kind: {', '.join(WATERMARKS)}"),
    }

    @property
    def models(self) -> tuple[str, ...]:
        """The chat model, the prompt and the vocabulary of kinds."""
        return (*super().models, vocabulary_fingerprint(WATERMARKS))

    def batch(self, clips: Sequence[tuple]) -> list[dict[str, Any] | Exception]:
        """Ask one question per clip for the kinds of marks in it."""
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
