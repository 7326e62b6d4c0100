"""DiffSynth-Studio (github.com/modelscope/DiffSynth-Studio): metadata with the columns video and prompt.

Written twice: as CSV, and as JSON lines. Its CSV goes through pandas, which takes an empty caption, `NA` or `12` for
something other than text; `--dataset_metadata_path …/metadata.jsonl` has no such trap. The trainer takes the first
--num_frames frames at the clip's own rate, and cuts a shorter clip to 4n + 1 frames.
"""

from __future__ import annotations

import csv
from collections import Counter

from reelwright.curation.store.export import lengths
from reelwright.curation.store.export.files import dump_line, save
from reelwright.curation.store.export.format import Format
from reelwright.curation.store.export.selection import Export


def write(export: Export) -> None:
    """Write `videos/<name>.mp4`, metadata.csv and metadata.jsonl.

    Paths are relative to the export (--dataset_base_path).
    """
    table = export.folder / "metadata.csv"
    lines = export.folder / "metadata.jsonl"
    with table.open("w", encoding="utf-8", newline="") as as_csv, lines.open("w", encoding="utf-8") as as_json:
        writer = csv.writer(as_csv)
        writer.writerow(["video", "prompt"])
        for clip in export.clips():
            path = save(clip, export)
            writer.writerow([path, clip.caption])
            as_json.write(dump_line({"video": path, "prompt": clip.caption}))
    export.notes += _notes(export)


def _notes(export: Export) -> list[str]:
    found: Counter[int] = Counter()
    longest = lengths.packed(export.options.max_frames)
    for frames, clips in lengths.at_rate(export.lengths, None).items():
        found[lengths.packed(min(frames, longest))] += clips
    whole = found[longest]
    stills = sum(clips for length, clips in found.items() if length < lengths.SHORTEST)
    notes = [
        f"with --num_frames {longest}: {whole:,} clips fill it, {found.total() - whole - stills:,} are shorter "
        f"and keep 4n + 1 frames of their own, {stills:,} have fewer than {lengths.SHORTEST} and train as images"
    ]
    if rates := export.rates():
        each = ", ".join(f"{clips:,} at {fps:g} fps" for fps, clips in rates.most_common(6))
        notes.append(f"frames are taken as they come, whatever their rate: {each}; cut with encode.fps for one rate")
    return notes


FORMAT = Format(
    "diffsynth",
    "videos/ID.mp4, metadata.csv, metadata.jsonl",
    write,
    use="--dataset_base_path {out} --dataset_metadata_path {out}/metadata.jsonl",
)
