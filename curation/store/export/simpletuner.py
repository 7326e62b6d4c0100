"""SimpleTuner (github.com/bghira/SimpleTuner): mp4 files, each beside a .txt, and multidatabackend.json.

Each line of a .txt is a caption of its own, so a clip may have several, and none may have a line break in it.
"""

from __future__ import annotations

import json
import math

from reelwright.curation.store.export import lengths
from reelwright.curation.store.export.files import VIDEOS, one_line, save, write_text
from reelwright.curation.store.export.format import Format
from reelwright.curation.store.export.selection import Export

PACK = 8
"""Lengths of 8n + 1 frames, which its LongCat family forces; they are 4n + 1 too, as Wan and others want them."""
GRID = 64  # px


def write(export: Export) -> None:
    """Write `videos/<name>.mp4`, `videos/<name>.txt`, multidatabackend.json with the absolute paths."""
    for clip in export.clips():
        save(clip, export)
        captions = dict.fromkeys(filter(None, map(one_line, clip.captions.texts)))
        write_text(export.folder / VIDEOS / f"{clip.name}.txt", captions)
    found = lengths.at_rate(export.lengths, None)
    whole = sorted({lengths.packed(min(n, export.options.max_frames), PACK) for n in found if n > PACK}) or [PACK + 1]
    backends = [_video(export, whole[0], whole[-1]), _text(export)]
    write_text(export.folder / "multidatabackend.json", [json.dumps(backends, indent=2, ensure_ascii=False)])
    export.notes += _notes(export, whole)


def _video(export: Export, shortest: int, longest: int) -> dict[str, object]:
    width, height = export.common_size()
    side = max(GRID, round(math.sqrt(width * height) / GRID) * GRID)
    return {
        "id": "clips",
        "type": "local",
        "dataset_type": "video",
        "instance_data_dir": str(export.final / VIDEOS),
        "caption_strategy": "textfile",
        "metadata_backend": "discovery",
        "resolution": side,
        "resolution_type": "pixel_area",
        "crop": False,
        "cache_dir_vae": str(export.final / "cache" / "vae"),
        "video": {
            "num_frames": longest,
            "min_frames": shortest,
            "bucket_strategy": "resolution_frames",
            "frame_interval": PACK,
        },
        "repeats": 0,
    }


def _text(export: Export) -> dict[str, object]:
    return {
        "id": "text-embeds",
        "type": "local",
        "dataset_type": "text_embeds",
        "default": True,
        "cache_dir": str(export.final / "cache" / "text"),
    }


def _notes(export: Export, whole: list[int]) -> list[str]:
    short = sum(clips for (frames, _), clips in export.lengths.items() if frames < whole[0])
    rates = ", ".join(f"{clips:,} at {fps:g} fps" for fps, clips in export.rates().most_common(6))
    return [
        f"{len(whole)} lengths of {PACK}n + 1 frames, {whole[0]} to {whole[-1]}; {short:,} clips too short, dropped",
        f"frames are taken as they come, whatever their rate: {rates or 'unknown'}; cut with encode.fps for one rate",
    ]


FORMAT = Format(
    "simpletuner",
    "videos/ID.mp4, videos/ID.txt, multidatabackend.json",
    write,
    use="--data_backend_config {out}/multidatabackend.json",
    portable=False,
    takes_all=True,
)
