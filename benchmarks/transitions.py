"""Shot boundaries over transitions of every kind an editor has, and over footage that only looks like one.

    python -m benchmarks.transitions FILE_OR_FOLDER... [--set dev|held] [--kinds PUSH...] [--each N] [--wrong]

Takes any footage: videos (cut at their apparent cuts) and photographs, which a virtual camera films. Half of
the files, every other one by name, is the `dev` set, the rest `held`; a transition joins two files of one set. Lengths
of 8 to 60 frames and easings are drawn by a fixed seed. Prints recall per kind, how far found spans are off, frames of
transitions left in shots, and false boundaries over negatives.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np

from benchmarks.transition_kinds import EASINGS, HEIGHT, MIXES, WIDTH, XFADES, compose, dissolve, studio, xfade
from benchmarks.transition_negatives import NEGATIVES
from reelwright.curation.shots import ShotConfig, make_detector

PICTURES, VIDEOS = {".jpg", ".jpeg", ".png"}, {".avi", ".mp4", ".mkv", ".webm", ".mov"}
NUM_FRAMES, AT = 200, 70  # of a composed file, and where its transition begins
SLACK = 2  # frames that a span may lie beside its transition
OWN_CUT = 0.6  # correlation of consecutive frames below which a video has a cut of its own


@dataclass(frozen=True)
class Case:
    name: str
    kind: str
    frames: np.ndarray
    truth: tuple[int, int] | None  # first and last frame that mix both; none in a negative


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("footage", type=Path, nargs="+")
    parser.add_argument("--set", dest="part", choices=("dev", "held"), default="dev")
    parser.add_argument("--kinds", nargs="*", default=[], help="beginnings of the kinds' names; all if none")
    parser.add_argument("--each", type=int, default=3, help="cases per kind")
    parser.add_argument("--wrong", action="store_true", help="list what was wrong")
    args = parser.parse_args()
    scenes = load(args.footage, 0 if args.part == "dev" else 1)
    print(f"# {len(scenes)} scenes", file=sys.stderr)
    tally: dict[str, list] = defaultdict(list)
    for case in cases(scenes, args.each, tuple(args.kinds)):
        found = detect(case.frames)
        tally[case.kind].append(verdict := judge(case, found))
        if args.wrong and not verdict.right:
            print("#", case.name, "truth", case.truth, "found", found, flush=True)
    report(tally)


@dataclass(frozen=True)
class Verdict:
    found: bool
    false: int
    left: int  # frames of the transition in shots
    taken: int  # frames of shots in the transition
    positive: bool

    @property
    def right(self) -> bool:
        return self.found and not self.false and self.left <= 4


def judge(case: Case, found: list[tuple[int, int]]) -> Verdict:
    if case.truth is None:
        return Verdict(True, len(found), 0, 0, False)
    first, last = case.truth
    mine = [(a, b) for a, b in found if a <= last + SLACK and b >= first - SLACK]
    covered = {t for a, b in mine for t in range(a, b + 1)}
    mixed = set(range(first, last + 1))
    if not mine:
        return Verdict(False, len(found), 0, 0, True)
    return Verdict(True, len(found) - len(mine), len(mixed - covered), len(covered - mixed), True)


def report(tally: dict[str, list]) -> None:
    groups: dict[str, list] = defaultdict(list)
    for kind, verdicts in tally.items():
        groups[kind].extend(verdicts)
        if verdicts[0].positive:
            groups["ALL xfade" if kind.startswith("xfade") else "ALL composed"].extend(verdicts)
        else:
            groups["ALL negatives"].extend(verdicts)
    print(f"{'kind':24} {'cases':>5} {'found':>6} {'false':>6} {'left':>6} {'taken':>6}")
    for kind, v in groups.items():
        found = sum(x.found for x in v) if v[0].positive else "–"
        left, taken = sum(x.left for x in v), sum(x.taken for x in v)
        print(f"{kind:24} {len(v):5} {found:>6} {sum(x.false for x in v):6} {left:6} {taken:6}")


def detect(frames: np.ndarray, fps: float = 25.0) -> list[tuple[int, int]]:
    detector = make_detector(ShotConfig(), fps)
    small = np.stack([cv2.resize(f, (WIDTH // 2, HEIGHT // 2), interpolation=cv2.INTER_AREA) for f in frames])
    return [(t.first, t.last) for t in detector.push(small) + detector.flush()]


def cases(scenes: list[np.ndarray], each: int, kinds: tuple[str, ...]) -> Iterator[Case]:
    for kind in [*MIXES, *(f"xfade_{x}" for x in XFADES), *NEGATIVES]:
        if kinds and not kind.startswith(kinds):
            continue
        for i in range(each):
            rng = np.random.default_rng([i, zlib.crc32(kind.encode())])
            a, b = (scenes[j] for j in rng.choice(len(scenes), 2, replace=False))
            yield _case(kind, i, a, b, rng)


def _case(kind: str, i: int, a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> Case:
    length = int(rng.choice([8, 12, 16, 20, 25, 32, 40, 50, 60]))
    easing = str(rng.choice(list(EASINGS)))
    name = f"{kind} {i} {length} {easing}"
    truth = (AT, AT + length - 1)
    if kind in NEGATIVES:
        return Case(name, kind, _grain(NEGATIVES[kind](a, b, rng), rng), None)
    if kind.startswith("xfade"):
        return Case(name, kind, _grain(xfade(a, b, kind.removeprefix("xfade_"), AT, length), rng), truth)
    frames = compose(a, b, MIXES[kind], AT, length, easing)
    if kind == "dissolve_window":
        share = rng.uniform(0.72, 0.92, 2)
        corner = rng.uniform(0, 1 - share)
        around = studio((corner[0], corner[1], *(corner + share)), i)
        frames = np.stack([around(f) for f in compose(a, b, dissolve, AT, length, "linear")])
    return Case(name, kind, _grain(frames, rng), truth)


def _grain(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    noise = rng.integers(-3, 4, frames.shape, np.int8)
    return (frames.astype(np.int16) + noise).clip(0, 255).astype(np.uint8)


def load(paths: list[Path], part: int) -> list[np.ndarray]:
    """Scenes of NUM_FRAMES frames, uint8 RGB [T, HEIGHT, WIDTH, 3], from every other file."""
    files = sorted(
        {f for p in paths for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file()}, key=lambda f: f.name
    )
    pictures = [f for f in files if f.suffix.lower() in PICTURES]
    videos = [f for f in files if f.suffix.lower() in VIDEOS]
    scenes = [scene for f in videos[part::2] for scene in _of_video(f)]
    for f in pictures[part::2]:
        picture = cv2.imread(str(f))
        if picture is None or min(picture.shape[:2]) < 200 or picture.std() < 20:
            continue
        scenes.append(_filmed(picture[..., ::-1], np.random.default_rng(zlib.crc32(f.name.encode()))))
    return scenes


def _of_video(path: Path) -> list[np.ndarray]:
    with av.open(str(path)) as container:
        frames = [_fitted(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
    shots, start = [], 0
    for t in range(1, len(frames) + 1):
        if t == len(frames) or np.corrcoef(frames[t].ravel(), frames[t - 1].ravel())[0, 1] < OWN_CUT:
            if t - start >= 50:  # less the ends, where a video of its own may still be changing
                shots.append(np.stack(frames[start + 4 : t - 4]))
            start = t
    return [_long_enough(s) for s in shots][:4]


def _long_enough(shot: np.ndarray) -> np.ndarray:
    """There and back again as often as it takes."""
    period = 2 * len(shot) - 2
    at = np.arange(NUM_FRAMES) % period
    return shot[np.minimum(at, period - at)]


def _fitted(frame: np.ndarray) -> np.ndarray:
    h, w = frame.shape[:2]
    scale = max(WIDTH / w, HEIGHT / h)
    frame = cv2.resize(
        frame, (max(WIDTH, round(w * scale)), max(HEIGHT, round(h * scale))), interpolation=cv2.INTER_AREA
    )
    y, x = (frame.shape[0] - HEIGHT) // 2, (frame.shape[1] - WIDTH) // 2
    return frame[y : y + HEIGHT, x : x + WIDTH]


def _filmed(picture: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """By a camera that stands, pans, zooms or is held in hand."""
    h, w = picture.shape[:2]
    size = min(w / WIDTH, h / HEIGHT) * rng.uniform(0.55, 0.9)
    style = rng.choice(["still", "pan", "zoom", "hand"])
    t = np.linspace(-0.5, 0.5, NUM_FRAMES)
    angle, speed = rng.uniform(0, 2 * np.pi), rng.uniform(10, 50)
    x, y, z = np.zeros((3, NUM_FRAMES))
    if style == "pan":
        x, y = t * speed * np.cos(angle), t * speed * np.sin(angle) / 2
    elif style == "zoom":
        z = t * rng.uniform(-0.4, 0.4)
    elif style == "hand":
        steps = rng.normal(0, 1.2, (2, NUM_FRAMES + 20))
        x, y = (np.convolve(s, np.hanning(21) / 3, "valid") for s in steps)
    frames = []
    for dx, dy, dz in zip(x, y, z, strict=True):
        k = size * np.exp(dz)
        warp = np.array([[k, 0, w / 2 + (dx - WIDTH / 2) * k], [0, k, h / 2 + (dy - HEIGHT / 2) * k]])
        frames.append(cv2.warpAffine(
            picture, warp, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_REFLECT
        ))  # fmt: skip
    return np.stack(frames)


if __name__ == "__main__":
    main()
