"""All captions of a clip in one list, from which training draws."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from reelwright.annotate.captions.composed_caption import SURE
from reelwright.annotate.captions.writing.compositions import (
    ELEMENTS,
    compose,
    compositions_fingerprint,
    templates_fingerprint,
)
from reelwright.annotate.captions.writing.items import Item, given, text_hash
from reelwright.annotate.contract import Annotator, Column, Resources, Stored

TYPE = pa.list_(
    pa.struct([
        ("text", pa.string()), ("language", pa.string()), ("kind", pa.string()), ("model", pa.string()),
        ("parents", pa.list_(pa.int32())),
    ])
)  # fmt: skip
MEANING = (
    "captions to draw among; kind: source, caption, composed, translation, summary or composition; language: en, zh or "
    "und; parents: indices in the list of those it was made from"
)
INPUTS = (
    "source_caption", "caption", "caption_model", "composed_caption", "caption_rewrites", "camera_motion_confidence",
    *ELEMENTS,
)  # fmt: skip


@dataclass(frozen=True)
class Captions(Annotator):
    """All captions of a clip: the source's, the chat model's, the composed one, rewrites and compositions.

    Rewrites are the translations and summaries that `caption_rewrites` made of the first two. Compositions join a
    caption, the composed one apart, with camera, shot size and style. No model is asked: the list is made again
    whenever one of its inputs changes.

    Args:
        compositions: per caption, drawn with `seed` and the caption's own words.
        seed: of the draws.
    """

    compositions: int = 1
    seed: int = 0

    name, version = "captions", 2
    profiles = ("cpu", "full")
    typical_s = 0.002
    needs = tuple(Stored(column, optional=True) for column in INPUTS)
    columns = {"captions": Column(TYPE, MEANING)}
    resources = Resources(batch=64)

    def __post_init__(self) -> None:
        if self.compositions < 0:
            raise ValueError(f"annotator 'captions': compositions = {self.compositions}; it must be at least 0")

    @property
    def models(self) -> tuple[str, ...]:
        """The fingerprint of the compositions, which stand in the code."""
        return (compositions_fingerprint(),)

    def __call__(self, *inputs: Any) -> dict[str, Any]:
        """Collect and compose the captions of a clip.

        Args:
            inputs: the values of INPUTS, None where not known.
        """
        known = dict(zip(INPUTS, inputs, strict=True))
        items = [
            *given("source", known["source_caption"]),
            *given("caption", known["caption"], known["caption_model"]),
            *given("composed", known["composed_caption"], "composed_caption"),
        ]
        items += list(_rewritten(items, known["caption_rewrites"] or []))
        items += self._composed(items, known)
        return {"captions": [asdict(i) | {"parents": list(i.parents)} for i in items]}

    def _composed(self, items: Sequence[Item], known: Mapping[str, Any]) -> list[Item]:
        confidence = known["camera_motion_confidence"]
        if confidence is not None and confidence < SURE:
            known = {**known, "camera_motion": None}
        model = f"{templates_fingerprint()} seed={self.seed}"
        made: dict[str, Item] = {}
        for i, item in enumerate(items):
            for number in range(self.compositions if item.kind != "composed" else 0):
                text = compose(item.text, item.language, known, self.seed, number)
                if text:
                    made.setdefault(text, Item(text, item.language, "composition", model, (i,)))
        return list(made.values())


def _rewritten(items: Sequence[Item], rewrites: Sequence[Mapping[str, Any]]) -> Iterator[Item]:
    """Yield the rewrites whose parent still has the text that they were made from; the others are stale."""
    positions = {(item.kind, text_hash(item.text)): i for i, item in enumerate(items)}
    for r in rewrites:
        parent = positions.get((r["parent"], r["parent_hash"]))
        if parent is not None:
            yield Item(r["text"], r["language"], r["kind"], r["model"], (parent,))
