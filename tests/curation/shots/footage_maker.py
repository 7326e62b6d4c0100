"""Moving pictures made from nothing, with transitions at frames known by construction."""

from __future__ import annotations

import numpy as np

HEIGHT, WIDTH = 54, 96


def scene(seed: int, num_frames: int, *, speed: float = 0.4, brightness: float = 1.0) -> np.ndarray:
    """A textured picture that drifts by `speed` pixels a frame in its own direction: float32 [T, 54, 96, 3]."""
    rng = np.random.default_rng(seed)
    size = 160
    down, across = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)
    falloff = 1 / (0.03 + np.hypot(down, across)) ** 1.4  # natural pictures fall off like this
    noise = rng.normal(size=(size, size, 3)).transpose(2, 0, 1)
    picture = np.fft.irfft2(np.fft.rfft2(noise) * falloff)
    picture = 128 + 50 * (picture - picture.mean((1, 2), keepdims=True)) / picture.std((1, 2), keepdims=True)
    spectrum = np.fft.rfft2(picture.astype(np.float32))
    angle = rng.uniform(0, 2 * np.pi)
    frames = np.empty((num_frames, HEIGHT, WIDTH, 3), np.float32)
    for t in range(num_frames):
        y, x = speed * t * np.sin(angle), speed * t * np.cos(angle)
        phase = (np.exp(2j * np.pi * down * y) * np.exp(2j * np.pi * across * x)).astype(np.complex64)
        moved = np.fft.irfft2(spectrum * phase)[:, 20 : 20 + HEIGHT, 20 : 20 + WIDTH]
        frames[t] = moved.transpose(1, 2, 0)
    return (frames * brightness).clip(0, 255)


