"""diffusion-pipe (github.com/tdrussell/diffusion-pipe): mp4 files, captions.json beside them, and a dataset.toml.

It resamples every video to the rate of the model, and cuts it to the longest frame bucket that it then fills; a video
shorter than all of them is left out, and none is taken for a still. captions.json holds a list for each file, so a
clip may have several captions; where it is there, no .txt is read.
"""

from __future__ import annotations

import json

from reelwright.curation.store.export import lengths
from reelwright.curation.store.export.files import VIDEOS, save, toml_text, write_text
from reelwright.curation.store.export.format import Format
from reelwright.curation.store.export.selection import Export


def write(export: Export) -> None:
    """Write `videos/<name>.mp4`, `videos/captions.json`, and dataset.toml.

    dataset.toml names the absolute path the folder will have.
    """
    (export.folder / VIDEOS).mkdir()
    with (export.folder / VIDEOS / "captions.json").open("w", encoding="ascii", newline="\n") as file:
        separator = "{\n"
        for clip in export.clips():
            save(clip, export)
            texts = list(clip.captions.texts) or [""]
            # escaped: it is read in the encoding of the machine's locale
            file.write(f"{separator}{json.dumps(clip.name + '.mp4')}: {json.dumps(texts, ensure_ascii=True)}")
            separator = ",\n"
        file.write("\n}\n")
    chosen = lengths.buckets((lengths.at_rate(export.lengths, r) for r in lengths.RATES), export.options.max_frames)
    table = lengths.table(export.lengths, chosen)
    export.notes += table
    write_text(export.folder / "dataset.toml", _config(export, chosen, table))


def _config(export: Export, buckets: list[int], table: list[str]) -> list[str]:
    width, height = export.common_size()
    return [
        "# resolutions: areas to train on; every clip is resized to each.",
        f"resolutions = [[{width}, {height}]]",
        "enable_ar_bucket = true",
        "min_ar = 0.5",
        "max_ar = 2.0",
        "num_ar_buckets = 7",
        "# frame_buckets: clip lengths in frames, after resampling to the model's rate. What they keep of these clips:",
        *(f"#   {line}" for line in table),
        f"frame_buckets = {buckets}",
        "skip_empty_caption = false",
        "",
        "[[directory]]",
        f"path = {toml_text(str(export.final / VIDEOS))}",
        "num_repeats = 1",
    ]


FORMAT = Format(
    "diffusion-pipe",
    "videos/ID.mp4, videos/captions.json, dataset.toml with several frame buckets",
    write,
    use="in the training TOML: dataset = '{out}/dataset.toml'",
    portable=False,
    takes_all=True,
)
