"""Clips of the virtual camera, measured as the annotator measures a clip."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from reelwright.annotate.motion.camera.motion import Steps, measure
from reelwright.annotate.motion.camera.paths import FAMILIES, Shot, draw_shot
from reelwright.annotate.motion.camera.sampling import SAMPLING
from reelwright.annotate.motion.camera.sources import Source
from reelwright.annotate.motion.camera.virtual import Scene, draw_scene, film, film_background
from reelwright.annotate.motion.camera.visible import CHECKED, background_shows
from reelwright.curation.media.frames import read

ENCODED = 0.3  # share of the clips that go through x264; those need every frame rendered
LONGEST = 120  # frames of a clip that is encoded


@dataclass(frozen=True)
class Example:
    """A clip as the classifier's features see it. truth: float [T, 4], the path as it was drawn, at the samples."""

    family: str
    source: str
    steps: Steps
    times_s: np.ndarray
    size: tuple[int, int]
    truth: np.ndarray


def make_examples(sources: Sequence[Source], count: int, seed: int) -> list[Example]:
    """Return `count` clips, all families alike; drawn the same for the same seed (x264 may round otherwise)."""
    return [make_example(sources, FAMILIES[k % len(FAMILIES)], np.random.default_rng([seed, k])) for k in range(count)]


def make_example(sources: Sequence[Source], family: str, rng: np.random.Generator) -> Example:
    """Film a clip of a family on a virtual camera and measure its features."""
    shot, scene, frames, indices = filmed(sources, family, rng)
    times_s = np.array(indices) / shot.fps
    size = frames.shape[1:]
    return Example(family, scene.background.name, measure(frames, times_s), times_s, size, shot.path[indices])


def filmed(
    sources: Sequence[Source], family: str, rng: np.random.Generator
) -> tuple[Shot, Scene, np.ndarray, list[int]]:
    """Film a shot with a visible background (annotate/motion/camera/visible.py); other shots are drawn again.

    Returns:
        The shot, its scene, its frames as the annotator gets them, and their numbers.
    """
    while True:
        shot = draw_shot(family, rng)
        scene = draw_scene(shot, sources, rng)
        encoded = rng.random() < ENCODED and len(shot.path) <= LONGEST
        frames, indices = (_encoded if encoded else _rendered)(scene, shot, rng)
        if _background_shows(frames, scene, shot, indices):
            return shot, scene, frames, indices


def _background_shows(frames: np.ndarray, scene: Scene, shot: Shot, indices: Sequence[int]) -> bool:
    checked = np.unique(np.linspace(0, len(frames) - 1, CHECKED).round().astype(int))
    alone, free = film_background(scene, shot, [indices[k] for k in checked])
    size = frames.shape[:0:-1]
    alone = np.stack([cv2.resize(picture, size, interpolation=cv2.INTER_AREA) for picture in alone])
    free = np.stack([cv2.resize(where.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0.99 for where in free])
    return background_shows(frames[checked], alone, free)


def borrowed(lenders: Sequence[Example], count: int, seed: int) -> list[Example]:
    """Return `count` further examples that are drawn but not filmed.

    Their steps are the path's, with the errors, agreement and gaps of measurement of a filmed clip of the same family.
    """
    rng = np.random.default_rng([seed, len(lenders)])
    by_family = {family: [e for e in lenders if e.family == family] for family in FAMILIES}
    lent = [family for family in FAMILIES if by_family[family]]
    return [_with_errors_of(by_family[f], f, rng) for f in (lent[k % len(lent)] for k in range(count))]


def _with_errors_of(lenders: Sequence[Example], family: str, rng: np.random.Generator) -> Example:
    lender = lenders[int(rng.integers(len(lenders)))]
    shot = draw_shot(family, rng)
    indices = SAMPLING.indices(len(shot.path), shot.fps)
    path = shot.path[indices]
    short = min(lender.size)
    lent = np.arange(rng.integers(len(lender.times_s) - 1), len(lender.times_s) + len(indices))[: len(indices) - 1]
    lent %= len(lender.times_s) - 1
    errors = lender.steps.motion - _motion_of(lender.truth, short)
    kept = (values[lent] for values in (lender.steps.agreed, lender.steps.still, lender.steps.spread))
    steps = Steps(_motion_of(path, short) + errors[lent], *kept)
    return Example(family, lender.source, steps, np.array(indices) / shot.fps, lender.size, path)


def _motion_of(path: np.ndarray, short: int) -> np.ndarray:
    """Return a path's steps as `measure` gives them: about the centre of the frame, not of the picture."""
    p = (path[:, :2] - (path[0, :2] + path[-1, :2]) / 2) @ (1, 1j) * short
    turn = np.diff(path[:, 2:], axis=0)
    b = p[1:] - np.exp(turn @ (1, 1j)) * p[:-1]
    return np.column_stack([b.real, b.imag, turn])


def _rendered(scene: Scene, shot: Shot, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    """Only the frames that are sampled, some of them through JPEG."""
    indices = SAMPLING.indices(len(shot.path), shot.fps)
    frames = film(scene, shot, indices, rng)
    if rng.random() < 0.5:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(20, 90))]
        jpegs = [cv2.imencode(".jpg", frame, quality)[1] for frame in frames]
        frames = np.stack([np.asarray(cv2.imdecode(jpeg, cv2.IMREAD_GRAYSCALE)) for jpeg in jpegs])
    size = SAMPLING.size(*frames.shape[:0:-1])
    return np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]), indices


def _encoded(scene: Scene, shot: Shot, rng: np.random.Generator) -> tuple[np.ndarray, list[int]]:
    crf = int(rng.integers(18, 37))
    mp4 = encode(film(scene, shot, range(len(shot.path)), rng), shot.fps, crf)
    facts, arrays = read(mp4, [SAMPLING])
    return arrays[0], SAMPLING.indices(facts.num_frames, facts.fps)


def encode(frames: np.ndarray, fps: int, crf: int) -> bytes:
    """Encode uint8 [T, H, W] with even sides as an H.264 mp4."""
    import av

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        with av.open(str(path), "w") as file:
            stream = file.add_stream("libx264", rate=Fraction(fps))
            stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
            stream.codec_context.thread_count = 1
            stream.codec_context.options = {"crf": str(crf), "preset": "veryfast"}
            for frame in frames:
                file.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="gray")))
            file.mux(stream.encode())
        return path.read_bytes()


def save(examples: Sequence[Example]) -> bytes:
    """Write all measurements as an npz without objects."""
    out = io.BytesIO()
    arrays: dict[str, Any] = {
        "names": np.array([[e.family, e.source] for e in examples]),
        "sizes": np.array([e.size for e in examples]),
    }
    for k, e in enumerate(examples):
        table = np.column_stack([e.steps.motion, e.steps.agreed, e.steps.still, e.steps.spread])
        arrays |= {f"{k}_steps": table, f"{k}_times": e.times_s, f"{k}_truth": e.truth}
    np.savez_compressed(out, **arrays)
    return out.getvalue()


def restore(data: bytes) -> list[Example]:
    """Read examples back from the bytes of an .npz file."""
    file = np.load(io.BytesIO(data), allow_pickle=False)
    examples = []
    for k, ((family, source), size) in enumerate(zip(file["names"], file["sizes"], strict=True)):
        table = file[f"{k}_steps"]
        steps = Steps(table[:, :4], *table[:, 4:].T)
        examples.append(Example(family, source, steps, file[f"{k}_times"], tuple(size), file[f"{k}_truth"]))
    return examples
