"""The watermark annotator on a corpus and on clips that are marked here: `python -m benchmarks.watermark FOLDER`.

FOLDER has a truth.json, as ../shared/corpus has. Prints `name value` lines:

- corpus_*: its own watermark folder, and claims on files without a mark, by folder.
- made_*: one clip of every source that no file of the watermark folder uses, with a mark drawn over it and without, by
  what the picture does: moving (the camera moves), subject (it stands, something moves in front), still. Marks have
  seeded shapes, words, places, sizes and opacities; half of the shapes hold no word. Clips are 2 s at 640 x 360, H.264.
- unmarked_*: clips without a mark that are hard, see benchmarks.unmarked; every claim is a false one.

AP: average precision of the score, marked against unmarked. IoU: over claimed boxes of marked clips.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks import unmarked
from benchmarks.borders import shots
from reelwright.annotate.overlay.watermark import Watermark
from reelwright.curation.media.frames import read

WIDTH, HEIGHT, FRAMES, FPS = 640, 360, 48, 24
WORDS = ("CHANNEL 4", "stockpix", "Preview", "LIVE", "demo.tv", "ARCHIVE", "Kanal 12", "footage")
SHAPES = ("word", "ring", "frame", "star", "bars", "disc")  # the last three hold no word
PLACES = ("top left", "top right", "bottom left", "bottom right", "centre")
FACES = (cv2.FONT_HERSHEY_DUPLEX, cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_TRIPLEX, cv2.FONT_HERSHEY_COMPLEX)
OPACITIES = (0.25, 0.4, 0.55, 0.7)
Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Result:
    """One clip: kind of content, the mark's box and looks if any, the marks found."""

    path: str
    kind: str
    truth: Box | None
    looks: str
    score: float
    box: list[float] | None

    @property
    def iou(self) -> float:
        return iou(self.box, self.truth) if self.box and self.truth else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="a folder with truth.json")
    parser.add_argument("--seed", type=int, default=0, help="of the marks that are drawn")
    parser.add_argument("--sheet", type=Path, help="write pictures with boxes here (true: green, claimed: red)")
    parser.add_argument("--only", choices=("corpus", "made", "unmarked"))
    parser.add_argument("--each", action="store_true", help="a line for each clip that is marked or claimed")
    args = parser.parse_args()
    if not (args.folder / "truth.json").is_file():
        parser.exit(2, f"{args.folder}: no truth.json here; give a corpus folder, e.g. ../shared/corpus\n")
    files = json.loads((args.folder / "truth.json").read_text())["files"]
    files = [f for f in files if f["category"] not in ("bad", "dups", "codecs") and f.get("frames")]
    bench = Bench(args.folder, args.sheet)
    if args.only in (None, "corpus"):
        show_corpus(bench.corpus(files))
    if args.only in (None, "made"):
        show_made(bench.made(files, np.random.default_rng(args.seed)))
    if args.only in (None, "unmarked"):
        show_unmarked(bench.unmarked(files, np.random.default_rng(args.seed)))
    if args.each:
        for r in bench.results:
            if r.truth or r.box:
                boxes = f"true {r.truth} claimed {_rounded(r.box)} IoU {r.iou:.2f}"
                print(f"# {r.path} {r.kind} [{r.looks}] {r.score:.2f} {boxes}")
    print(f"cpu_ms_per_clip {1000 * bench.seconds / max(1, len(bench.results)):.0f}")


