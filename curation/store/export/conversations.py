"""Conversations about clips, for fine-tuning a model that captions: a question with the video, and its caption.

A clip without a caption is left out: it would teach to say nothing. One with several gives a conversation for each.
"""

from __future__ import annotations

import re

from reelwright.curation.store.export.files import dump_line, json_list, save
from reelwright.curation.store.export.selection import Export

QUESTION = "Describe this video."
TOKENS = re.compile(r"<(?=/?(image|video|audio|im_start|im_end)\b|\|)", re.IGNORECASE)
"""Text that would be taken for a picture, or a turn, in an answer."""


def write(export: Export, placeholder: str) -> None:
    """Write `videos/<name>.mp4`, train.json (a list) and train.jsonl (a line each) with the same conversations.

    placeholder: the text that stands for the video in the question.
    """
    written = 0
    lines = (export.folder / "train.jsonl").open("w", encoding="utf-8", newline="\n")
    with lines, json_list(export.folder / "train.json") as add:
        for clip in export.clips():
            path = save(clip, export) if clip.captions.texts else ""
            for number, caption in enumerate(clip.captions.texts):
                item = {
                    "id": f"{clip.name}-{number}" if number else clip.name,
                    "video": path,
                    "conversations": [
                        {"from": "human", "value": f"{placeholder}\n{QUESTION}"},
                        {"from": "gpt", "value": answer(caption)},
                    ],
                }
                add(item)
                lines.write(dump_line(item))
                written += 1
    export.notes.append(f"{written:,} conversations; {export.empty_captions:,} clips without a caption are left out")


def answer(caption: str) -> str:
    """Return a caption without placeholders and marks of a turn."""
    return TOKENS.sub("‹", caption).strip()
