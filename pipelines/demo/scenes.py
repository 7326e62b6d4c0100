"""Moving pictures drawn by code. A scene is a function of time: seconds -> uint8 [H, W, 3] RGB, asked in any order."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np

Scene = Callable[[float], np.ndarray]
Color = Sequence[float]

MAX_S = 10.0  # a camera that pans has scenery for this long
CLOUD_SPEED = 8.0  # px per second


def landscape(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Hills in a haze; the camera tracks to the right, so that near hills pass faster than far ones."""
    sky = _gradient(width, height, (96, 150, 214), (250, 214, 170))
    _glow(sky, (0.72 * width, 0.36 * height), 0.07 * height, (255, 240, 200))
    layers = [(CLOUD_SPEED, _clouds(rng, width, height))]
    haze, near = _color(190, 178, 190), _color(38, 74, 40)
    for k, speed in enumerate((14, 28, 56, 112)):
        layers.append((speed, _hills(rng, width, height, speed, 0.5 + 0.13 * k, haze + (near - haze) * (k / 3))))

    def at(t: float) -> np.ndarray:
        picture = sky.copy()
        for speed, layer in layers:
            _lay_over(picture, _window(layer, speed * t, 0, width, len(layer)))
        return _uint8(picture)

    return at


def sea(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Waves under a low sun, a boat that bobs across; the camera stands."""
    horizon = int(0.42 * height)
    sky = _gradient(width, height, (52, 60, 110), (255, 158, 96))
    _glow(sky, (0.62 * width, horizon - 4), 0.09 * height, (255, 220, 150))
    y, x = np.mgrid[1 : height - horizon + 1, 0:width].astype(np.float32)
    depth = 900.0 / (y + 4)  # distance of the water in each row
    across = (x - width / 2) * depth / 60
    swell = [
        (0.11 * 1.45**k * (1.3 * depth + (k % 3 - 1) * across), phase)
        for k, phase in enumerate(rng.uniform(0, 2 * math.pi, 6))
    ]
    sun_path = np.exp(-(((x - 0.62 * width) / (14 + 0.55 * y)) ** 2))
    chop = cv2.resize(_noise(rng, 256, 512), (width * 2, height * 2))

    def at(t: float) -> np.ndarray:
        wave = np.zeros_like(depth)
        for k, (crests, phase) in enumerate(swell):
            wave += np.sin(crests + np.float32((1.1 + 0.5 * k) * t + phase)) / (1 + k)
        ripple = _window(chop, 30 * t % width, 18 * t % height, width, height - horizon)
        wave += 1.6 * (ripple - 0.5)
        light = np.clip(0.5 + 0.28 * wave, 0, 1)[..., None]
        water = _color(10, 34, 62) + light * _color(82, 94, 98)
        water += (sun_path * np.clip(wave, 0, 1.5))[..., None] * _color(190, 120, 60)
        picture = _uint8(np.concatenate([sky[:horizon], water]))
        _boat(picture, width * (0.15 + 0.05 * t), horizon + 5 + 2 * math.sin(2 * t), height / 270)
        return picture

    return at


def city_night(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Lit windows that go on and off, cars with headlights on the street; the camera stands."""
    street = _gradient(width, height, (8, 10, 28), (40, 34, 62))
    for sx, sy in rng.uniform((0, 0), (width, 0.5 * height), (90, 2)):
        cv2.circle(street, (int(sx), int(sy)), 0, (210, 210, 230), -1)
    windows = [w for depth in range(2) for w in _towers(rng, street, width, height, depth)]
    street[int(0.86 * height) :] = (30, 30, 36)
    cars = [(rng.uniform(0, 1), rng.uniform(0.10, 0.28), k % 2) for k in range(9)]
    lit = rng.uniform(0, 12, len(windows))

    def at(t: float) -> np.ndarray:
        picture = street.copy()
        for (x, y, w, h), phase in zip(windows, lit, strict=True):
            if (phase + 0.7 * t) % 12 > 6.5:
                picture[y : y + h, x : x + w] = (244, 204, 120)
        for start, speed, leftward in cars:
            along = (start + speed * t) % 1.2 - 0.1
            place = (1 - along if leftward else along) * width
            _car(picture, place, height * (0.90 if leftward else 0.955), height / 270, bool(leftward))
        return _uint8(picture)

    return at


def ferris_wheel(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Draw a wheel with coloured gondolas that turns before evening clouds."""
    sky = _gradient(width, height, (226, 132, 120), (250, 220, 190))
    cloud = _clouds(rng, width, height)
    colors = [tuple(int(v) for v in rng.integers(40, 230, 3)) for _ in range(12)]
    centre, radius = np.array((width / 2, 0.48 * height)), 0.40 * min(width, height)

    def at(t: float) -> np.ndarray:
        air = sky.copy()
        _lay_over(air, _window(cloud, CLOUD_SPEED * t, 0, width, height))
        picture = _uint8(air)
        for foot in (-0.45, 0.45):
            _line(picture, centre, centre + np.array((foot * radius, 1.35 * radius)), (70, 62, 80), 5)
        for rim in (1.0, 0.93):
            _disc(picture, centre, rim * radius, (90, 60, 84), 2)
        for k, color in enumerate(colors):
            angle = 2 * math.pi * k / len(colors) + 0.7 * t
            rim_at = centre + radius * np.array((math.cos(angle), math.sin(angle)))
            _line(picture, centre, rim_at, (104, 76, 96), 2)
            _disc(picture, rim_at + np.array((0, 0.06 * radius)), 0.085 * radius, color, -1)
        _disc(picture, centre, 0.07 * radius, (60, 50, 66), -1)
        return picture

    return at


def playroom(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Balls that bounce on a chequered floor; the camera stands."""
    room = _gradient(width, height, (238, 214, 176), (206, 176, 140))
    floor = int(0.55 * height)
    y, x = np.mgrid[1 : height - floor + 1, 0:width].astype(np.float32)
    squares = (np.floor((x - width / 2) / (y + 30) * 5) + np.floor(600 / (y + 30))) % 2
    room[floor:] = (
        np.where(squares[..., None] > 0, (150, 84, 60), (226, 202, 170)) * (0.6 + 0.4 * y / y.max())[..., None]
    )
    paper = _noise(rng, 24, 40)
    room *= (0.9 + 0.2 * cv2.resize(paper, (width, height)))[..., None]
    balls = [
        (rng.uniform(0, 1), rng.uniform(0.12, 0.35), rng.uniform(0.2, 0.45), rng.uniform(0.05, 0.09),
         tuple(int(v) for v in rng.integers(60, 240, 3)), 0.62 + 0.06 * k)
        for k in range(5)
    ]  # fmt: skip

    def at(t: float) -> np.ndarray:
        picture = _uint8(room)
        for start, speed, bounce, size, color, ground in balls:
            along = abs((start + speed * t) % 2 - 1)
            beat = (t * 0.9 + start) % 1
            ball_x, ground_y = width * (0.08 + 0.84 * along), height * (ground + 0.12)
            _shadow(picture, ball_x, ground_y, size * height * (1.2 - 0.5 * math.sin(math.pi * beat)))
            ball = np.array((ball_x, ground_y - size * height - bounce * height * 4 * beat * (1 - beat)))
            _ball(picture, ball, size * height, color)
        return picture

    return at


def aerial(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Fields from above, gliding by under clouds that drift across them."""
    wide, tall = int(width + 40 * MAX_S), int(height + 25 * MAX_S)
    fields = np.zeros((tall, wide, 3), np.float32)
    for fx in range(0, wide, 60):
        for fy in range(-int(rng.integers(0, 48)), tall, 48):
            color = _color(104, 128, 66) * rng.uniform(0.7, 1.3) + rng.integers(-18, 30, 3)
            fields[max(0, fy) : fy + 46, fx : fx + 58] = color
    stripes = 1 + 0.12 * np.sin(np.arange(wide) * 1.1)[None, :, None]
    fields *= stripes * (0.75 + 0.5 * cv2.resize(_noise(rng, 64, 96), (wide, tall)))[..., None]
    cloud = np.clip(2.6 * _noise(rng, tall, wide) - 1.25, 0, 0.92)

    def at(t: float) -> np.ndarray:
        ground = _window(fields, 38 * t, 22 * t, width, height)
        shade = _window(cloud, 24 * MAX_S - 24 * t, 12 * t, width, height)[..., None]
        return _uint8(ground * (1 - shade) + 246 * shade)

    return at


def forest(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Trunks and leaves; the camera pushes in, near trees grow faster than far ones."""
    back = _gradient(width, height, (150, 176, 120), (70, 84, 44))
    leaves = 0.7 + 0.6 * cv2.resize(_noise(rng, 128, 200), (width, height))
    back *= leaves[..., None]
    layers = [(0.06 * 1.9**k, _trunks(rng, width, height, k)) for k in range(3)]

    def at(t: float) -> np.ndarray:
        picture = back.copy()
        for speed, layer in layers:
            zoom = 1 + speed * t
            matrix = np.array([[zoom, 0, (1 - zoom) * width / 2], [0, zoom, (1 - zoom) * height / 2]], np.float64)
            _lay_over(picture, cv2.warpAffine(layer, matrix, (width, height)))
        return _uint8(picture)

    return at


def still_life(rng: np.random.Generator, width: int, height: int) -> Scene:
    """Fruit on a table; nothing moves and the camera stands."""
    picture = _gradient(width, height, (92, 84, 96), (150, 132, 120))
    table = int(0.68 * height)
    grain = cv2.resize(_noise(rng, 60, 6), (width, height - table))
    picture[table:] = _color(132, 86, 50) * (0.7 + 0.6 * grain)[..., None]
    still = _uint8(picture)
    fruit = ((0.36, 0.15, (220, 130, 30)), (0.53, 0.13, (190, 40, 40)), (0.67, 0.10, (120, 160, 50)))
    for x, size, color in fruit:
        _shadow(still, x * width, table + 0.15 * height, 1.1 * size * height)
        _ball(still, np.array((x * width, table + 0.15 * height - size * height)), size * height, color)
    return lambda t: still


# --- parts of scenes -------------------------------------------------------------------------------------------------


def _noise(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Detail at many sizes, float32 [H, W] from 0 to 1."""
    total = np.zeros((height, width), np.float32)
    for k in range(6):
        grid = rng.random((3 * 2**k + 1, 4 * 2**k + 1), dtype=np.float32)
        total += cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC) * 0.6**k
    return (total - total.min()) / np.ptp(total)


def _gradient(width: int, height: int, top: Color, bottom: Color) -> np.ndarray:
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    column = np.array(top, np.float32) * (1 - down) + np.array(bottom, np.float32) * down
    return np.repeat(column, width, axis=1).astype(np.float32)


def _glow(picture: np.ndarray, at: tuple[float, float], radius: float, color: Color) -> None:
    y, x = np.mgrid[0 : picture.shape[0], 0 : picture.shape[1]].astype(np.float32)
    distance = np.hypot(x - at[0], y - at[1]) / radius
    light = np.where(distance < 1, 1, np.exp(1 - distance) * 0.7)[..., None]
    picture += (np.array(color, np.float32) - picture) * light


def _clouds(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    wide = int(width + CLOUD_SPEED * MAX_S) + 2
    opacity = np.clip(2.4 * _noise(rng, height, wide) - 1.15, 0, 0.85) * np.linspace(1, 0, height)[:, None]
    return _layer(_color(250, 250, 250), opacity)


def _hills(
    rng: np.random.Generator, width: int, height: int, speed: float, top: float, color: np.ndarray
) -> np.ndarray:
    """Draw a ridge, as the lowest rows of the picture that it reaches into.

    `speed` in px per second decides its width.
    """
    wide = int(width + speed * MAX_S) + 2
    crest = height * (top + 0.16 * (_noise(rng, 2, wide)[0] - 0.5) + 0.03 * _noise(rng, 2, wide * 6)[0][:wide])
    first = int(crest.min())
    below = np.arange(first, height)[:, None] - crest[None, :]
    texture = 0.72 + 0.56 * _noise(rng, height, wide)[first:]
    return _layer(color * texture[..., None], np.clip(below + 0.5, 0, 1))


def _trunks(rng: np.random.Generator, width: int, height: int, depth: int) -> np.ndarray:
    opacity = np.zeros((height, width), np.float32)
    for x in rng.uniform(-0.05, 1.05, 12 - 3 * depth) * width:
        thick = (6 + 9 * depth) * width / 480
        foot = x + rng.uniform(-10, 10)
        corners = [(x - thick / 2, 0), (x + thick / 2, 0), (foot + 0.8 * thick, height), (foot - 0.8 * thick, height)]
        cv2.fillPoly(opacity, [np.array(corners, np.int32)], 1.0, cv2.LINE_AA)
    bark = _color(60, 44, 30) * (1.5 - 0.4 * depth) * (0.5 + _noise(rng, height, width))[..., None]
    return _layer(bark, np.clip(opacity, 0, 1))


def _towers(
    rng: np.random.Generator, picture: np.ndarray, width: int, height: int, depth: int
) -> list[tuple[int, int, int, int]]:
    """Draw a row of towers; returns where their windows are: x, y, width, height."""
    windows, x, pitch = [], -10, max(5, height // (45 - 12 * depth))
    while x < width:
        wide = int(rng.integers(6, 12) * pitch)
        top = int(height * rng.uniform(0.22 + 0.24 * depth, 0.5 + 0.2 * depth))
        picture[top:, max(0, x) : max(0, x + wide)] = _color(26, 26, 44) + (1 - depth) * 14
        for wx in range(x + pitch, x + wide - pitch, pitch):
            windows += [(wx, wy, pitch // 2, pitch // 2) for wy in range(top + pitch, int(0.84 * height), 2 * pitch)]
        x += wide + int(rng.integers(0, 3 * pitch))
    return [w for w in windows if w[0] >= 0 and rng.random() < 0.6 + 0.3 * depth]


def _layer(color: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """float32 [H, W, 4]: colour times opacity, and opacity 0 to 1."""
    return np.dstack([color * opacity[..., None], opacity]).astype(np.float32)


def _lay_over(picture: np.ndarray, layer: np.ndarray) -> None:
    """Put a layer over the lowest rows of a picture, float32 [H, W, 3]."""
    rows = picture[-len(layer) :]
    rows *= cv2.cvtColor(1 - layer[..., 3], cv2.COLOR_GRAY2RGB)
    rows += cv2.cvtColor(layer, cv2.COLOR_RGBA2RGB)


def _window(picture: np.ndarray, x: float, y: float, width: int, height: int) -> np.ndarray:
    """`width` x `height` of a larger picture from (x, y) on, at sub-pixel places."""
    place = np.array([[1, 0, -x], [0, 1, -y]], np.float64)
    return cv2.warpAffine(picture, place, (width, height), borderMode=cv2.BORDER_REFLECT)


def _color(red: float, green: float, blue: float) -> np.ndarray:
    return np.array((red, green, blue), np.float32)


def _uint8(picture: np.ndarray) -> np.ndarray:
    return np.clip(picture, 0, 255).astype(np.uint8)


def _point(at: Any) -> tuple[int, int]:
    return round(16 * float(at[0])), round(16 * float(at[1]))  # 4 fractional bits, so that slow things move smoothly


def _line(picture: np.ndarray, start: Any, end: Any, color: Color, thickness: int) -> None:
    cv2.line(picture, _point(start), _point(end), color, thickness, cv2.LINE_AA, 4)


def _disc(picture: np.ndarray, at: Any, radius: float, color: Color, thickness: int) -> None:
    cv2.circle(picture, _point(at), round(16 * radius), color, thickness, cv2.LINE_AA, 4)


def _ball(picture: np.ndarray, at: Any, radius: float, color: Color) -> None:
    for k in range(8):  # lighter towards a point up and to the left
        share = 1 - k / 9
        offset = np.array((-0.28, -0.30)) * radius * (1 - share)
        _disc(picture, at + offset, radius * share, [min(255, c * (0.62 + 0.09 * k)) for c in color], -1)


def _shadow(picture: np.ndarray, x: float, y: float, radius: float) -> None:
    reach = int(1.4 * radius) + 4
    left, top = max(0, int(x) - reach), max(0, int(y) - reach // 3)
    part = picture[top : int(y) + reach // 3, left : int(x) + reach]
    mask = np.zeros(part.shape[:2], np.float32)
    axes = (int(radius), max(1, int(radius / 4)))
    cv2.ellipse(mask, (int(x) - left, int(y) - top), axes, 0, 0, 360, 1.0, -1, cv2.LINE_AA)
    part[:] = _uint8(part * (1 - 0.45 * cv2.GaussianBlur(mask, (0, 0), 3))[..., None])


def _boat(picture: np.ndarray, x: float, y: float, scale: float) -> None:
    hull = np.array([(-22, 0), (22, 0), (15, 9), (-15, 9)]) * scale + (x, y)
    sail = np.array([(0, -3), (0, -38), (20, -5)]) * scale + (x, y)
    cv2.fillPoly(picture, [np.round(16 * hull).astype(np.int32)], (44, 28, 30), cv2.LINE_AA, 4)
    cv2.fillPoly(picture, [np.round(16 * sail).astype(np.int32)], (246, 226, 206), cv2.LINE_AA, 4)


def _car(picture: np.ndarray, x: float, y: float, scale: float, leftward: bool) -> None:
    forward = -1 if leftward else 1
    body = np.array([(-16, 0), (-14, -7), (-6, -8), (-3, -12), (8, -12), (11, -8), (16, -6), (16, 0)]) * (forward, 1)
    cv2.fillPoly(picture, [np.round(16 * (body * scale + (x, y))).astype(np.int32)], (70, 66, 84), cv2.LINE_AA, 4)
    _disc(picture, (x + forward * 16 * scale, y - 4 * scale), 2.6 * scale, (255, 250, 214), -1)
    _disc(picture, (x - forward * 16 * scale, y - 4 * scale), 1.8 * scale, (240, 40, 40), -1)
