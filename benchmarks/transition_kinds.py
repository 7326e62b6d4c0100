"""Transitions as editors make them, and look-alikes, composed frame by frame: `benchmarks.transitions`.

Frames are uint8 RGB [T, H, W, 3]. A transition's function takes the old picture, the new one, how far it has come
(0 to 1, neither reached) and its pace per frame, and returns the frame between.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

HEIGHT, WIDTH = 108, 192  # pixels of composed frames, twice those a detector is given
WAYS = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
EASINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda p: p,
    "smooth": lambda p: p * p * (3 - 2 * p),
    "out": lambda p: 1 - (1 - p) ** 3,
    "in": lambda p: p**2,
}
XFADES = (
    "wipeleft", "wiperight", "wipeup", "wipedown", "slideleft", "slideright", "slideup", "slidedown", "circlecrop",
    "rectcrop", "distance", "fadeblack", "fadewhite", "radial", "smoothleft", "smoothup", "circleopen",
    "circleclose", "vertopen", "vertclose", "horzopen", "horzclose", "dissolve", "pixelize", "diagtl", "diagbr",
    "hlslice", "hrslice", "vuslice", "vdslice", "hblur", "fadegrays", "wipetl", "wipebr", "squeezeh", "squeezev",
    "zoomin", "fadefast", "fadeslow", "hlwind", "vuwind", "coverleft", "coverright", "coverup", "coverdown",
    "revealleft", "revealright", "revealup", "revealdown",
)  # fmt: skip

Mix = Callable[[np.ndarray, np.ndarray, float, float], np.ndarray]


def compose(old: np.ndarray, new: np.ndarray, mix: Mix, at: int, length: int, easing: str) -> np.ndarray:
    """`old` up to frame `at`, then `length` frames of both, then `new`. old, new: the same number of frames."""
    out = np.concatenate((old[:at], new[at:]))
    progress = EASINGS[easing](np.arange(length + 2) / (length + 1))
    for i in range(length):
        p = float(progress[i + 1])
        pace = float(progress[i + 2] - progress[i]) / 2
        out[at + i] = mix(old[at + i], new[at + i], p, pace).clip(0, 255)
    return out


def xfade(old: np.ndarray, new: np.ndarray, kind: str, at: int, length: int) -> np.ndarray:
    """The same by ffmpeg's filter of that name."""
    num_frames, height, width, _ = old.shape
    with tempfile.TemporaryDirectory() as folder:
        inputs = []
        for name, frames in (("old", old), ("new", new[at - 1 :])):
            path = Path(folder) / name
            path.write_bytes(np.ascontiguousarray(frames).tobytes())
            inputs += ["-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", "25", "-i", str(path)]
        graph = (
            f"[0]format=gbrp,settb=1/25[a];[1]format=gbrp,settb=1/25[b];"
            f"[a][b]xfade=transition={kind}:duration={(length + 1) / 25}:offset={(at - 1) / 25}"
        )
        made = subprocess.run(
            [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", *inputs, "-filter_complex", graph,
             "-f", "rawvideo", "-pix_fmt", "rgb24", "-"],
            check=True, capture_output=True,
        ).stdout  # fmt: skip
    return np.frombuffer(made, np.uint8).reshape(-1, height, width, 3)[:num_frames].copy()


def push(way: str) -> Mix:
    return lambda a, b, p, _: _beside(_moved(a, way, p), _moved(b, way, p - 1), _entered(way, p))


def cover(way: str) -> Mix:
    return lambda a, b, p, _: _beside(a, _moved(b, way, p - 1), _entered(way, p))


def uncover(way: str) -> Mix:
    return lambda a, b, p, _: _beside(_moved(a, way, p), b, _entered(way, p))


def whip(way: str) -> Mix:
    """A push blurred along its way by what it covers in half a frame's time."""

    def mix(a: np.ndarray, b: np.ndarray, p: float, pace: float) -> np.ndarray:
        frame = push(way)(a, b, p, pace)
        across = way in ("left", "right")
        reach = max(1, round(pace * (WIDTH if across else HEIGHT) * 0.5))
        return cv2.blur(frame, (reach, 1) if across else (1, reach))

    return mix


