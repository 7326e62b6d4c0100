"""The views that SQL sees beside the tables."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from reelwright.curation.results import UNMEASURABLE

ROW_ID = "_rowid"  # Lance's
SOURCE_COLUMNS = ("uri", "licence", "container", "codec", "rotation", "ingested_at")  # none is in clips
VIEWS = {
    "clips_full": "clips with the uri, licence and more of their source",
    "failures_latest": "the last failure of each file, clip and stage",
    "clip_loss_means": "what each clip cost each training run, by band of the noise level",
}
UNDER_VIEW = {"clips_full": "clips", "failures_latest": "failures", "clip_loss_means": "clip_losses"}


TABLES_OF_VIEW = {"clips_full": ("clips", "sources"), "failures_latest": ("failures",),
                  "clip_loss_means": ("clip_losses",)}  # fmt: skip
NAMES_ALL = frozenset({"show", "information_schema", "tables", "columns", "views"})
"""Words of queries that may ask for the names of tables."""


def named_by(query: str, tables: Collection[str]) -> tuple[set[str] | None, set[str]]:
    """Return (tables, views) that a query may read, going by its words; None for tables: any, and all views."""
    words = set(re.findall(r"[a-z_]\w*", query.lower()))
    views = words & VIEWS.keys()
    named = (words & set(tables)) | {table for view in views for table in TABLES_OF_VIEW[view]}
    is_any = not named or NAMES_ALL & words or any(word.startswith("duckdb_") for word in words)
    return (None, set(VIEWS)) if is_any else (named, views)


def create_views(con: Any, names: Collection[str] = tuple(VIEWS)) -> None:
    """Create these views on a connection that has their tables."""
    if "clips_full" in names:
        create_clips_full(con)
    if "failures_latest" in names:
        con.execute(
            "CREATE VIEW failures_latest AS SELECT * FROM (SELECT * FROM failures QUALIFY row_number() OVER (PARTITION "
            'BY uri, source_md5, clip_id, stage ORDER BY "at" DESC NULLS LAST, attempts DESC NULLS LAST) = 1) '
            f"WHERE kind IS DISTINCT FROM '{UNMEASURABLE}'"
        )
    if "clip_loss_means" in names:
        con.execute(  # of samples without a finite loss, draws is 0 and loss null
            "CREATE VIEW clip_loss_means AS SELECT run, run_id, any_value(run_fingerprint) AS run_fingerprint, "
            "clip_id, band, sum(loss * draws) / nullif(sum(draws), 0) AS loss, "
            "sum(loss * draws) / nullif(sum(loss * draws / nullif(relative, 0)), 0) AS relative, "
            "sum(draws)::BIGINT AS draws, sum(not_finite)::BIGINT AS not_finite, min(first_step) AS first_step, "
            'max(last_step) AS last_step, max("at") AS "at" FROM clip_losses GROUP BY run, run_id, clip_id, band'
        )


def create_clips_full(con: Any, suffix: str = "") -> None:
    """Create the view `clips_full<suffix>`: `clips<suffix>` with columns of their source, one row per file."""
    of_source = ", ".join(f"s.{column}" for column in SOURCE_COLUMNS)
    con.execute(
        f"CREATE VIEW clips_full{suffix} AS SELECT c.*, {of_source} FROM clips{suffix} c LEFT JOIN "
        "(SELECT DISTINCT ON (md5) * FROM sources WHERE state = 'ok' ORDER BY md5, uri) s ON s.md5 = c.source_md5"
    )
