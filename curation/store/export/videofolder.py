"""VideoFolder of Hugging Face datasets: mp4 files, and metadata.jsonl whose `file_name` is relative to itself."""

from __future__ import annotations

from reelwright.curation.store.export.files import save
from reelwright.curation.store.export.format import Format
from reelwright.curation.store.export.selection import Export
from reelwright.curation.store.results import json_line

TAKEN = ("video", "videos", "file_name", "file_names", "label")


def write(export: Export) -> None:
    """Write `videos/<name>.mp4` and metadata.jsonl with every column of the clips; caption '' where there is none."""
    with (export.folder / "metadata.jsonl").open("wb") as lines:
        for clip in export.clips():
            row = {name: value for name, value in clip.row.items() if _is_free(name)}
            file = save(clip, export)
            lines.write(json_line({"file_name": file, **row, "caption": clip.caption}).strip() + b"\n")


def _is_free(name: str) -> bool:
    """Names ending in file_name would be taken for more files."""
    return name not in TAKEN and not name.endswith(("_file_name", "_file_names"))


FORMAT = Format(
    "videofolder",
    "videos/ID.mp4, metadata.jsonl with file_name and every column",
    write,
    use='datasets.load_dataset("videofolder", data_dir="{out}")',
    takes_all=True,
)
