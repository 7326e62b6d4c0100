"""Pictures of the policies: what they make of the same noises, and how their rewards went."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from reelwright.training.logs import read_log

FRAME, SCALE = 4, 2  # the middle frame, twice its size
WIDTH, HEIGHT, MARGIN = 460, 320, 40
COLOURS = ((180, 90, 20), (30, 110, 230), (60, 150, 40), (60, 60, 200), (150, 60, 150), (90, 90, 90))  # BGR
CURVES = ("caption", "sharpness", "colourfulness", "smoothness")


def write_sheet(path: Path, files: Sequence[Path]) -> None:
    """Write the middle frames of evaluations, a row each, from the same noises; two of every prompt."""
    rows = []
    for file in (f for f in files if f.exists()):
        videos = np.load(file)[::2, FRAME]
        rows.append(np.concatenate(list(videos), 1))
    picture = np.concatenate(rows, 0).repeat(SCALE, 0).repeat(SCALE, 1)
    cv2.imwrite(str(path), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))


def write_plot(path: Path, folder: Path, updates: int, seeds: int, variants: Sequence[str]) -> None:
    """Write the rewards' curves: means over seeds of running means of nine updates, a picture per reward."""
    pictures = []
    for reward in CURVES:
        curves = {}
        for variant in variants:
            found = [_curve(folder / f"seed-{seed}-{updates}" / variant, reward) for seed in range(seeds)]
            if there := [curve for curve in found if len(curve)]:
                curves[variant] = np.mean(there, 0)
        if curves:
            pictures.append(_drawn(reward, curves))
    if pictures:
        cv2.imwrite(str(path), np.concatenate(pictures, 1))


def _drawn(title: str, curves: dict[str, np.ndarray]) -> np.ndarray:
    """Draw curves over their common range, BGR [H, W, 3]."""
    picture = np.full((HEIGHT, WIDTH, 3), 255, np.uint8)
    low, high = (float(of(np.concatenate(list(curves.values())))) for of in (np.min, np.max))
    span = max(high - low, 1e-9)
    for number, (name, curve) in enumerate(curves.items()):
        x = MARGIN + np.arange(len(curve)) * (WIDTH - 2 * MARGIN) / max(1, len(curve) - 1)
        y = HEIGHT - MARGIN - (curve - low) / span * (HEIGHT - 2 * MARGIN)
        points = np.stack([x, y], 1).round().astype(np.int32)
        cv2.polylines(picture, [points], False, COLOURS[number % len(COLOURS)], 2, cv2.LINE_AA)
        _write(picture, name, (MARGIN + 6, MARGIN + 14 + 14 * number), COLOURS[number % len(COLOURS)])
    cv2.rectangle(picture, (MARGIN, MARGIN), (WIDTH - MARGIN, HEIGHT - MARGIN), (160, 160, 160), 1)
    _write(picture, title, (MARGIN, 24), (0, 0, 0))
    _write(picture, f"{high:.3g}", (2, MARGIN + 10), (0, 0, 0))
    _write(picture, f"{low:.3g}", (2, HEIGHT - MARGIN), (0, 0, 0))
    return picture


def _write(picture: np.ndarray, text: str, at: tuple[int, int], colour: tuple[int, int, int]) -> None:
    cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, colour, 1, cv2.LINE_AA)


def _curve(folder: Path, reward: str) -> np.ndarray:
    rows = [row for row in read_log(folder) if "loss" in row] if folder.exists() else []
    values = [row.get(f"reward/{reward}", row.get(f"held_out/{reward}")) for row in rows]
    return np.convolve(values, np.ones(9) / 9, "valid") if len(values) >= 9 else np.empty(0)
