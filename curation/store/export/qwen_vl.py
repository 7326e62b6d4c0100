"""Qwen-VL's fine-tuning, and Qwen-VL-Series-Finetune: conversations with `<video>`, once per file, in the question."""

from __future__ import annotations

from reelwright.curation.store.export import conversations
from reelwright.curation.store.export.format import Format
from reelwright.curation.store.export.selection import Export


def write(export: Export) -> None:
    """Paths are relative to the export (`data_path` of the data set, or --image_folder)."""
    conversations.write(export, "<video>")


FORMAT = Format(
    "qwen-vl",
    "videos/ID.mp4, train.json and train.jsonl: conversations with <video> that end in the caption",
    write,
    use='in qwenvl/data/__init__.py: {{"annotation_path": "{out}/train.jsonl", "data_path": "{out}"}}',
    takes_all=True,
)