def squeeze(way: str) -> Mix:
    def mix(a: np.ndarray, b: np.ndarray, p: float, _: float) -> np.ndarray:
        if way in ("left", "right"):
            split = min(WIDTH - 1, max(1, round(WIDTH * (1 - p))))
            parts = [cv2.resize(a, (split, HEIGHT)), cv2.resize(b, (WIDTH - split, HEIGHT))]
            return np.concatenate(parts if way == "left" else parts[::-1], 1)[:, :WIDTH]
        split = min(HEIGHT - 1, max(1, round(HEIGHT * (1 - p))))
        parts = [cv2.resize(a, (WIDTH, split)), cv2.resize(b, (WIDTH, HEIGHT - split))]
        return np.concatenate(parts if way == "up" else parts[::-1], 0)

    return mix


def cube(way: str) -> Mix:
    """Two faces of a turning cube before black."""

    def mix(a: np.ndarray, b: np.ndarray, p: float, _: float) -> np.ndarray:
        sign = -1 if way == "left" else 1
        angle = p * np.pi / 2
        out = np.zeros_like(a)
        for face, turn in ((a, sign * angle), (b, sign * (angle - np.pi / 2))):
            corners = []
            for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1)):
                depth = 4 - np.cos(turn) + x * np.sin(turn)  # of a cube two wide, its front three before the eye
                across = x * np.cos(turn) + np.sin(turn)
                corners.append((WIDTH / 2 * (1 + 3 * across / depth), HEIGHT / 2 * (1 + 3 * y / depth)))
            source = np.array([(0, 0), (WIDTH, 0), (WIDTH, HEIGHT), (0, HEIGHT)], np.float32)
            warp = cv2.getPerspectiveTransform(source, np.array(corners, np.float32))
            shown = cv2.warpPerspective(face, warp, (WIDTH, HEIGHT))
            there = cv2.warpPerspective(np.full(face.shape[:2], 255, np.uint8), warp, (WIDTH, HEIGHT)) > 127
            if np.cos(turn) > 0.02:
                out[there] = shown[there]
        return out

    return mix


def zoom(a: np.ndarray, b: np.ndarray, p: float, _: float) -> np.ndarray:
    """Into the old picture, and out of the new one's middle."""
    if p < 0.5:
        return _scaled(a, 1 + 6 * p * p)
    return _scaled(b, 1 + 6 * (1 - p) ** 2)


def grow(a: np.ndarray, b: np.ndarray, p: float, _: float) -> np.ndarray:
    """The new picture grows from the middle over the old one."""
    w, h = max(1, round(WIDTH * p)), max(1, round(HEIGHT * p))
    out = a.copy()
    x, y = (WIDTH - w) // 2, (HEIGHT - h) // 2
    out[y : y + h, x : x + w] = cv2.resize(b, (w, h), interpolation=cv2.INTER_AREA)
    return out


def doors(a: np.ndarray, b: np.ndarray, p: float, _: float) -> np.ndarray:
    """Halves of the old picture slide apart from before the new one."""
    half, shift = WIDTH // 2, round(WIDTH / 2 * p)
    out = b.copy()
    out[:, : half - shift] = a[:, shift:half]
    out[:, half + shift :] = a[:, half : WIDTH - shift]
    return out


def matte(seed: int, softness: float, scale: float = 20.0) -> Mix:
    """Ink: blotches that spread until the new picture has all."""
    noise = np.random.default_rng(seed).random((HEIGHT, WIDTH)).astype(np.float32)
    noise = cv2.GaussianBlur(noise, (0, 0), scale / 2)
    order = noise.reshape(-1).argsort().argsort().reshape(HEIGHT, WIDTH) / noise.size
    return _by_order(order, softness)


def iris(softness: float) -> Mix:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(x - WIDTH / 2, y - HEIGHT / 2)
    return _by_order(distance / distance.max(), softness)


def clock(a: np.ndarray, b: np.ndarray, p: float, pace: float) -> np.ndarray:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    return _by_order((np.arctan2(x - WIDTH / 2, y - HEIGHT / 2) / np.pi + 1) / 2, 0.01)(a, b, p, pace)


