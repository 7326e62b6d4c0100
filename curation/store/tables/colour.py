"""Columns of colour tags, which a source and its clips both have."""

from __future__ import annotations

import pyarrow as pa

from reelwright.curation.store.schema import field


def colour(of: str, computed_by: str) -> list[pa.Field]:
    """Return the columns of the colour tags of `of`, in ffmpeg's words; null where unspecified."""
    text = pa.string()
    return [
        field("color_matrix", text, f"matrix of {of}: bt709, smpte170m, bt2020nc …", computed_by=computed_by),
        field("color_primaries", text, f"primaries of {of}: bt709, bt2020 …", computed_by=computed_by),
        field("color_transfer", text, f"transfer of {of}: bt709, smpte2084 (PQ) …", computed_by=computed_by),
        field("color_range", text, f"range of {of}: tv (limited) or pc (full)", computed_by=computed_by),
        field("bit_depth", pa.int32(), f"bits per sample of {of}", unit="bit", computed_by=computed_by),
        field("hdr", text, f"high dynamic range of {of}: sdr, pq, hlg, hdr10plus, dolby_vision_p5 …",
              computed_by=computed_by),
    ]  # fmt: skip
