"""Which captions a clip has, in one order for exports and for training.

The order: a caption that a person wrote in `reel app`, else the column that was asked for, else the clip's own
`caption` (a model's), else a manifest's caption of its span, else of its whole file. A caption composed from
measurements does not describe the content, so it is taken only where its kind, or its column, is asked for.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from reelwright.curation.store.errors import StoreError, unknown_name

LIST_COLUMN = "captions"
CAPTION, SOURCE, COMPOSED = "caption", "source", "composed"
FALLBACKS = (
    ("caption", CAPTION), ("span_captions", SOURCE), ("span_caption", SOURCE), ("composed_caption", COMPOSED),
)  # fmt: skip
"""Columns of clips that hold captions of one kind, in the order in which they are taken."""

EDITED = "review_caption"
"""Column of clips with the caption that a person wrote, which stands for all others."""

SourceCaptions = Mapping[str, Sequence[str]]
"""md5 of a source -> the captions that its manifest gives the whole file."""


@dataclass(frozen=True)
class Captions:
    """A clip's captions, none of them blank, and the kind of each; both empty where it has none."""

    texts: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()

    def best_first(self, kinds: Sequence[str] = ()) -> Captions:
        """Order captions by `kinds`, or a model's before a manifest's before the rest, for formats of one caption."""
        order = [*kinds, *(kind for kind in (CAPTION, SOURCE) if kind not in kinds)]
        pairs = sorted(
            zip(self.texts, self.kinds, strict=True), key=lambda p: order.index(p[1]) if p[1] in order else len(order)
        )
        return Captions(tuple(text for text, _ in pairs), tuple(kind for _, kind in pairs))


@dataclass(frozen=True)
class Wanted:
    """column: of clips, before all others: text, or a list of texts or of structs with the fields text and kind.

    kinds: of such a list, these alone; where it has none, columns of these kinds come before the others. None given:
    all but composed.
    """

    column: str = CAPTION
    kinds: tuple[str, ...] = ()

    @property
    def takes_edits(self) -> bool:
        """Whether a person's caption comes first: not where another column, or captions of other kinds, are asked."""
        return self.column in (CAPTION, LIST_COLUMN) and (not self.kinds or CAPTION in self.kinds)

    def columns(self, known: Collection[str]) -> list[str]:
        """Return the columns among `known` that captions are read from."""
        edited = [EDITED] if self.takes_edits else []
        others = (name for name, kind in FALLBACKS if kind != COMPOSED or COMPOSED in self.kinds)
        names = [*edited, self.column, *others]
        return [name for name in dict.fromkeys(names) if name in known]

    def check(self, schema: pa.Schema) -> None:
        """Raise StoreError where `column` is none of clips, or holds no text. The usual ones may be missing."""
        usual = {LIST_COLUMN, *(name for name, _ in FALLBACKS)}
        if self.column not in schema.names:
            if self.column in usual:
                return
            raise unknown_name(self.column, "column of clips", schema.names, see="reel describe clips")
        if not _holds_text(schema.field(self.column).type):
            raise StoreError(
                f"the caption column {self.column} holds {schema.field(self.column).type}; captions are text, or a "
                "list of texts or of structs with a field text."
            )

    def of(self, row: Mapping[str, Any], from_source: SourceCaptions) -> Captions:
        """Return the captions of a clip. row: its columns, with source_md5."""
        edited = _read(row.get(EDITED), CAPTION) if self.takes_edits else Captions()
        if edited.texts:
            return edited
        asked = _read(row.get(self.column), dict(FALLBACKS).get(self.column, self.column), self.kinds)
        if asked.texts:
            return asked
        others = [_read(row.get(name), kind) for name, kind in FALLBACKS if kind != COMPOSED]
        others.append(_read(list(from_source.get(row.get("source_md5") or "", ())), SOURCE))
        if COMPOSED in self.kinds:
            others.append(_read(row.get("composed_caption"), COMPOSED))
        there = [one for one in others if one.texts]
        return min(there, key=lambda one: bool(self.kinds) and one.kinds[0] not in self.kinds, default=Captions())


def _read(value: Any, kind: str, kinds: Collection[str] = ()) -> Captions:
    """Read the captions in a cell, each once; of structs that say their kind, only the wanted kinds."""
    found: dict[str, str] = {}
    for item in value if isinstance(value, list | tuple) else [value]:
        its, text = (item.get("kind") or kind, item.get("text")) if isinstance(item, dict) else (kind, item)
        listed = isinstance(item, dict) and "kind" in item
        wanted = its in kinds if kinds and listed else its != COMPOSED or not listed
        if wanted and isinstance(text, str) and text.strip():
            found.setdefault(text, its)
    return Captions(tuple(found), tuple(found.values()))


def _holds_text(type: pa.DataType) -> bool:
    if pa.types.is_list(type) or pa.types.is_large_list(type):
        return _holds_text(type.value_type)
    if pa.types.is_struct(type):
        return type.get_field_index("text") >= 0
    return pa.types.is_string(type) or pa.types.is_large_string(type) or pa.types.is_null(type)
