"""Clips by what their captions say or how they look: the model that made a column of vectors reads the query too."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from reelwright.curation.store import Store
from reelwright.curation.store.sql_text import literal
from reelwright.errors import UserError
from reelwright.pipelines.browse.standins import COMPOSED, search_note

if TYPE_CHECKING:
    import numpy as np

CAPTION, VISUAL = "caption_embedding", "visual_embedding"


@dataclass(frozen=True)
class Found:
    """The clips that a search found.

    Attributes:
        rows: score (cosine, 1 is the same), clip_id, caption, caption_of (the column that it is of), source; the best
            first.
        note: which clips were not searched, and which captions are stand-ins.
    """

    rows: pa.Table
    note: str = ""


def search(
    store: Store, text: str, n: int, *, column: str = CAPTION, where: str | None = None, model: str = ""
) -> Found:
    """Find the `n` clips with vectors in `column` nearest to the vector of a text.

    Args:
        store: the store.
        text: the query.
        n: most clips.
        column: of embeddings.
        where: a SQL condition on clips.
        model: folder of the model that made the column, if it has moved.

    Raises:
        UserError: there is no such column, or not its model.
    """
    if not text.strip():
        raise UserError("there is nothing to look for; say what, as in: reel search 'a dog on a beach'")
    counts = origins(store, column)
    origin = next(iter(counts), "")
    vector = _embed_caption(text, origin, model) if column == CAPTION else _embed_visual(text, origin, model)
    return _with_note(_nearest(store, column, vector, n, where, counts, origin))


def similar(store: Store, clip_id: str, n: int, *, column: str = CAPTION, where: str | None = None) -> Found:
    """Find the `n` clips nearest to a clip, without itself.

    Raises:
        UserError: the clip has no vector.
    """
    counts = origins(store, column)
    row = store.read("clips", [column, f"{column}_model"], filter=f"clip_id = {literal(clip_id)}").to_pylist()[0]
    if row[column] is None:
        raise UserError(f"clip {clip_id} has no {column}; {_how_to_fill(column, store)}")
    found = _nearest(store, column, row[column], n + 1, where, counts, row[f"{column}_model"])
    others = found.rows.filter(pa.array([one != clip_id for one in found.rows["clip_id"].to_pylist()], pa.bool_()))
    return _with_note(Found(others.slice(0, n), found.note))


def origins(store: Store, column: str) -> dict[str, int]:
    """Return the models that made the column, the one of most clips first.

    Raises:
        UserError: the column is empty.
    """
    counts: dict[str, int] = {}
    if f"{column}_model" in store.schema("clips").names:
        query = f"SELECT {column}_model AS m, count(*) FROM clips WHERE m IS NOT NULL GROUP BY m ORDER BY 2 DESC, m"
        counts = dict(zip(*(c.to_pylist() for c in store.sql(query).columns), strict=True))
    if not counts:
        raise UserError(f"no clip has a {column} yet; {_how_to_fill(column, store)}")
    return counts


def _how_to_fill(column: str, store: Store) -> str:
    """Return the command that fills a column, as it runs.

    CLIP, which `visual_embedding` needs, comes with no package.
    """
    from reelwright.annotate import in_profile

    profile, model = ("", "") if column in in_profile("cpu") else ("--profile full ", ", which loads CLIP from the hub")
    return f"fill it with: reel annotate {profile}--only {column} -s {shlex.quote(store.uri)}{model}"


def _nearest(
    store: Store, column: str, vector: Any, n: int, where: str | None, counts: dict[str, int], origin: str
) -> Found:
    others = sum(counts.values()) - counts[origin]
    if others:  # vectors of two models cannot be compared
        ours = f"{column}_model = {literal(origin)}"
        where = f"({where}\n) AND {ours}" if where else ours
    captions = [name for name in (f"{column}_of", *_captions(store)) if name in store.schema("clips").names]
    rows = store.nearest("clips", column, vector, n, where=where, columns=["clip_id", "source_md5", *captions])
    note = f"{others:,} clips were left out: another model made their {column}; run reel annotate" if others else ""
    return Found(_described(store, rows), note)


def _with_note(found: Found) -> Found:
    """Say which of the captions are composed from measurements."""
    composed = sum(one == COMPOSED for one in found.rows["caption_of"].to_pylist())
    return Found(found.rows, "\n".join(filter(None, (found.note, search_note(composed, found.rows.num_rows)))))


def _captions(store: Store) -> list[str]:
    """Return the caption columns that the clips' captions were embedded from."""
    from reelwright.annotate.captions.caption_embedding import CAPTIONS

    if f"{CAPTION}_of" not in store.schema("clips").names:
        return list(CAPTIONS)
    used = store.sql(f"SELECT DISTINCT {CAPTION}_of FROM clips WHERE {CAPTION}_of IS NOT NULL").column(0).to_pylist()
    return list(dict.fromkeys([*CAPTIONS, *sorted(used)]))


