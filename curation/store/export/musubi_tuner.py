"""musubi-tuner (github.com/kohya-ss/musubi-tuner): JSON lines of video_path and caption, and the TOML that names them.

It resamples a data set of one rate only, which has to be stated as a float; so there is one for each rate of the clips.
Each clip is taken whole (`full`), cut to 4n + 1 frames, and so keeps a length of its own.
"""

from __future__ import annotations

from collections import Counter, defaultdict

from reelwright.curation.store.export import lengths
from reelwright.curation.store.export.files import dump_line, save, toml_text, write_text
from reelwright.curation.store.export.format import Format
from reelwright.curation.store.export.selection import Export

Rate = int | None
"""Frames a second, rounded; None where a clip does not say."""


def write(export: Export) -> None:
    """Write `videos/<name>.mp4`, metadata-<rate>fps.jsonl and dataset.toml.

    Both hold the absolute paths the files will have.
    """
    exact: defaultdict[Rate, Counter[float]] = defaultdict(Counter)
    for clip in export.clips():
        rate = max(1, round(clip.fps)) if clip.fps else None
        exact[rate][clip.fps] += 1
        path = export.final / save(clip, export)
        with (export.folder / _lines(rate)).open("a", encoding="utf-8", newline="\n") as lines:
            lines.write(dump_line({"video_path": str(path), "caption": clip.caption}))
    if exact:
        write_text(export.folder / "dataset.toml", _config(export, exact))
        export.notes += _notes(export)


def _lines(rate: Rate) -> str:
    return "metadata.jsonl" if rate is None else f"metadata-{rate}fps.jsonl"


def _config(export: Export, exact: dict[Rate, Counter[float]]) -> list[str]:
    width, height = export.common_size()
    lines = [
        "[general]",
        f"resolution = [{width}, {height}]",
        "batch_size = 1",
        "enable_bucket = true",
        "bucket_no_upscale = false",
    ]
    for rate in sorted(exact, key=lambda r: r or 0):
        usual = exact[rate].most_common(1)[0][0]
        lines += [
            "",
            "[[datasets]]",
            f"video_jsonl_file = {toml_text(str(export.final / _lines(rate)))}",
            f"cache_directory = {toml_text(str(export.final / f'cache-{rate or 0}fps'))}",
            "# each clip whole, cut to 4n + 1 frames, at most max_frames",
            'frame_extraction = "full"',
            f"max_frames = {export.options.max_frames}",
        ]
        if rate is not None:
            lines += ["# a float: the trainer resamples from it to the model's rate", f"source_fps = {float(usual)!r}"]
    return lines


def _notes(export: Export) -> list[str]:
    notes, found = [], export.lengths
    for rate in lengths.RATES:
        whole: Counter[int] = Counter()
        for frames, clips in lengths.at_rate(found, rate).items():
            whole[lengths.packed(min(frames, export.options.max_frames))] += clips
        each = ", ".join(f"{whole[length]:,} of {length} frames" for length in sorted(whole)[:12])
        more = f" and {len(whole) - 12} more lengths" if len(whole) > 12 else ""
        notes.append(f"at {rate} fps, each clip at its own length: {each}{more}")
        if slow := sum(clips for (_, fps), clips in found.items() if fps < rate - 0.5):
            notes.append(f"{slow:,} clips of fewer than {rate} fps would play too fast at {rate}")
    return notes


FORMAT = Format(
    "musubi-tuner",
    "videos/ID.mp4, metadata-RATEfps.jsonl, dataset.toml with a data set a rate",
    write,
    use="--dataset_config {out}/dataset.toml, for caching and for training",
    portable=False,
)
