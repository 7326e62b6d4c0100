"""Contact sheets: clips as pictures that a person can judge at a glance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.frames import ClipFacts, Frames, read

PAPER, INK = 24, (225, 225, 225)  # grey level between tiles, colour of the text there
GAP, LABEL_HEIGHT = 6, 22  # px
WIDEST = 4  # widths a tile may have in heights: a ribbon-shaped clip must not make a sheet of 10,000 px


@dataclass(frozen=True)
class Ends(Frames):
    """First, middle and last frame: whether a clip begins and ends where its shot does."""

    def indices(self, num_frames: int, fps: float) -> list[int]:
        """Return the first, the middle and the last frame."""
        return sorted({0, num_frames // 2, num_frames - 1})


def clip_sheet(mp4: bytes, columns: int = 4, rows: int = 3, tile_height: int = 135) -> bytes:
    """PNG of frames spread evenly over a clip, in reading order, each with its time in seconds drawn in.

    Raises MediaError when the bytes do not decode.
    """
    need = Frames(count=columns * rows, color="rgb")
    facts, tiles = _tiles(mp4, need, tile_height)
    seconds = [i / facts.fps for i in need.indices(facts.num_frames, facts.fps)]
    for tile, at_s in zip(tiles, seconds, strict=True):
        _stamp(tile, f"{at_s:.2f} s")
    return to_png(_grid([tiles[i : i + columns] for i in range(0, len(tiles), columns)]))


def clips_sheet(clips: Iterable[tuple[str, bytes]], columns: int = 2, tile_height: int = 90) -> bytes:
    """PNG of many clips, `columns` side by side: label, first, middle and last frame. clips: (label, mp4).

    A clip that does not decode is shown as a crossed-out tile.
    """
    cells = [_labelled(strip(mp4, tile_height), label) for label, mp4 in clips]
    if not cells:
        return to_png(np.full((tile_height, WIDEST * tile_height, 3), PAPER, np.uint8))
    return to_png(_grid([cells[i : i + columns] for i in range(0, len(cells), columns)]))


def labelled_grid(rows: Sequence[Sequence[tuple[str, np.ndarray]]]) -> bytes:
    """PNG of pictures in rows, uint8 [H, W, 3] RGB, each under its label."""
    return to_png(_grid([[_labelled(picture, label) for label, picture in row] for row in rows]))


def strip(mp4: bytes, tile_height: int) -> np.ndarray:
    """First, middle and last frame side by side, uint8 [H, W, 3] RGB; a crossed-out tile where they do not decode."""
    try:
        _, tiles = _tiles(mp4, Ends(count=3, color="rgb"), tile_height)
    except MediaError:
        return crossed_out(tile_height)
    seam = np.full((tile_height, 2, 3), PAPER, np.uint8)
    return np.hstack([part for tile in tiles for part in (seam, tile)][1:])


def middle_frame(mp4: bytes, tile_height: int) -> np.ndarray:
    """Middle frame of a video, uint8 [H, W, 3] RGB. Raises MediaError when the bytes do not decode."""
    return _tiles(mp4, Frames(count=1, color="rgb"), tile_height)[1][0]


def crossed_out(tile_height: int) -> np.ndarray:
    """Draw the tile of a clip that does not decode: uint8 [H, W, 3] RGB, 16:9."""
    import cv2

    tile = np.full((tile_height, tile_height * 16 // 9, 3), 70, np.uint8)
    corner = (tile.shape[1] - 1, tile_height - 1)
    cv2.line(tile, (0, 0), corner, (150, 60, 60), 2, cv2.LINE_AA)
    cv2.line(tile, (corner[0], 0), (0, corner[1]), (150, 60, 60), 2, cv2.LINE_AA)
    return tile


def to_png(picture: np.ndarray) -> bytes:
    """uint8 [H, W, 3] RGB as a PNG file."""
    import cv2

    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


def to_jpeg(picture: np.ndarray, quality: int) -> bytes:
    """uint8 [H, W, 3] RGB as a JPEG file. quality: 0 to 100."""
    import cv2

    options = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), options)[1].tobytes()


# --- drawing ---------------------------------------------------------------------------------------------------------


def _tiles(mp4: bytes, need: Frames, tile_height: int) -> tuple[ClipFacts, list[np.ndarray]]:
    """Return the frames that are needed, each `tile_height` high."""
    import cv2

    size, _ = read(mp4)
    shorter = max(1, round(tile_height * min(size.width, size.height) / size.height))
    facts, (frames,) = read(mp4, [replace(need, height=shorter)])
    width = min(WIDEST * tile_height, max(1, round(tile_height * facts.width / facts.height)))
    return facts, [cv2.resize(frame, (width, tile_height), interpolation=cv2.INTER_AREA) for frame in frames]


def _stamp(tile: np.ndarray, text: str) -> None:
    """Write into the lower left corner, light on dark, as large as fits."""
    import cv2

    font, scale = cv2.FONT_HERSHEY_SIMPLEX, min(0.42, tile.shape[1] / 130)
    (width, height), _ = cv2.getTextSize(text, font, scale, 1)
    bottom = tile.shape[0]
    cv2.rectangle(tile, (0, bottom - height - 8), (width + 8, bottom), (0, 0, 0), -1)
    cv2.putText(tile, text, (4, bottom - 4), font, scale, (255, 255, 255), 1, cv2.LINE_AA)


def _labelled(picture: np.ndarray, label: str) -> np.ndarray:
    import cv2

    band = np.full((LABEL_HEIGHT, picture.shape[1], 3), PAPER, np.uint8)
    text = label.encode("ascii", "replace").decode()  # what OpenCV's letters can write
    cv2.putText(band, text, (1, LABEL_HEIGHT - 7), cv2.FONT_HERSHEY_SIMPLEX, 0.42, INK, 1, cv2.LINE_AA)
    return np.vstack([band, picture])


def _grid(rows: Sequence[Sequence[np.ndarray]]) -> np.ndarray:
    """Pictures in rows, each in a cell as large as the largest of them, with paper between."""
    height = max(p.shape[0] for row in rows for p in row)
    width = max(p.shape[1] for row in rows for p in row)
    across = max(len(row) for row in rows)
    sheet = np.full((GAP + len(rows) * (height + GAP), GAP + across * (width + GAP), 3), PAPER, np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            y, x = GAP + r * (height + GAP), GAP + c * (width + GAP)
            sheet[y : y + picture.shape[0], x : x + picture.shape[1]] = picture
    return sheet
