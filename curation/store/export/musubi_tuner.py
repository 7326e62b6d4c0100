"""musubi-tuner (github.com/kohya-ss/musubi-tuner): a JSONL of video_path and caption, and the TOML that names it."""

from __future__ import annotations

import json

from curation.store.export.folder import save
from curation.store.export.selection import Export
from curation.store.export.toml import text


def write(export: Export) -> None:
    """`videos/<name>.mp4`, metadata.jsonl with the absolute paths the files will have, and dataset.toml."""
    (export.folder / "videos").mkdir()
    with (export.folder / "metadata.jsonl").open("w", encoding="utf-8", newline="\n") as lines:
        for clip in export.clips():
            path = export.final / save(clip, "videos", export)
            lines.write(json.dumps({"video_path": str(path), "caption": clip.caption}, ensure_ascii=False) + "\n")
    (export.folder / "dataset.toml").write_text(_config(export), encoding="utf-8")


def _config(export: Export) -> str:
    width, height = export.common_size()
    lines = [
        "[general]",
        f"resolution = [{width}, {height}]",
        "batch_size = 1",
        "enable_bucket = true",
        "bucket_no_upscale = false",
        "",
        "[[datasets]]",
        f"video_jsonl_file = {text(str(export.final / 'metadata.jsonl'))}",
        f"cache_directory = {text(str(export.final / 'cache'))}",
        "# 4n + 1; the first frames of each clip. source_fps = 30.0 would resample all clips from that rate.",
        f"target_frames = [{export.common_frames()}]",
        'frame_extraction = "head"',
    ]
    return "\n".join(lines) + "\n"
