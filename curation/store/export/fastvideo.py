"""FastVideo (github.com/hao-ai-lab/FastVideo): videos/ and videos2caption.json.

That is the `merged` data set of its new preprocessing. It resamples by index to --train_fps and keeps the first
--num_frames. It drops clips that are then shorter, that are longer than twice that in seconds, or that have no caption.
"""

from __future__ import annotations

from reelwright.curation.store.export import lengths
from reelwright.curation.store.export.files import json_list, save
from reelwright.curation.store.export.format import Format
from reelwright.curation.store.export.selection import Export

TOLERANCE = 2.0
"""A clip of more than this many times the trained length is dropped (video_length_tolerance_range)."""
UPRIGHT, FLAT = 17 / 16, 8 / 16
"""Height over width, beyond which its validator drops a clip (max_h_div_w_ratio, min_h_div_w_ratio)."""
FEWEST = 17
"""Frames of one run, the fewest that are tried."""


def write(export: Export) -> None:
    """Write `videos/<name>.mp4`, and videos2caption.json with the fps, num_frames and resolution that it requires."""
    with json_list(export.folder / "videos2caption.json") as add:
        for clip in export.clips():
            file = save(clip, export).partition("/")[2]
            texts, (width, height) = list(clip.captions.texts), clip.size
            add({
                "path": file,
                "cap": texts if len(texts) > 1 else clip.caption,
                "fps": clip.fps,
                "num_frames": clip.num_frames,
                "duration": clip.num_frames / clip.fps if clip.fps else 0.0,
                "resolution": {"height": height, "width": width},
            })  # fmt: skip
    export.notes += [_note(export, rate) for rate in (*lengths.RATES, 30)]
    shapes = sum(clips for (width, height), clips in export.sizes.items() if not FLAT <= height / width <= UPRIGHT)
    if shapes:
        export.notes.append(f"{shapes:,} clips are upright, or flatter than 2 : 1, and FastVideo's defaults drop those")
    if export.empty_captions:
        export.notes.append(f"{export.empty_captions:,} clips have no caption, and FastVideo drops those")


def outcome(found: lengths.Lengths, rate: float, num_frames: int) -> tuple[int, int, int]:
    """Return (kept, too short, too long) clips of a run at `rate` frames per second."""
    kept = short = long = 0
    for (frames, fps), clips in found.items():
        if frames / fps > TOLERANCE * num_frames / rate:
            long += clips
        elif len_at(frames, fps, rate) < num_frames:
            short += clips
        else:
            kept += clips
    return kept, short, long


def len_at(frames: int, fps: float, rate: float) -> int:
    """Return the number of a clip's frames when every fps / rate-th one is taken."""
    return -int(-frames * rate // fps)


def _note(export: Export, rate: float) -> str:
    tried = range(FEWEST, max(FEWEST, export.options.max_frames) + 1, 4)
    num_frames = max(tried, key=lambda n: (outcome(export.lengths, rate, n)[0], n))
    kept, short, long = outcome(export.lengths, rate, num_frames)
    return (
        f"--train_fps {rate:g} --num_frames {num_frames} keeps most: {kept:,} clips; {short:,} too short, {long:,} "
        f"longer than {TOLERANCE:g} times that, dropped"
    )


FORMAT = Format(
    "fastvideo",
    "videos/ID.mp4, videos2caption.json",
    write,
    use="preprocessing: --preprocess.dataset_type merged --preprocess.dataset_path {out}",
    takes_all=True,
)
