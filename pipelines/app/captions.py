"""The captions of a clip as people see them: first those that training and exports take, in their order."""

from __future__ import annotations

import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from reelwright.curation.store import Store
from reelwright.curation.store.captions import COMPOSED, EDITED, FALLBACKS, LIST_COLUMN, Wanted
from reelwright.curation.store.sql_text import is_one_of
from reelwright.pipelines.app.decisions import CAPTION, UNDO
from reelwright.pipelines.app.values import MOST_ITEMS, shown

WANTED = Wanted(LIST_COLUMN)
"""What training takes without being asked for anything else."""
OTHERWISE = Wanted(LIST_COLUMN, (COMPOSED,))
MOST_SOURCES = 20_000


def columns(known: Collection[str]) -> list[str]:
    """Return the columns among `known` that hold captions of clips; the written one comes from the decisions."""
    return [name for name in OTHERWISE.columns(known) if name != EDITED]


class SourceCaptions:
    """What manifests say of whole files, looked up by their MD5 and kept while the table of sources is the same.

    Args:
        store: to read.
    """

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, threading.Lock()
        self._version, self._kept = -1, dict[str, list[str]]()

    def of(self, md5s: Iterable[str]) -> dict[str, list[str]]:
        """Return the captions of some files."""
        wanted = {one for one in md5s if one}
        with self._lock:
            version = self._store.dataset("sources").version
            if version != self._version or len(self._kept) > MOST_SOURCES:
                self._version, self._kept = version, {}
            if new := [one for one in wanted if one not in self._kept]:
                self._kept |= {one: [] for one in new} | self._read(new)
            return {one: self._kept[one] for one in wanted}

    def _read(self, md5s: Sequence[str]) -> dict[str, list[str]]:
        """Read the captions; of files with the same bytes, those of the one that was cut, as training does."""
        names = [name for name in ("caption", "captions") if name in self._store.schema("sources").names]
        rows = self._store.read("sources", ["md5", "uri", "state", *names], is_one_of("md5", md5s)).to_pylist()
        found: dict[str, list[str]] = {}
        for row in sorted(rows, key=lambda row: (row["state"] != "ok", row["uri"] or "")):
            if texts := texts_of(row):
                found.setdefault(row["md5"], texts)
        return found


def texts_of(source: Mapping[str, Any]) -> list[str]:
    """Return the captions that a row of `sources` gives the whole file."""
    texts = [*(source.get("captions") or ()), source.get("caption")]
    return list(dict.fromkeys(text for text in texts if text and text.strip()))


def first_caption(row: Mapping[str, Any], written: str | None, from_source: Mapping[str, Sequence[str]]) -> str:
    """Return the caption that a trainer of one caption per clip gets, or else the one composed from measurements.

    Args:
        row: columns of the clip, with source_md5.
        written: by a person.
        from_source: captions of whole files by MD5.
    """
    clip = {**row, EDITED: written}
    found = WANTED.of(clip, from_source).best_first().texts or OTHERWISE.of(clip, from_source).texts
    return next(iter(found), "")


def variants(
    row: Mapping[str, Any], source: Mapping[str, Any], history: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return all captions of a clip: {text, kind, author, is_taken, is_written}.

    Those that training and exports take without being asked for others come first.

    Args:
        row: of clips.
        source: of sources.
        history: actions about the clip, the newest first.
    """
    found: list[dict[str, Any]] = [
        {"text": text, "kind": "written here" if not i else "written before", "author": author, "is_written": not i}
        for i, (text, author) in enumerate(written(history))
    ]
    for name, _ in FALLBACKS:
        value = row.get(name)
        for text in value if isinstance(value, list) else [value]:
            found.append({"text": text, "kind": name, "author": row.get(f"{name}_model") or ""})
    for one in row.get(LIST_COLUMN) or ():
        kind = one.get("kind") or LIST_COLUMN
        found.append({"text": one.get("text"), "kind": kind, "author": one.get("model") or ""})
    found += [{"text": text, "kind": "of the whole file", "author": "manifest"} for text in texts_of(source)]
    now = history[0]["caption"] if history else None
    if not now:  # what was written before was written over, or taken back since
        before = {"kind": "written before", "is_written": False}
        found = [{**one, **before} if "is_written" in one else one for one in found]
    taken = WANTED.of({**row, EDITED: now}, {row.get("source_md5") or "": texts_of(source)}).best_first().texts
    once: dict[tuple[str, str], dict[str, Any]] = {}
    for one in found:
        if one["text"]:
            once.setdefault((one["text"], one["author"]), one)
    order = sorted(once.values(), key=lambda one: _place(one["text"], taken))
    return [
        {**{name: shown(value) for name, value in one.items()}, "is_taken": one["text"] in taken,
         "is_written": one.get("is_written", False)}
        for one in order[:MOST_ITEMS]
    ]  # fmt: skip


def written(history: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return the captions that people wrote and did not take back, with their authors, the newest first.

    Args:
        history: actions about the clip, the newest first.
    """
    authors: dict[str, str] = {}
    there: dict[str, None] = {}
    now: str | None = None
    for one in reversed(history):
        text = one["caption"]
        if text == now:
            continue
        if one["action"] == UNDO or not text:  # undone, or taken back: what stood there is no variant now
            there.pop(now or "", None)
        if text:
            if one["action"] == CAPTION:
                authors[text] = one["reviewer"]
            there.pop(text, None)
            there[text] = None
        now = text
    return [(text, authors.get(text, "")) for text in reversed(there)]


def _place(text: str, taken: Sequence[str]) -> int:
    return taken.index(text) if text in taken else len(taken)
