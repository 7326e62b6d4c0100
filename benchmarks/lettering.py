"""The text detector on lines drawn over footage: `python -m benchmarks.lettering FOLDER`.

FOLDER has a truth.json, as ../shared/corpus has. Three frames of each source without text or marks of its own get one
to three lines of one to six words: Latin or Chinese, in OpenCV's own fonts, of seeded sizes, places, colours and styles
(plain, outlined, on a plate, with a shadow). Prints `name value` lines:

- recall_*: lines of which the found ones cover more than half, by height of the letters at 256 pixels of the frame's
  shorter side; iou: of what is found with the boxes of the glyphs, mean over frames; area: found over true, median.
- claimed: frames without drawn lines on which lines are found. Some show lettering in the scene.
- cpu_ms_per_frame: of frames with lines, this process's.

    --height, --min-probability: as the annotator asks for, unless given
    --network FILE: another of PP-OCR's detectors (ONNX) in place of the installed one
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import cv2
import numpy as np

from reelwright.annotate.backends.text_detector import TextDetector
from reelwright.annotate.overlay.text import Text

HEIGHT, AT = 720, (5, 40, 90)  # of the frames that are drawn on, and which of a source
LEFT_OUT = ("text", "watermark", "bad", "dups")
LATIN = (
    "the", "quick", "Report", "from", "LIVE", "evening", "2024", "12:45", "market", "STREET", "How", "do", "we", "I",
    "reach", "them", "cannot", "say", "tomorrow", "NEWS", "Episode", "river", "Nation", "water", "president", "said",
)  # fmt: skip
CHINESE = (
    "今日", "新闻", "报道", "我们", "不能说", "明天会更好", "国际", "河流", "总统", "水", "欢迎收看", "第一集",
    "谢谢大家", "中央电视台",
)  # fmt: skip
FONTS = {"latin": ("sans", "serif", "italic"), "chinese": ("uni",)}
SIZES = {"under_10px": 10, "10_to_16px": 16, "16_to_28px": 28, "over_28px": 1e9}
Box = tuple[int, int, int, int]  # left, top, right, bottom


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--network", type=Path)
    parser.add_argument("--height", type=int, default=Text.needs.height)
    parser.add_argument("--min-probability", type=float, default=Text.min_probability)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    detector = TextDetector(args.min_probability)
    if args.network:
        detector.path = args.network
    frames = list(footage(args.folder))
    claimed = sum(len(detector.lines(scaled(frame, args.height))) > 0 for frame in frames)
    print(f"claimed {claimed} of {len(frames)} frames")
    for script, words in (("latin", LATIN), ("chinese", CHINESE)):
        measure(detector, frames, args.height, script, words)


def footage(folder: Path) -> Iterator[np.ndarray]:
    """Frames of the sources that show no lettering by truth.json: uint8 RGB, 720 pixels on the shorter side."""
    for file in json.loads((folder / "truth.json").read_text("utf-8"))["files"]:
        if file["category"] in LEFT_OUT or file.get("text_present"):
            continue
        try:
            with av.open(str(folder / file["path"])) as container:
                for i, frame in enumerate(container.decode(video=0)):
                    if i in AT:
                        yield scaled(frame.to_ndarray(format="rgb24"), HEIGHT)
                    if i >= max(AT):
                        break
        except (av.error.FFmpegError, IndexError):
            continue


def scaled(frame: np.ndarray, short: int) -> np.ndarray:
    factor = short / min(frame.shape[:2])
    size = [max(1, round(side * factor)) for side in frame.shape[1::-1]]
    return cv2.resize(frame, size, interpolation=cv2.INTER_AREA)


def measure(detector: TextDetector, frames: list[np.ndarray], height: int, script: str, words: Sequence[str]) -> None:
    """Draw lines of a script over frames, and print how they are found."""
    rng = np.random.default_rng(11)
    hits: dict[str, list[bool]] = defaultdict(list)
    ious, areas, cpu_s = [], [], 0.0
    for frame in frames:
        drawn, boxes = lettered(frame, script, words, rng)
        small = scaled(drawn, height)
        began = time.process_time()
        lines = detector.lines(small)
        cpu_s += time.process_time() - began
        found, true = (np.zeros(small.shape[:2], np.uint8) for _ in range(2))
        for line in lines:
            cv2.fillConvexPoly(found, np.round(line - 0.5).astype(np.int32), 1)
        for box, size in boxes:
            left, top, right, bottom = (round(side * height / HEIGHT) for side in box)
            rows, columns = slice(top, bottom), slice(left, right)
            true[rows, columns] = 1
            kind = next(name for name, below in SIZES.items() if size * 256 / HEIGHT < below)
            hits[kind].append(found[rows, columns].size > 0 and found[rows, columns].mean() > 0.5)
        if true.any():
            ious.append((found & true).sum() / (found | true).sum())
            areas.append(found.sum() / true.sum())
    for kind in SIZES:
        print(f"{script}_recall_{kind} {np.mean(hits[kind]):.3f} of {len(hits[kind])} lines")
    print(f"{script}_iou {np.mean(ious):.3f}")
    print(f"{script}_area {np.median(areas):.3f}")
    print(f"{script}_cpu_ms_per_frame {1e3 * cpu_s / len(frames):.1f}")


def lettered(
    frame: np.ndarray, script: str, words: Sequence[str], rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[Box, float]]]:
    """Return the frame with lines, and the box of the glyphs and the size of the letters in pixels of each."""
    drawn, boxes = frame.copy(), list[tuple[Box, float]]()
    height, width = frame.shape[:2]
    for _ in range(rng.integers(1, 4)):
        size = int(np.exp(rng.uniform(np.log(18), np.log(120))))
        text = " ".join(rng.choice(words, rng.integers(1, 7)))
        glyphs = written(text, str(rng.choice(FONTS[script])), size)
        h, w = glyphs.shape
        if w > width - 20 or h > height - 20:
            continue
        x, y = int(rng.integers(10, width - w - 9)), int(rng.integers(10, height - h - 9))
        box = (x, y, x + w, y + h)
        if any(x < b[2] + 20 and b[0] < x + w + 20 and y < b[3] + 20 and b[1] < y + h + 20 for b, _ in boxes):
            continue
        draw(drawn[y - 9 : y + h + 9, x - 9 : x + w + 9], np.pad(glyphs, 9), rng)
        boxes.append((box, size))
    return drawn, boxes


def written(text: str, font: str, size: int) -> np.ndarray:
    """Return the glyphs' coverage, uint8 [h, w], cut to where there is ink."""
    canvas = np.zeros((3 * size, (len(text) + 2) * size * 2, 3), np.uint8)
    cv2.putText(canvas, text, (size, 2 * size), (255, 255, 255), cv2.FontFace(font), size)
    ys, xs = np.nonzero(canvas[..., 0] > 100)
    return canvas[ys.min() : ys.max() + 1, xs.min() : xs.max() + 1, 0]


def draw(part: np.ndarray, glyphs: np.ndarray, rng: np.random.Generator) -> None:
    """Blend glyphs into a part of a frame: plain, outlined, on a plate or with a shadow."""
    style = int(rng.integers(4))
    colour = rng.integers(180, 256, 3) if style or rng.random() < 0.75 else rng.integers(0, 256, 3)
    if style == 1:
        blend(part, cv2.dilate(glyphs, np.ones((7, 7), np.uint8)), np.zeros(3))
    elif style == 2:
        part[:] = rng.integers(0, 90, 3)
    elif style == 3:
        blend(part, np.roll(glyphs, (3, 3), (0, 1)), np.zeros(3))
    blend(part, glyphs, colour)


def blend(part: np.ndarray, coverage: np.ndarray, colour: np.ndarray) -> None:
    share = coverage[..., None] / np.float32(255)
    part[:] = np.round(part * (1 - share) + colour * share)


if __name__ == "__main__":
    main()
