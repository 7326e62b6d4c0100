"""finetrainers (github.com/a-r-r-o-w/finetrainers): a VideoFolder, and training.json that names it with its buckets.

It gives a clip the longest bucket that it fills and spreads that many frames evenly over all of it, so a clip of twice
a bucket's length plays at twice its speed; with buckets close together that stays small. A clip shorter than every
bucket passes as it is, so the shortest bucket is no longer than the shortest clip.
"""

from __future__ import annotations

import json

from reelwright.curation.store.export import lengths
from reelwright.curation.store.export.files import VIDEOS, dump_line, save, write_text
from reelwright.curation.store.export.format import Format
from reelwright.curation.store.export.selection import Export

GRID = 32  # px: widths and heights of buckets


def write(export: Export) -> None:
    """Write `videos/<name>.mp4` with `videos/metadata.jsonl` beside them, and training.json."""
    lines = export.folder / VIDEOS / "metadata.jsonl"
    for clip in export.clips():
        file = save(clip, export).partition("/")[2]
        with lines.open("a", encoding="utf-8", newline="\n") as out:
            out.write(dump_line({"file_name": file, "caption": clip.caption}))
    found = lengths.at_rate(export.lengths, None)
    frames = lengths.buckets([found], export.options.max_frames)
    data = {
        "data_root": str(export.final / VIDEOS),
        "dataset_type": "video",
        "video_resolution_buckets": [[f, h, w] for f in frames for h, w in _sizes(export)],
        "reshape_mode": "center_crop",
    }
    write_text(export.folder / "training.json", [json.dumps({"datasets": [data]}, indent=2, ensure_ascii=False)])
    export.notes += lengths.table(export.lengths, frames, [None])
    fastest = max((length / b for length in found if (b := lengths.bucket_of(length, frames))), default=1.0)
    export.notes.append(f"frames are spread over the whole clip: the fastest plays at {fastest:.2g} times its speed")


def _sizes(export: Export) -> list[tuple[int, int]]:
    """(height, width) that is commonest among upright, square and wide clips each."""
    chosen: dict[int, tuple[int, int]] = {}
    for (width, height), _ in export.sizes.most_common():
        size = max(GRID, height // GRID * GRID), max(GRID, width // GRID * GRID)
        chosen.setdefault((size[1] > size[0]) - (size[1] < size[0]), size)
    return sorted(set(chosen.values())) or [(544, 960)]


FORMAT = Format(
    "finetrainers",
    "videos/ID.mp4, videos/metadata.jsonl, training.json with several buckets",
    write,
    use="--dataset_config {out}/training.json",
    portable=False,
)
