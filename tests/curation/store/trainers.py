"""Each export as its trainer reads it, by the rules that the trainer's code and documentation state.

Written without the exporting code: a reader opens the files, decodes the videos, and gives what would be trained on:
`{name of the video: (captions, frames)}`. What the trainer drops is not in it; what it refuses raises.
"""

from __future__ import annotations

import csv
import json
import tarfile
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

Trained = dict[str, tuple[list[str], int]]


def video(path: Path) -> tuple[int, float, int, int]:
    """(frames, frames a second, width, height), from the packets and the header."""
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        frames = sum(p.size > 0 for p in file.demux(stream))
        return frames, float(stream.average_rate), stream.width, stream.height


def cut(frames: int) -> int:
    """Down to 4k + 1."""
    return (frames - 1) // 4 * 4 + 1


def diffusion_pipe(out: Path, framerate: int) -> Trained:
    """Resampled to the model's rate; the longest bucket filled; no video into bucket 1; .txt unless captions.json."""
    config = tomllib.loads((out / "dataset.toml").read_text())
    buckets = np.array(sorted({1, *config["frame_buckets"]}))
    (directory,) = config["directory"]
    folder = Path(directory["path"])
    assert folder.is_absolute()
    listed = json.loads((folder / "captions.json").read_text(encoding="ascii"))
    assert all(isinstance(captions, list) and captions for captions in listed.values())
    found = {}
    for path in sorted(p for p in folder.iterdir() if p.suffix == ".mp4"):  # not recursive
        frames, fps, _, _ = video(path)
        filled = buckets[(buckets <= int(frames * framerate / fps)) & (buckets > 1)]
        if len(filled):
            found[path.stem] = (listed[path.name], cut(int(filled[-1])))
    return found


GENERAL = {"resolution", "caption_extension", "batch_size", "num_repeats", "enable_bucket", "bucket_no_upscale"}
VIDEO = {"video_jsonl_file", "video_directory", "cache_directory", "target_frames", "frame_extraction", "frame_stride",
         "frame_sample", "max_frames", "source_fps"}  # fmt: skip


def musubi_tuner(out: Path, framerate: int = 16) -> Trained:
    """A closed schema; resampled only where source_fps is a float; `full` takes all up to max_frames, 4k + 1."""
    config = tomllib.loads((out / "dataset.toml").read_text())
    assert set(config) == {"general", "datasets"}
    assert set(config["general"]) <= GENERAL
    caches = [data["cache_directory"] for data in config["datasets"]]
    assert len(set(caches)) == len(caches)
    found = {}
    for data in config["datasets"]:
        assert set(data) <= GENERAL | VIDEO
        assert isinstance(data.get("source_fps", 1.0), float)
        assert data["frame_extraction"] == "full"
        for line in Path(data["video_jsonl_file"]).read_text(encoding="utf-8").splitlines():
            item = json.loads(line)
            assert set(item) == {"video_path", "caption"}
            path = Path(item["video_path"])
            assert path.is_absolute()
            frames = video(path)[0]
            if "source_fps" in data:
                frames = int(frames * framerate / data["source_fps"])
            found[path.stem] = ([item["caption"]], cut(min(frames, data.get("max_frames", 129))))
    return found