def _described(store: Store, rows: pa.Table) -> pa.Table:
    """score, clip_id, caption and source of clips."""
    query = "SELECT md5, min(uri) AS uri, min(caption) AS caption FROM sources WHERE state = 'ok' AND md5 IN " \
            "(SELECT unnest($m)) GROUP BY md5"  # fmt: skip
    md5s = list(set(rows["source_md5"].to_pylist()))
    sources = {s["md5"]: s for s in store.sql(query, params={"m": md5s}).to_pylist()} if md5s else {}
    clips = rows.to_pylist()
    for clip in clips:
        clip["source"] = sources.get(clip["source_md5"], {})
    captions = [_caption_of(clip) for clip in clips]
    return pa.table({
        "score": pa.array([1 - c["_distance"] for c in clips], pa.float32()),
        "clip_id": pa.array([c["clip_id"] for c in clips], pa.string()),
        "caption": pa.array([text for _, text in captions], pa.string()),
        "caption_of": pa.array([column for column, _ in captions], pa.string()),
        "source": pa.array([c["source"].get("uri") for c in clips], pa.string()),
    })  # fmt: skip


def _caption_of(clip: dict[str, Any]) -> tuple[str | None, str | None]:
    """(column, caption) that was embedded; else the first that there is."""
    clip["source_caption"] = clip["source"].get("caption")
    chosen = clip.get(f"{CAPTION}_of")
    if chosen:
        return chosen, clip.get(chosen)
    given = [(k, v) for k, v in clip.items() if isinstance(v, str) and k.endswith("caption")]
    return next(iter(given), (None, None))


def caption_vectors(texts: Sequence[str], origin: str, model: str = "") -> np.ndarray:
    """Return unit vectors of texts [N, D] by the model that embedded the clips' captions.

    Args:
        texts: such as prompts.
        origin: of that model, as `caption_embedding_model` has it.
        model: its folder, if it has moved.
    """
    import numpy as np

    vectors = np.stack([_embed_caption(text, origin, model) for text in texts]).astype(np.float64)
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def _embed_caption(text: str, origin: str, given: str) -> np.ndarray:
    from reelwright.annotate.backends.sentences import SentenceModel

    model = SentenceModel(given) if given else SentenceModel.of_origin(origin)
    _refuse_other(model.origin, origin, CAPTION)
    return model.embed_query(text)


def _embed_visual(text: str, origin: str, given: str) -> np.ndarray:
    from reelwright.annotate.backends.clip_encoder import ClipEncoder, ClipModel
    from reelwright.annotate.backends.identity import from_origin, origin_of

    clip = ClipModel(*((given, "") if given else from_origin(origin)))
    _refuse_other(origin_of(clip.model, clip.pinned), origin, VISUAL)
    return ClipEncoder(clip).embed_text([text])[0]


def _refuse_other(here: str, origin: str, column: str) -> None:
    from reelwright.annotate.backends.identity import same_model

    if not same_model(here, origin):
        raise UserError(
            f"{column} was made by the model {origin}, and what is here is {here}, whose vectors are others; name the "
            f"first one's folder with --model, or compute the column again: reel annotate --only {column}"
            + (" --profile full" if column == VISUAL else "")
        )
