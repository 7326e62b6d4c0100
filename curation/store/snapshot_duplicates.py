"""One clip of each group of near duplicates, before a snapshot is weighed: copies make a rare caption look dense."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from reelwright.curation.store.errors import StoreError

GROUP = "near_duplicate_group"


def leave_out(con: Any, rows: pa.Table) -> tuple[pa.Table, dict[str, Any]]:
    """Return (`rows` without near duplicates, counts of the clips left out and of those without a group).

    Of a group the largest picture stays, then the longest clip, then the smallest id; a clip without a group stays.

    Args:
        con: DuckDB over the pinned clips.
        rows: with clip_id, each once.

    Raises:
        StoreError: no clip has a group.
    """
    known = {name for (name,) in con.execute("SELECT column_name FROM (DESCRIBE clips)").fetchall()}
    con.register("copies", rows.append_column("place", pa.array(range(rows.num_rows), pa.int64())))
    query = f"SELECT count(*) FROM copies JOIN clips USING (clip_id) WHERE {GROUP} IS NOT NULL"
    grouped = con.execute(query).fetchall()[0][0] if GROUP in known else 0
    if not grouped:
        raise StoreError(
            f"near duplicates are left out by {GROUP}, which none of these clips has; compute it first: "
            "reel annotate --only near_duplicates"
        )
    kept = con.sql(
        f"""SELECT n.* EXCLUDE (place) FROM copies n LEFT JOIN clips c USING (clip_id)
        QUALIFY c.{GROUP} IS NULL OR row_number() OVER (
            PARTITION BY c.{GROUP}
            ORDER BY c.width * c.height DESC NULLS LAST, c.num_frames DESC NULLS LAST, n.clip_id
        ) = 1 ORDER BY n.place"""
    ).to_arrow_table()
    return kept, {"left_out": rows.num_rows - kept.num_rows, "without_group": rows.num_rows - grouped}
