"""Footage of one shot each that looks like a transition by its numbers: `benchmarks.transitions`."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from benchmarks.transition_kinds import HEIGHT, WIDTH, studio

Made = Callable[[np.ndarray, np.ndarray, np.random.Generator], np.ndarray]


def whip_pan(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From rest to rest over a wide picture, as far as several pictures' width, blurred as a shutter would."""
    return _over_panorama(
        a, b, rng, duration=int(rng.integers(6, 20)), distance=rng.uniform(0.6, 2.6) * WIDTH, blur=True
    )


def pan_one_width(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """From rest to rest by the picture's width exactly, sharp: a push without its seam."""
    return _over_panorama(a, b, rng, duration=int(rng.integers(12, 60)), distance=float(WIDTH), blur=False)


def steady_pan(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return _over_panorama(a, b, rng, duration=len(a), distance=rng.uniform(1.5, 3.0) * WIDTH, blur=False)


def crossing(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Something as high as half or all of the picture, with a straight edge, drives across; several may follow."""
    out = a.copy()
    speed, width = rng.uniform(3, 12), int(rng.integers(50, 400))
    height = int(rng.integers(HEIGHT // 2, HEIGHT + 1))
    top = HEIGHT - height
    thing = cv2.resize(b[0], (int(width), int(height)))
    if rng.random() < 0.4:
        thing = (thing * 0.15 + rng.integers(30, 220, 3) * 0.85).astype(np.uint8)  # a van's plain side
    for t in range(len(a)):
        left = round((t - 50) * speed) - width
        lo, hi = max(0, left), min(WIDTH, left + width)
        if hi > lo:
            out[t, top:, lo:hi] = thing[:, lo - left : hi - left]
    return out if rng.random() < 0.5 else out[:, :, ::-1].copy()


def passer_by(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A person close to the lens, blurred, hides most of the picture for a while."""
    out = a.copy()
    speed, width = float(rng.uniform(4, 10)), int(rng.integers(80, 180))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    texture = cv2.GaussianBlur(b[0], (0, 0), 6)
    for t in range(len(a)):
        middle = (t - 60) * speed - width / 2 + 8 * np.sin(y / 15)
        inside = np.clip(1.5 - np.abs(x - middle) / (width / 2) * 1.2, 0, 1)[..., None]
        shifted = np.roll(texture, round((t - 60) * speed), 1)
        out[t] = (out[t] * (1 - inside) + shifted * 0.6 * inside).astype(np.uint8)
    return out


def parallax(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Posts pass before a background that moves slower."""
    back = _over_panorama(a, b, rng, duration=len(a), distance=rng.uniform(0.3, 1.0) * WIDTH, blur=False)
    speed, every = rng.uniform(3, 9), rng.integers(90, 260)
    width = every // 3
    for t in range(len(a)):
        x = (np.arange(WIDTH) + round(t * speed)) % every
        post = np.flatnonzero(x < width)
        back[t][:, post] = b[0][:, x[post] % WIDTH] // 2
    return back


def fast_zoom(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """By two to four times within 6 to 40 frames, in or out."""
    length, factor = int(rng.integers(6, 40)), rng.uniform(2, 4)
    eased = np.interp(np.arange(len(a)), [70, 70 + int(length)], [0, 1])
    eased = eased * eased * (3 - 2 * eased)
    if rng.random() < 0.5:
        eased = eased[::-1]
    warps = [cv2.getRotationMatrix2D((WIDTH / 2, HEIGHT / 2), 0, factor**e) for e in eased]
    return np.stack([cv2.warpAffine(f, w, (WIDTH, HEIGHT)) for f, w in zip(a, warps, strict=True)])


def credits_roll(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    page = _text(rng, HEIGHT * 6, light=True)
    speed = rng.uniform(0.7, 4)
    return np.stack([_window(page, t * speed) for t in range(len(a))])


def page_scroll(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A web page with pictures, scrolled by about a screen from rest to rest, again and again."""
    page = _text(rng, HEIGHT * 8, light=False)
    for y in range(40, HEIGHT * 8 - 80, 190):
        page[y : y + 60, 20:120] = cv2.resize(b[0] if y % 2 else a[0], (100, 60))
    at, ease = np.zeros(len(a)), int(rng.integers(8, 30))
    for start in range(30, len(a) - ease, 60):
        p = np.clip((np.arange(len(a)) - start) / ease, 0, 1)
        at += p * p * (3 - 2 * p) * HEIGHT * rng.uniform(0.7, 1.0)
    return np.stack([_window(page, y) for y in at])


def panel_slides(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A graphic of a third of the picture slides in slowly, stays, and leaves."""
    out = a.copy()
    h, w = (HEIGHT // 3, WIDTH) if rng.random() < 0.5 else (HEIGHT, WIDTH // 3)
    panel = (cv2.resize(b[0], (w, h)) * 0.3 + 120).astype(np.uint8)
    share = np.interp(np.arange(len(a)), [50, 80, 130, 160], [0, 1, 1, 0])
    for t, p in enumerate(share):
        if w == WIDTH and (n := round(h * p)):
            out[t, HEIGHT - n :] = panel[:n]
        elif w != WIDTH and (n := round(w * p)):
            out[t, :, :n] = panel[:, w - n :]
    return out


def inset_moves(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A window of a studio shows moving pictures: a pan over a wide one."""
    around = studio((0.2, 0.1, 0.95, 0.85), int(rng.integers(9)))
    return np.stack([around(f) for f in steady_pan(a, b, rng)])


def picture_in_picture(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A small picture glides over the large one and back."""
    out, small = a.copy(), np.stack([cv2.resize(f, (WIDTH // 3, HEIGHT // 3), interpolation=cv2.INTER_AREA) for f in b])
    for t in range(len(a)):
        p = 0.5 - 0.5 * np.cos(t / len(a) * 4 * np.pi)
        x, y = round(p * (WIDTH - WIDTH // 3)), round(p * 0.5 * HEIGHT)
        out[t, y : y + HEIGHT // 3, x : x + WIDTH // 3] = small[t]
    return out


def lights(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """One side of a room is lit, in colour, and goes dark again."""
    x = np.linspace(0, 1, WIDTH)[None, None, :, None]
    lit = np.interp(np.arange(len(a)), [60, 75, 110, 140], [0, 1, 1, 0])[:, None, None, None]
    colour = rng.uniform(0.3, 1.8, 3)
    return (a * (1 + lit * (colour - 1) * (x if rng.random() < 0.5 else 1 - x))).clip(0, 255).astype(np.uint8)


def focus_pull(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Half of the picture gets out of focus as the other half gets in."""
    near = np.linspace(0, 1, WIDTH)[None, :, None] > rng.uniform(0.3, 0.7)
    out = []
    for frame, p in zip(a, np.interp(np.arange(len(a)), [70, 70 + int(rng.integers(10, 50))], [0, 1]), strict=True):
        first, second = (cv2.GaussianBlur(frame, (0, 0), 0.3 + 7 * q) for q in (p, 1 - p))
        out.append(np.where(near, first, second))
    return np.stack(out)


def shake(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A run with a camera in the hand."""
    steps = np.stack([np.convolve(rng.normal(0, 9, len(a) + 8), np.hanning(9) / 2, "valid") for _ in range(2)], 1)
    moved = [np.array([[1, 0, x], [0, 1, y]]) for x, y in steps]
    return np.stack(
        [cv2.warpAffine(f, m, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REFLECT) for f, m in zip(a, moved, strict=True)]
    )


def curtain(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A plain door shuts before two thirds of the view, and opens."""
    out, colour = a.copy(), rng.integers(20, 220, 3)
    for t, p in enumerate(np.interp(np.arange(len(a)), [50, 75, 120, 150], [0, 0.6, 0.6, 0])):
        out[t, :, : round(WIDTH * p)] = colour
    return out


def ripples(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Water below or beside what stands, for two seconds or longer: waves of many lengths, each at its own pace."""
    out = np.repeat(a[:1], len(a), 0)
    water = out[:, round(HEIGHT * rng.uniform(0.3, 0.55)) :] if rng.random() < 0.6 else out[:, :, : round(WIDTH * 0.55)]
    y, x = np.mgrid[: water.shape[1], : water.shape[2]].astype(np.float32)
    waves, t = np.zeros(water.shape[:3], np.float32), np.arange(len(a), dtype=np.float32)[:, None, None]
    length, pace = rng.uniform(12, 60), rng.uniform(0.03, 0.15)  # px; radians a frame
    for _ in range(24):
        way, phase = rng.uniform(0, 2 * np.pi, 2)
        crests = 2 * np.pi / (length * rng.uniform(0.4, 1.6)) * (np.cos(way) * x + np.sin(way) * y) + phase
        turn = np.float32(pace * rng.uniform(0.3, 1.7)) * t
        waves += np.cos(turn) * np.cos(crests) - np.sin(turn) * np.sin(crests)
    colours = b[0].reshape(-1, 3).mean(0), rng.uniform(8, 16, 3)
    water[:] = (colours[0] + waves[..., None] * colours[1]).clip(0, 255)
    return out[: 50 if rng.random() < 0.5 else len(out)]


def plain(a: np.ndarray, b: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    return a


def _over_panorama(a, b, rng, *, duration: int, distance: float, blur: bool) -> np.ndarray:  # type: ignore[no-untyped-def]
    """A camera moves over three widths made of one picture and another, each mirrored, so that nothing breaks off."""
    upright = rng.random() < 0.3
    axis, size = (0, HEIGHT) if upright else (1, WIDTH)
    big = [cv2.resize(f, (WIDTH * 2, HEIGHT * 2), interpolation=cv2.INTER_CUBIC) for f in (a[0], b[0])]
    wide = np.concatenate((big[0], np.flip(big[0], axis), big[0]), axis)
    distance = distance * size / WIDTH
    start = rng.uniform(0, max(1, wide.shape[axis] - size - distance))
    p = np.clip((np.arange(len(a)) - (len(a) - duration) / 2) / duration, 0, 1)
    at = start + distance * (p * p * (3 - 2 * p) if duration < len(a) else p)
    across = rng.uniform(0, wide.shape[1 - axis] - (HEIGHT + WIDTH - size))
    frames = []
    for t, along in enumerate(at):
        x, y = (across, along) if upright else (along, across)
        frame = cv2.getRectSubPix(wide, (WIDTH, HEIGHT), (x + WIDTH / 2, y + HEIGHT / 2))
        pace = round(abs(at[min(t + 1, len(at) - 1)] - at[max(t - 1, 0)]) / 4)
        if blur and pace > 1:
            frame = cv2.blur(frame, (1, pace) if upright else (pace, 1))
        frames.append(frame)
    return np.stack(frames)


def _text(rng: np.random.Generator, height: int, *, light: bool) -> np.ndarray:
    ground, ink = ((0, 0, 0), (230, 230, 230)) if light else ((250, 250, 250), (20, 20, 20))
    page = np.full((height, WIDTH, 3), ground, np.uint8)
    for y in range(10, height, 9):
        words = " ".join(
            "".join(rng.choice(list("abcdefghijklmnopqrs"), rng.integers(2, 9))) for _ in range(rng.integers(1, 6))
        )
        x = int(rng.integers(10, 80)) if light else 10
        cv2.putText(page, words, (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.27, ink, 1, cv2.LINE_AA)
    return page


def _window(page: np.ndarray, y: float) -> np.ndarray:
    y = min(y, len(page) - HEIGHT - 1)
    return cv2.getRectSubPix(page, (WIDTH, HEIGHT), (WIDTH / 2 - 0.5, y + HEIGHT / 2))


NEGATIVES: dict[str, Made] = {
    f.__name__: f
    for f in (
        whip_pan, pan_one_width, steady_pan, crossing, passer_by, parallax, fast_zoom, credits_roll, page_scroll,
        panel_slides, inset_moves, picture_in_picture, lights, focus_pull, shake, curtain, ripples, plain,
    )
}  # fmt: skip
