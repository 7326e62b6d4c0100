"""The views that SQL sees beside the tables."""

from __future__ import annotations

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


def create_views(con: Any) -> None:
    """Create every view on a connection that has the tables."""
    create_clips_full(con)
    con.execute(
        "CREATE VIEW failures_latest AS SELECT * FROM (SELECT * FROM failures QUALIFY row_number() OVER "
        '(PARTITION BY uri, source_md5, clip_id, stage ORDER BY "at" DESC NULLS LAST, attempts DESC NULLS LAST) = 1) '
        f"WHERE kind IS DISTINCT FROM '{UNMEASURABLE}'"
    )
    con.execute(  # of samples without a finite loss, draws is 0 and loss null
        "CREATE VIEW clip_loss_means AS SELECT run, run_id, any_value(run_fingerprint) AS run_fingerprint, clip_id, "
        "band, sum(loss * draws) / nullif(sum(draws), 0) AS loss, "
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