def page(a: np.ndarray, b: np.ndarray, p: float, _: float) -> np.ndarray:
    """The old picture turns over from its lower right corner, its back pale."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    along = (x / WIDTH + y / HEIGHT) / 2
    fold = 1 - p
    out = np.where((along > fold)[..., None], b, a)
    mirrored = cv2.remap(
        a, (x + 2 * (fold - along) * WIDTH * 0.9).astype(np.float32),
        (y + 2 * (fold - along) * HEIGHT * 0.9).astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT,
    )  # fmt: skip
    back = (along > fold - 0.12 * np.sin(np.pi * p)) & (along <= fold)
    return np.where(back[..., None], mirrored * 0.3 + 150, out)


def studio(box: tuple[float, float, float, float], seed: int) -> Callable[[np.ndarray], np.ndarray]:
    """A desk with graphics that stays, and a window in it (left, top, right, bottom; shares of the picture): puts a
    frame in there."""
    rng = np.random.default_rng(seed)
    left, top, right, bottom = (round(s * n) for s, n in zip(box, (WIDTH, HEIGHT, WIDTH, HEIGHT), strict=True))
    colours = rng.integers(20, 220, (2, 3))
    ramp = np.linspace(0, 1, WIDTH)[None, :, None]
    desk = ((colours[0] * (1 - ramp) + colours[1] * ramp) * np.ones((HEIGHT, 1, 1))).astype(np.uint8)
    for _ in range(4):
        y, x = rng.integers(0, HEIGHT - 14), rng.integers(0, WIDTH - 60)
        desk[y : y + 12, x : x + 56] = rng.integers(0, 255, 3)
        cv2.putText(desk, "NEWS 24 live", (int(x) + 2, int(y) + 9), cv2.FONT_HERSHEY_SIMPLEX, 0.25, (255, 255, 255))

    def around(frame: np.ndarray) -> np.ndarray:
        out = desk.copy()
        out[top:bottom, left:right] = cv2.resize(frame, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
        return out

    return around


def dissolve(a: np.ndarray, b: np.ndarray, p: float, _: float) -> np.ndarray:
    return a * (1 - p) + b * p


def _by_order(order: np.ndarray, softness: float) -> Mix:
    def mix(a: np.ndarray, b: np.ndarray, p: float, _: float) -> np.ndarray:
        share = ((p * (1 + softness) - order) / softness).clip(0, 1)[..., None]
        return a * (1 - share) + b * share

    return mix


def _moved(frame: np.ndarray, way: str, share: float) -> np.ndarray:
    x, y = WAYS[way]
    warp = np.array([[1, 0, x * share * WIDTH], [0, 1, y * share * HEIGHT]], np.float32)
    return cv2.warpAffine(frame, warp, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)


def _entered(way: str, p: float) -> np.ndarray:
    """Where the new picture is: bool [H, W]."""
    y, x = (np.mgrid[:HEIGHT, :WIDTH] + 0.5) / np.array([HEIGHT, WIDTH])[:, None, None]
    return {"left": x > 1 - p, "right": x < p, "up": y > 1 - p, "down": y < p}[way]


def _beside(a: np.ndarray, b: np.ndarray, new: np.ndarray) -> np.ndarray:
    return np.where(new[..., None], b, a)


def _scaled(frame: np.ndarray, scale: float) -> np.ndarray:
    warp = cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 0, scale)
    return cv2.warpAffine(frame, warp, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT)


def _ways(kinds: dict[str, Callable[[str], Mix]]) -> dict[str, Mix]:
    made = {(name, way): make(way) for name, make in kinds.items() for way in WAYS}
    return {f"{name}_{way}": mix for (name, way), mix in made.items() if name != "cube" or way in ("left", "right")}


MIXES: dict[str, Mix] = {
    **_ways({"push": push, "cover": cover, "uncover": uncover, "whip": whip, "squeeze": squeeze, "cube": cube}),
    "zoom": zoom, "grow": grow, "doors": doors, "iris": iris(0.02), "iris_soft": iris(0.25), "clock": clock,
    "page": page, "ink": matte(1, 0.02), "ink_soft": matte(2, 0.2), "ink_fine": matte(3, 0.02, 6.0),
    "luma_soft": matte(4, 0.5, 50.0), "dissolve_window": dissolve,
}  # fmt: skip
