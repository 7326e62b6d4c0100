"""DiffSynth-Studio (github.com/modelscope/DiffSynth-Studio): metadata with the columns video and prompt.

Written twice: as CSV, and as JSON lines. Its CSV goes through pandas, which takes an empty caption, `NA` or `12` for
something other than text; `--dataset_metadata_path …/metadata.jsonl` has no such trap.
"""

from __future__ import annotations

import csv
import json

from curation.store.export.folder import save
from curation.store.export.selection import Export


def write(export: Export) -> None:
    """`videos/<name>.mp4`, metadata.csv and metadata.jsonl; paths are relative to the export (--dataset_base_path)."""
    (export.folder / "videos").mkdir()
    table = export.folder / "metadata.csv"
    lines = export.folder / "metadata.jsonl"
    with table.open("w", encoding="utf-8", newline="") as as_csv, lines.open("w", encoding="utf-8") as as_json:
        writer = csv.writer(as_csv)
        writer.writerow(["video", "prompt"])
        for clip in export.clips():
            path = save(clip, "videos", export)
            writer.writerow([path, clip.caption])
            as_json.write(json.dumps({"video": path, "prompt": clip.caption}, ensure_ascii=False) + "\n")
