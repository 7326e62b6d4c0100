"""A virtual camera: films a picture or still-standing footage along a path, with other traits of real clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from reelwright.annotate.motion.camera.paths import Shot
from reelwright.annotate.motion.camera.sources import Source

SIZES = ((256, 144), (320, 180), (426, 240), (480, 270), (320, 240), (240, 240), (200, 360), (480, 200))
FOOTAGE = 0.35  # share of the clips that are filmed over footage


@dataclass
class Layer:
    """Something before the background: a blob or strip cut from a picture, moving in its own way.

    in_scene: share of the camera's motion that it takes part in; 0 stays in the frame as a followed subject does, more
    than 1 is nearer to the camera than the background. own: float [T, 2], its own motion in shorter sides. swell:
    float [T], log of its own scale.
    """

    picture: np.ndarray
    mask: np.ndarray
    in_scene: float
    own: np.ndarray
    swell: np.ndarray


@dataclass
class Scene:
    """All that is drawn at random besides the path."""

    size: tuple[int, int]
    background: Source
    fraction: float  # of the picture's height that the frame shows
    centre: tuple[float, float]
    layers: list[Layer] = field(default_factory=list)
    gain: np.ndarray = field(default_factory=lambda: np.ones(1))
    grain: float = 0.0
    blur_shutter: float = 0.0
    mark: np.ndarray | None = None


def draw_scene(shot: Shot, sources: Sequence[Source], rng: np.random.Generator) -> Scene:
    """Draw the picture, subject, foreground, light and marks that a shot films."""
    size = SIZES[rng.integers(len(SIZES))]
    scene = _view(size, sources, rng)
    frames = len(shot.path)
    for _ in range(rng.choice([0, 1, 2], p=[0.45, 0.35, 0.2])):
        scene.layers.append(_subject(shot, size, sources, rng))
    if rng.random() < 0.15:
        scene.layers.append(_foreground(frames, size, sources, rng))
    if rng.random() < 0.25:
        ramp = np.exp(np.linspace(0, rng.uniform(-0.5, 0.5), frames))
        scene.gain = ramp * (1 + rng.choice([0, 0.04]) * rng.normal(0, 1, frames))
    scene.gain = scene.gain * rng.choice([1, rng.uniform(0.25, 1)])
    scene.grain = float(rng.choice([0, 1.2, rng.uniform(0, 6)]))
    scene.blur_shutter = float(rng.choice([0, 0, rng.uniform(0.2, 0.8)]))
    if rng.random() < 0.12:
        scene.mark = _mark(size, rng)
    return scene


def film(scene: Scene, shot: Shot, indices: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Return the frames of these indices: uint8 [T, H, W]."""
    return np.stack([_frame(scene, shot, i, rng) for i in indices])