class Bench:
    def __init__(self, folder: Path, sheet: Path | None) -> None:
        self.folder, self.sheet = folder, sheet
        self.annotator = Watermark()
        self.results: list[Result] = []
        self.seconds = 0.0

    def corpus(self, files: list[dict[str, Any]]) -> list[Result]:
        """Every shot of half a second and more, as the pipeline would cut and crop it."""
        found: list[Result] = []
        for entry in files:
            for first, last in shots(entry):
                if last - first >= 11 and entry.get("fps"):
                    frames = shot_frames(self.folder / entry["path"], entry, first, last)
                    crop = entry.get("crop") or (0, 0)
                    mark = entry.get("watermark")
                    truth = (mark[0] - crop[0], mark[1] - crop[1], *mark[2:]) if mark else None
                    found.append(self._run(frames, entry["path"], entry["category"], truth, "corpus"))
        return found

    def made(self, files: list[dict[str, Any]], rng: np.random.Generator) -> list[Result]:
        """Each source with a mark and without; sources of the watermark folder are left to the corpus's figures."""
        taken = {blob for f in files if f["category"] == "watermark" for blob in _blobs(f)}
        found: list[Result] = []
        for entry in files:
            kind = content_of(entry)
            if kind and not taken & _blobs(entry):
                first, last = max(shots(entry), key=lambda s: s[1] - s[0])
                frames = shot_frames(self.folder / entry["path"], entry, first, min(last, first + FRAMES - 1), fit=True)
                mark, truth, looks = random_mark(rng, len(found) // 2)
                found.append(self._run(frames, entry["path"], kind, None, "clean"))
                found.append(self._run([blend(f, mark, truth) for f in frames], entry["path"], kind, truth, looks))
        return found

    def unmarked(self, files: list[dict[str, Any]], rng: np.random.Generator, most: int = 12) -> list[Result]:
        """Every kind of hard clip from each of some pictures."""
        pictures = self._pictures(files)[:most]
        found: list[Result] = []
        for number, picture in enumerate(pictures):
            for kind, maker in unmarked.KINDS.items():
                frames = maker(picture, pictures[number - 1], rng, FRAMES)
                found.append(self._run(frames, f"picture {number}", kind, None, "unmarked"))
        return found

    def _pictures(self, files: list[dict[str, Any]]) -> list[np.ndarray]:
        """The middle frame of the longest shot of each source without lettering."""
        taken = {blob for f in files if f["category"] == "watermark" for blob in _blobs(f)}
        pictures = []
        for entry in files:
            if content_of(entry) and not taken & _blobs(entry):
                taken |= _blobs(entry)
                first, last = max(shots(entry), key=lambda s: s[1] - s[0])
                middle = (first + last) // 2
                pictures += shot_frames(self.folder / entry["path"], entry, middle, middle, fit=True)
        return pictures

    def _run(self, frames: list[np.ndarray], path: str, kind: str, truth: Box | None, looks: str) -> Result:
        mp4 = encode(frames)
        facts, inputs = read(mp4, self.annotator.needs[:1])
        begin = time.process_time()
        found = self.annotator(inputs[0], facts)
        self.seconds += time.process_time() - begin
        result = Result(path, kind, truth, looks, found["watermark_score"], found["watermark_box"])
        self.results.append(result)
        if self.sheet and (result.truth or result.box):
            picture(frames[len(frames) // 2], result, self.sheet / f"{len(self.results):04d}.jpg")
        return result


def content_of(entry: dict[str, Any]) -> str | None:
    """Movement of the picture, where truth.json says it; nothing for footage that may carry lettering of its own."""
    if entry.get("text_present"):
        return None
    if entry["category"] == "camera":
        if entry["camera_motion"] != "static":
            return "moving"
        return "subject" if "video" in entry["camera"]["over"] else "still"
    return {"static": "still", "low": "subject", "high": "moving"}.get(entry.get("motion") or "")


def shot_frames(path: Path, entry: dict[str, Any], first: int, last: int, fit: bool = False) -> list[np.ndarray]:
    """RGB frames of a shot without black borders; fit: filling WIDTH x HEIGHT."""
    x, y, w, h = entry.get("crop") or (0, 0, entry["width"], entry["height"])
    frames: list[np.ndarray] = []
    with av.open(os.fspath(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index > last:
                break
            if index >= first:
                upright = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation % 360 // 90)
                frames.append(_sized(upright[y : y + h, x : x + w], fit))
    return frames


def _sized(frame: np.ndarray, fit: bool) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = max(WIDTH / width, HEIGHT / height) if fit else min(1.0, 720 / min(height, width))
    size = round(width * scale), round(height * scale)
    frame = cv2.resize(np.ascontiguousarray(frame), size, interpolation=cv2.INTER_AREA)
    left, top = ((size[0] - WIDTH) // 2, (size[1] - HEIGHT) // 2) if fit else (0, 0)
    return frame[top : top + HEIGHT, left : left + WIDTH] if fit else frame[: size[1] // 2 * 2, : size[0] // 2 * 2]


def encode(frames: list[np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("libx264", rate=FPS, options={"crf": "25", "preset": "veryfast"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.thread_count = "yuv420p", 1
        for frame in frames:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")))
        file.mux(stream.encode())
    return buffer.getvalue()


def random_mark(rng: np.random.Generator, number: int) -> tuple[np.ndarray, Box, str]:
    """float32 [h, w, 4] (RGB, opacity), its place, and words on how it looks."""
    shape, place = SHAPES[number % len(SHAPES)], PLACES[number % len(PLACES)]
    opacity, height = float(rng.choice(OPACITIES)), int(rng.integers(24, 52))
    mark = drawn(shape, height, str(rng.choice(WORDS)), int(rng.integers(0, 4)))
    margin = [int(m) for m in rng.integers(8, 36, 2)]
    h, w = mark.shape[:2]
    x = {"left": margin[0], "right": WIDTH - w - margin[0]}.get(place.split()[-1], (WIDTH - w) // 2)
    y = {"top": margin[1], "bottom": HEIGHT - h - margin[1]}.get(place.split()[0], (HEIGHT - h) // 2)
    mark[..., 3] *= opacity
    return mark, (x, y, w, h), f"{shape}, {place}, {opacity}, {w} x {h}"


def drawn(shape: str, height: int, word: str, font: int, fine: int = 4) -> np.ndarray:
    """A mark with opacity 0 or 1 at its parts, drawn `fine` times larger and averaged; cut to its tight box."""
    h = height * fine
    canvas = np.zeros((h, 12 * h, 4), np.uint8)
    white, line = (255, 255, 255, 255), max(1, h // 12)
    left = 0.1 * h
    if shape in ("ring", "disc"):
        cv2.circle(canvas, (h // 2, h // 2), h // 2 - line, white, line if shape == "ring" else -1, cv2.LINE_AA)
        cv2.circle(canvas, (h // 2, h // 2), h // 5, (0, 0, 0, 0) if shape == "disc" else white, -1, cv2.LINE_AA)
        left = 1.15 * h
    if shape == "star":
        turns = np.arange(10) * np.pi / 5 - np.pi / 2
        reach = np.where(np.arange(10) % 2, 0.2, 0.48) * h
        points = np.stack([h / 2 + reach * np.cos(turns), h / 2 + reach * np.sin(turns)], axis=1)
        cv2.fillPoly(canvas, [np.round(points).astype(np.int32)], white, cv2.LINE_AA)
    if shape == "bars":
        for k, colour in enumerate(((230, 60, 60, 255), (250, 200, 40, 255), (60, 140, 240, 255))):
            corners = (int(0.33 * k * h), int((0.6 - 0.3 * k) * h)), (int((0.33 * k + 0.25) * h), h - 1)
            cv2.rectangle(canvas, *corners, colour, -1)
    if shape in ("word", "ring", "frame"):
        face = FACES[font]
        scale = cv2.getFontScaleFromHeight(face, int((0.75 if shape == "word" else 0.45) * h), line)
        (width, tall), _ = cv2.getTextSize(word, face, scale, line)
        if shape == "frame":
            left = 0.4 * h
            cv2.rectangle(canvas, (line, line), (int(width + 0.8 * h), h - line), white, line)
        at = (int(left), (h + tall) // 2)
        cv2.putText(canvas, word, at, face, scale, (0, 0, 0, 255), line + fine, cv2.LINE_AA)
        cv2.putText(canvas, word, at, face, scale, white, line, cv2.LINE_AA)
    rows, columns = np.nonzero(canvas[..., 3] > 50)
    tight = canvas[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].astype(np.float32)
    tight[..., 3] /= 255
    tight[..., :3] *= tight[..., 3:]  # averaged as light, not as paint
    size = (max(1, tight.shape[1] // fine), max(1, tight.shape[0] // fine))
    small = cv2.resize(tight, size, interpolation=cv2.INTER_AREA)
    small[..., :3] /= np.maximum(small[..., 3:], 1e-3)
    return small


def blend(frame: np.ndarray, mark: np.ndarray, place: Box) -> np.ndarray:
    x, y, w, h = place
    out = frame.copy()
    under = frame[y : y + h, x : x + w].astype(np.float32)
    over = mark[: under.shape[0], : under.shape[1]]
    out[y : y + h, x : x + w] = np.clip(under + over[..., 3:] * (over[..., :3] - under), 0, 255).astype(np.uint8)
    return out


def show_corpus(results: list[Result]) -> None:
    own = [r for r in results if r.kind == "watermark"]
    show("corpus_watermark", own)
    for kind in sorted({r.kind for r in results}):
        clean = [r for r in results if r.kind == kind and not r.truth]
        print(f"corpus_claims_{kind} {sum(r.box is not None for r in clean)} of {len(clean)} clips")


def show_made(results: list[Result]) -> None:
    for kind in ("moving", "subject", "still"):
        show(f"made_{kind}", [r for r in results if r.kind == kind])
    show("made_worded", [r for r in results if not r.truth or r.looks.split(",")[0] in SHAPES[:3]])
    show("made_wordless", [r for r in results if not r.truth or r.looks.split(",")[0] in SHAPES[3:]])
    show("made_all", results)


def show_unmarked(results: list[Result]) -> None:
    for kind in unmarked.KINDS:
        clips = [r for r in results if r.kind == kind]
        print(f"unmarked_claims_{kind} {sum(r.box is not None for r in clips)} of {len(clips)} clips")


def show(name: str, results: list[Result]) -> None:
    marked = [r for r in results if r.truth]
    claimed = [r for r in marked if r.box]
    wrong = sum(r.box is not None for r in results if not r.truth)
    print(f"{name}_ap {average_precision(results):.4f}")
    print(f"{name}_claimed {len(claimed)} of {len(marked)} marked, {wrong} of {len(results) - len(marked)} unmarked")
    print(f"{name}_iou {np.mean([r.iou for r in claimed]) if claimed else float('nan'):.4f}", flush=True)


def average_precision(results: list[Result]) -> float:
    """Ties count against us: an unmarked clip of the same score comes first."""
    ranked = sorted(results, key=lambda r: (-r.score, r.truth is not None))
    hits, total = 0, 0.0
    for place, result in enumerate(ranked, 1):
        if result.truth:
            hits += 1
            total += hits / place
    return total / hits if hits else float("nan")


def iou(a: Any, b: Any) -> float:
    w = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    h = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    inter = max(0, w) * max(0, h)
    return inter / (a[2] * a[3] + b[2] * b[3] - inter)


def picture(frame: np.ndarray, result: Result, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = np.ascontiguousarray(frame[..., ::-1])
    for box, colour in ((result.truth, (0, 200, 0)), (result.box, (0, 0, 255))):
        if box:
            x, y, w, h = (round(v) for v in box)
            cv2.rectangle(shown, (x, y), (x + w, y + h), colour, 1)
    cv2.putText(shown, f"{result.path} {result.looks} {result.score:.2f}", (4, 180), 0, 0.5, (0, 255, 255), 1)
    cv2.imwrite(os.fspath(path), shown)


def _blobs(entry: dict[str, Any]) -> set[str]:
    return {source["blob"] for source in entry.get("sources", [])}


def _rounded(box: list[float] | None) -> list[int] | None:
    return [round(v) for v in box] if box else None


if __name__ == "__main__":
    main()
