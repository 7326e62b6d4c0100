"""LLaVA-NeXT (github.com/LLaVA-VL/LLaVA-NeXT): conversations, in which `<image>` stands for a video too."""

from __future__ import annotations

from reelwright.curation.store.export import conversations
from reelwright.curation.store.export.format import Format
from reelwright.curation.store.export.selection import Export


def write(export: Export) -> None:
    """Paths are relative to the export (--video_folder)."""
    conversations.write(export, "<image>")


FORMAT = Format(
    "llava",
    "videos/ID.mp4, train.json and train.jsonl: conversations that end in the caption",
    write,
    use="--data_path {out}/train.json --video_folder {out}",
    takes_all=True,
)