def diffsynth(out: Path, num_frames: int = 81) -> Trained:
    """The first frames at the file's own rate, a shorter clip cut to 4k + 1; both of its metadata say the same."""
    with (out / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert rows == [json.loads(line) for line in (out / "metadata.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    found = {}
    for row in rows:
        assert set(row) == {"video", "prompt"}
        frames = min(video(out / row["video"])[0], num_frames)
        found[Path(row["video"]).stem] = ([row["prompt"]], cut(frames))
    return found


def fastvideo(out: Path, train_fps: float, num_frames: int) -> Trained:
    """`merged`: every key is needed; too long for the tolerance, too short when resampled, no caption: dropped."""
    found = {}
    for item in json.loads((out / "videos2caption.json").read_text(encoding="utf-8")):
        captions = item["cap"] if isinstance(item["cap"], list) else [item["cap"]]
        frames, fps, width, height = video(out / "videos" / item["path"])
        assert (item["num_frames"], item["resolution"]) == (frames, {"height": height, "width": width})
        assert abs(item["fps"] - fps) < 0.01
        taken = np.arange(0, item["num_frames"], item["fps"] / train_fps).astype(int)
        fits = item["num_frames"] / item["fps"] <= 2.0 * num_frames / train_fps and len(taken) >= num_frames
        if fits and captions[0] and 0.5 <= height / width <= 17 / 16:
            found[Path(item["path"]).stem] = (captions, num_frames)
    return found


def finetrainers(out: Path) -> Trained:
    """metadata.* makes a VideoFolder; the longest bucket that the clip fills, else the clip as it is."""
    (data,) = json.loads((out / "training.json").read_text())["datasets"]
    root = Path(data["data_root"])
    assert data["dataset_type"] == "video"
    assert root.is_absolute()
    assert [p.name for p in root.iterdir() if p.name.startswith("metadata.")] == ["metadata.jsonl"]
    found = {}
    for row in video_folder(root):
        frames = video(root / row["file_name"])[0]
        filled = [f for f, h, w in data["video_resolution_buckets"] if f <= frames and h % 32 == w % 32 == 0]
        found[Path(row["file_name"]).stem] = ([row["caption"]], max(filled, default=frames))
    return found


def simpletuner(out: Path) -> Trained:
    """A caption a line of the .txt; lengths rounded to the interval, too short ones left out."""
    backends = json.loads((out / "multidatabackend.json").read_text())
    assert [b["dataset_type"] for b in backends] == ["video", "text_embeds"]
    assert backends[1]["default"]
    assert len({b["id"] for b in backends}) == 2
    data, lengths = backends[0], backends[0]["video"]
    assert data["caption_strategy"] == "textfile"
    assert data["resolution"] % 64 == 0
    found = {}
    for path in sorted(Path(data["instance_data_dir"]).glob("*.mp4")):
        frames = min(video(path)[0], lengths["num_frames"])
        step = lengths["frame_interval"]
        if frames >= lengths["min_frames"]:
            lines = path.with_suffix(".txt").read_text(encoding="utf-8").splitlines()
            found[path.stem] = (lines or [""], (frames - 1) // step * step + 1)
    return found


def conversations(out: Path, placeholder: str) -> Trained:
    """Turns of human and gpt alone; one placeholder a file, in the question only. Lists and lines say the same."""
    items = json.loads((out / "train.json").read_text(encoding="utf-8"))
    assert items == [json.loads(line) for line in (out / "train.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    found: Trained = {}
    for item in items:
        question, answer = item["conversations"]
        assert (question["from"], answer["from"]) == ("human", "gpt")
        assert question["value"].count(placeholder) == 1
        assert not any(token in answer["value"] for token in ("<image>", "<video>", "<|im_end|>"))
        frames = video(out / item["video"])[0]
        name = Path(item["video"]).stem
        found[name] = ([*found.get(name, ([], 0))[0], answer["value"]], frames)
    return found


def video_folder(folder: Path) -> Iterator[dict[str, Any]]:
    """Rows of metadata.jsonl: file_name relative to it, of a known extension, the same columns in all."""
    metadata = list(folder.rglob("metadata.*"))
    assert [p.suffix for p in metadata] == [".jsonl"]
    names = None
    for line in metadata[0].read_text(encoding="utf-8").split("\n")[:-1]:
        row = json.loads(line)
        names = names or set(row)
        assert set(row) == names
        assert "video" not in names
        assert not [n for n in names if n.endswith("_file_name")]
        path = metadata[0].parent / row["file_name"]
        assert path.suffix in {".mkv", ".mp4", ".avi", ".mpeg", ".mov"}
        assert path.is_file()
        yield row


def videofolder(out: Path) -> Trained:
    """`datasets.load_dataset("videofolder")`."""
    return {Path(r["file_name"]).stem: ([r["caption"]], video(out / r["file_name"])[0]) for r in video_folder(out)}


def webdataset(out: Path, temporary: Path) -> Trained:
    """Members of a sample are adjacent; the key ends at the first dot, the field is what follows."""
    samples: dict[str, dict[str, bytes]] = {}
    for shard in sorted(out.glob("*.tar")):
        with tarfile.open(shard) as tar:
            last = None
            for member in tar.getmembers():
                key, _, field = member.name.partition(".")
                assert key == last or key not in samples, "a sample's members are adjacent"
                samples.setdefault(key, {})[field] = tar.extractfile(member).read()  # type: ignore[union-attr]
                last = key
    assert {tuple(fields) for fields in samples.values()} == {("mp4", "json")}
    found = {}
    for key, fields in samples.items():
        (temporary / f"{key}.mp4").write_bytes(fields["mp4"])
        found[key] = ([json.loads(fields["json"])["caption"]], video(temporary / f"{key}.mp4")[0])
    return found
