"""diffusion-pipe (github.com/tdrussell/diffusion-pipe): mp4 files, each beside a .txt caption, and a dataset.toml."""

from __future__ import annotations

from curation.store.export.folder import save
from curation.store.export.selection import Export
from curation.store.export.toml import text


def write(export: Export) -> None:
    """`videos/<name>.mp4`, `videos/<name>.txt`, and dataset.toml with the absolute path the folder will have."""
    videos = export.folder / "videos"
    videos.mkdir()
    for clip in export.clips():
        save(clip, "videos", export)
        (videos / f"{clip.name}.txt").write_text(clip.caption, encoding="utf-8", newline="")
    width, height = export.common_size()
    lines = [
        "# resolutions: areas to train on; every clip is resized to each. frame_buckets: clip lengths, in frames.",
        f"resolutions = [[{width}, {height}]]",
        "enable_ar_bucket = true",
        "min_ar = 0.5",
        "max_ar = 2.0",
        "num_ar_buckets = 7",
        f"frame_buckets = {sorted({1, export.common_frames()})}",
        "skip_empty_caption = false",
        "",
        "[[directory]]",
        f"path = {text(str(export.final / 'videos'))}",
        "num_repeats = 1",
    ]
    (export.folder / "dataset.toml").write_text("\n".join(lines) + "\n", encoding="utf-8")