def crossing(num_frames: int, *, size: int, speed: float, drift: float) -> np.ndarray:
    """Bare ground that a textured thing crosses from left to right, entering at frame 20: float32 [T, 54, 96, 3].

    size: its height in pixels; half as wide again. drift: exposure at the end, in times that at the beginning.
    """
    frames = np.full((num_frames, HEIGHT, WIDTH, 3), (112, 110, 105), np.float32)
    frames += np.linspace(-12, 12, WIDTH, dtype=np.float32)[:, None]
    thing = scene(40, 1)[0][:size, : size + size // 2]
    top = (HEIGHT - size) // 2
    for t in range(num_frames):
        left = round((t - 20) * speed) - thing.shape[1]
        shown = slice(max(0, left), min(WIDTH, left + thing.shape[1]))
        if shown.stop > shown.start:
            frames[t, top : top + size, shown] = thing[:, shown.start - left : shown.stop - left]
    return frames * np.linspace(1, drift, num_frames, dtype=np.float32)[:, None, None, None]


def turning_head(seed: int, num_frames: int, *, start: int, pace: float) -> np.ndarray:
    """A head that fills four fifths of the width and turns from frame `start` on, before a view that drifts slowly:
    float32 [T, 54, 96, 3]. pace: pixels a frame by which its skin moves."""
    skin = scene(seed, 1)[0]
    around = np.concatenate((skin, skin[:, ::-1]) * 2, 1)
    frames = scene(seed + 50, num_frames, speed=0.05)
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    for t in range(num_frames):
        turn = max(0, t - start) * pace
        across = (x - WIDTH / 2 - turn / 4) / (WIDTH * 0.4)
        inside = across**2 + ((y - HEIGHT * 0.55) / (HEIGHT * 0.6)) ** 2 < 1
        at = WIDTH + np.arcsin(across.clip(-1, 1)) / np.pi * WIDTH + turn
        frames[t][inside] = around[y, at.astype(int) % around.shape[1]][inside]
    return frames


def to_frames(frames: np.ndarray, *, noise: float = 1.0) -> np.ndarray:
    """float [T, H, W, 3] -> uint8, with a camera's noise."""
    grain = np.random.default_rng(0).normal(0, noise, frames.shape).astype(np.float32)
    return (frames + grain).round().clip(0, 255).astype(np.uint8)


def join(a: np.ndarray, b: np.ndarray, at: int, length: int, kind: str) -> np.ndarray:
    """Shot a up to frame `at`, then b; the frames [at, at + length) mix both. a, b: [T, H, W, 3] of one length."""
    out = np.concatenate((a[:at], b[at:]))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    position = {
        "wipe_left": 1 - (x + 0.5) / WIDTH,
        "wipe_right": (x + 0.5) / WIDTH,
        "wipe_down": (y + 0.5) / HEIGHT,
        "wipe_up": 1 - (y + 0.5) / HEIGHT,
        "iris": np.hypot(x / WIDTH - 0.5, y / HEIGHT - 0.5) / 0.7071,
    }
    for t in range(at, at + length):
        share = (t - at + 1) / (length + 1)
        if kind == "dissolve":
            out[t] = a[t] * (1 - share) + b[t] * share
        elif kind.startswith("fade"):
            through = 0.0 if kind == "fade_black" else 255.0
            shown = a[t] if share < 0.5 else b[t]
            out[t] = shown + (through - shown) * (1 - abs(2 * share - 1))
        else:
            out[t] = np.where((position[kind] < share)[..., None], b[t], a[t])
    return out


def close_up(frames: np.ndarray) -> np.ndarray:
    """A quarter of the picture, enlarged: coarser, as most pictures are at this size."""
    return frames[:, : HEIGHT // 2, : WIDTH // 2].repeat(2, 1).repeat(2, 2)


def slide(a: np.ndarray, b: np.ndarray, at: int, length: int, kind: str, way: str) -> np.ndarray:
    """Shot a, then b, between which `length` frames from `at` on push, cover, uncover or squeeze. a, b as in `join`."""
    out = np.concatenate((a[:at], b[at:]))
    for t in range(at, at + length):
        share = (t - at + 1) / (length + 1)
        old, new = _turned(a[t], way), _turned(b[t], way)
        width = old.shape[1]
        entered = round(width * share)
        if kind == "squeeze":
            left = old[:, np.linspace(0, width - 1, width - entered).round().astype(int)]
            right = new[:, np.linspace(0, width - 1, entered).round().astype(int)]
        else:
            left = old[:, entered:] if kind in ("push", "uncover") else old[:, : width - entered]
            right = new[:, :entered] if kind in ("push", "cover") else new[:, width - entered :]
        out[t] = _turned_back(np.concatenate((left, right), 1), way)
    return out


def _turned(frame: np.ndarray, way: str) -> np.ndarray:
    """What moves to `way`, seen as if it moved to the left."""
    frame = frame.transpose(1, 0, 2) if way in ("up", "down") else frame
    return frame[:, ::-1] if way in ("right", "down") else frame


def _turned_back(frame: np.ndarray, way: str) -> np.ndarray:
    frame = frame[:, ::-1] if way in ("right", "down") else frame
    return frame.transpose(1, 0, 2) if way in ("up", "down") else frame


def blotches(a: np.ndarray, b: np.ndarray, at: int, length: int) -> np.ndarray:
    """Shot a, then b, between which ink spreads: places change one after the other, nowhere in order."""
    order = scene(99, 1)[0, ..., 0]
    rank = order.reshape(-1).argsort().argsort().reshape(order.shape) / order.size
    out = np.concatenate((a[:at], b[at:]))
    for t in range(at, at + length):
        out[t] = np.where((rank < (t - at + 1) / (length + 1))[..., None], b[t], a[t])
    return out


def in_studio(frames: np.ndarray) -> np.ndarray:
    """Frames within a window of three quarters of the picture each way; what is around it stays."""
    out = np.repeat(scene(98, 1), len(frames), 0)
    out[:, 2:44, 4:78] = frames[:, :42, :74]
    return out