def film_background(scene: Scene, shot: Shot, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Film the background of these frames without anything before it.

    Returns:
        float [T, H, W], the background alone, as sharp as it is filmed but without light, grain and moving layers; and
        bool [T, H, W], true where no layer hides it.
    """
    alone = replace(scene, background=scene.background.still, layers=[])
    frames = [np.mean([_exposed(alone, shot, m) for m in _moments(scene, i)], axis=0) for i in indices]
    return np.stack(frames), np.stack([_free(scene, shot, i) for i in indices])


def _view(size: tuple[int, int], sources: Sequence[Source], rng: np.random.Generator) -> Scene:
    """Return where the camera stands; footage is shown nearly whole, as its subject would fill a part of it."""
    picture = rng.random() > FOOTAGE
    wanted = [source for source in sources if source.is_picture == picture] or sources
    background = wanted[int(rng.integers(len(wanted)))]
    fraction = float(rng.uniform(0.35 if background.is_picture else 0.65, 0.9))
    return Scene(size, background, fraction, (float(rng.uniform(0.35, 0.65)), float(rng.uniform(0.4, 0.6))))


def _frame(scene: Scene, shot: Shot, i: int, rng: np.random.Generator) -> np.ndarray:
    picture = np.mean([_exposed(scene, shot, m) for m in _moments(scene, i)], axis=0) * scene.gain[i % len(scene.gain)]
    if scene.grain:
        picture = picture + rng.normal(0, scene.grain, picture.shape)
    if scene.mark is not None:
        picture = picture * (1 - 0.6 * (scene.mark > 0)) + 0.6 * scene.mark.astype(np.float32)
    return np.clip(picture, 0, 255).astype(np.uint8)


def _free(scene: Scene, shot: Shot, i: int) -> np.ndarray:
    covered = np.zeros(scene.size[::-1], bool) if scene.mark is None else scene.mark > 0
    for layer in scene.layers:
        covered |= cv2.warpAffine(layer.mask, _placed(layer, shot, i, scene.size), scene.size, borderValue=0) > 0
    return ~covered


def _moments(scene: Scene, i: int) -> np.ndarray:
    """When the shutter is open, in frames."""
    return np.array([i]) if not scene.blur_shutter else i + scene.blur_shutter * np.array([-0.5, 0, 0.5])


def _exposed(scene: Scene, shot: Shot, moment: float) -> np.ndarray:
    size = scene.size
    path = shot.path
    state = _state(shot, moment)
    middle = path[(0, -1), :].mean(axis=0) if len(path) > 1 else path[0]
    source = scene.background
    picture = source.frames[_played(source, moment / shot.fps)]
    height, width = picture.shape
    fit = max(size[1] / (scene.fraction * height), size[0] / (scene.fraction * width))
    frame = _warp(picture, state - middle, fit, (scene.centre[0] * width, scene.centre[1] * height), size)
    for layer in scene.layers:
        frame = _overlaid(frame, layer, _placed(layer, shot, moment, size))
    return frame


def _state(shot: Shot, moment: float) -> np.ndarray:
    return np.array([np.interp(moment, np.arange(len(shot.path)), shot.path[:, k]) for k in range(4)])


def _played(source: Source, seconds: float) -> int:
    """Index of the frame shown, to and fro where the footage is shorter than the clip."""
    length = len(source.frames)
    position = round(seconds * source.fps) % max(1, 2 * length - 2)
    return position if position < length else 2 * length - 2 - position


def _warp(
    picture: np.ndarray, state: np.ndarray, fit: float, centre: tuple[float, float], size: tuple[int, int]
) -> np.ndarray:
    """Return the picture as the frame shows it; beyond its edges it is mirrored, which moves as scenery does."""
    matrix = _matrix(state, fit, centre, size)
    flags = cv2.INTER_AREA if fit < 1 else cv2.INTER_LINEAR
    return cv2.warpAffine(picture, matrix, size, flags=flags, borderMode=cv2.BORDER_REFLECT_101)


def _matrix(state: np.ndarray, fit: float, centre: tuple[float, float], size: tuple[int, int]) -> np.ndarray:
    right, down, log_scale, angle = state
    scale = fit * np.exp(log_scale)
    cos, sin = scale * np.cos(angle), scale * np.sin(angle)  # y points down: a positive angle turns clockwise
    x = (size[0] - 1) / 2 + right * min(size) - cos * centre[0] + sin * centre[1]
    y = (size[1] - 1) / 2 + down * min(size) - sin * centre[0] - cos * centre[1]
    return np.array([[cos, -sin, x], [sin, cos, y]])


def _placed(layer: Layer, shot: Shot, moment: float, size: tuple[int, int]) -> np.ndarray:
    """Matrix from where a layer was drawn to where the frame shows it."""
    at = np.arange(len(shot.path))
    own = np.array([np.interp(moment, at, layer.own[:, 0]), np.interp(moment, at, layer.own[:, 1]), 0, 0])
    own[2] = np.interp(moment, at, layer.swell)
    state = _state(shot, moment) - shot.path[0]
    moved = own + layer.in_scene * state * (1, 1, min(1, 1 / max(layer.in_scene, 1e-9)), min(1, layer.in_scene))
    return _matrix(moved, 1, ((size[0] - 1) / 2, (size[1] - 1) / 2), size)


def _overlaid(frame: np.ndarray, layer: Layer, matrix: np.ndarray) -> np.ndarray:
    size = frame.shape[::-1]
    mask = cv2.warpAffine(layer.mask, matrix, size, borderValue=0).astype(np.float32) / 255
    subject = cv2.warpAffine(layer.picture, matrix, size, borderMode=cv2.BORDER_REFLECT_101)
    return frame + mask * (subject.astype(np.float32) - frame)


def _subject(shot: Shot, size: tuple[int, int], sources: Sequence[Source], rng: np.random.Generator) -> Layer:
    """Draw a moving thing of 2 to 45 % of the frame; one that the camera follows is smaller and in the middle."""
    frames = len(shot.path)
    short = min(size)
    followed = rng.random() < 0.2
    area = np.exp(rng.uniform(np.log(0.02), np.log(0.2 if followed else 0.45))) * size[0] * size[1]
    x, y = np.array(size) * (rng.uniform(0.35, 0.65, 2) if followed else rng.uniform(0.1, 0.9, 2))
    t = np.arange(frames)[:, None] / shot.fps
    angle = rng.uniform(0, 2 * np.pi)
    speed = np.exp(rng.uniform(np.log(0.03), np.log(0.8)))
    own = speed * np.array([np.cos(angle), np.sin(angle)]) * (t - t.mean())
    if followed or rng.random() < 0.4:  # gestures, or a jog on the spot
        own = rng.uniform(0.005, 0.12, 2) * np.sin(2 * np.pi * rng.uniform(0.3, 3, 2) * t + rng.uniform(0, 6.3, 2))
    swell = rng.choice([0, 1]) * rng.uniform(-0.3, 0.3) * (t[:, 0] - t.mean())
    mask = np.zeros(size[::-1], np.uint8)
    aspect = rng.uniform(0.4, 2.5)
    axes = (int(np.sqrt(area / np.pi * aspect)) + 2, int(np.sqrt(area / np.pi / aspect)) + 2)
    cv2.ellipse(mask, (int(x), int(y)), axes, rng.uniform(0, 180), 0, 360, 255, -1)
    bump = (int(x + rng.uniform(-1, 1) * axes[0]), int(y - axes[1]))
    cv2.circle(mask, bump, max(2, int(0.5 * min(axes))), 255, -1)
    mask = cv2.blur(mask, (max(1, short // 60),) * 2)
    in_scene = 0.0 if followed else 1.0
    return Layer(_cutout(size, sources, rng), mask, in_scene, own, swell)


def _foreground(frames: int, size: tuple[int, int], sources: Sequence[Source], rng: np.random.Generator) -> Layer:
    """Draw a ragged strip at the bottom or a side, nearer to the camera: parallax."""
    mask = np.zeros(size[::-1], np.uint8)
    reach = rng.uniform(0.1, 0.3)
    if rng.random() < 0.6:
        ragged = reach + 0.08 * np.interp(np.arange(size[0]), np.linspace(0, size[0], 9), rng.uniform(-1, 1, 9))
        mask[np.arange(size[1])[:, None] > (1 - ragged) * size[1]] = 255
    else:
        ragged = reach + 0.06 * np.interp(np.arange(size[1]), np.linspace(0, size[1], 9), rng.uniform(-1, 1, 9))
        mask[np.arange(size[0]) < ragged[:, None] * size[0]] = 255
        mask = mask[:, :: rng.choice([-1, 1])].copy()
    still = np.zeros((frames, 2))
    return Layer(_cutout(size, sources, rng), mask, float(rng.uniform(1.2, 1.8)), still, still[:, 0])


def _cutout(size: tuple[int, int], sources: Sequence[Source], rng: np.random.Generator) -> np.ndarray:
    picture = sources[int(rng.integers(len(sources)))].frames[0]
    fit = max(size[0] / picture.shape[1], size[1] / picture.shape[0]) * 1.05
    return cv2.resize(picture, None, fx=fit, fy=fit, interpolation=cv2.INTER_AREA)[: size[1], : size[0]]


def _mark(size: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Draw a logo in a corner or two lines of subtitles: uint8 [H, W], 0 where the picture shows through."""
    mark = np.zeros(size[::-1], np.uint8)
    if rng.random() < 0.5:
        corner = (int(size[0] * rng.choice([0.05, 0.75])), int(size[1] * rng.choice([0.15, 0.93])))
        cv2.putText(mark, "LOGO", corner, cv2.FONT_HERSHEY_SIMPLEX, min(size) / 350, 250, max(1, min(size) // 120))
    else:
        for line in (0.86, 0.95):
            at = (int(size[0] * 0.15), int(size[1] * line))
            cv2.putText(mark, "what people say here", at, cv2.FONT_HERSHEY_SIMPLEX, size[0] / 550, 250, 1)
    return mark
