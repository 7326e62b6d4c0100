"""Contact sheets: clips as pictures that a person can judge at a glance, and `reel show CLIP`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.frames import ClipFacts, Frames, read
from reelwright.curation.store import Store, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable

PAPER, INK = 24, (225, 225, 225)  # grey level between tiles, colour of the text there
GAP, LABEL_HEIGHT = 6, 22  # px
WIDEST = 4  # widths a tile may have in heights: a ribbon-shaped clip must not make a sheet of 10,000 px
LOOK_ALIKES = 4


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


def samples_sheet(run: Path, most: int = 8, tile_height: int = 135) -> bytes | None:
    """PNG of a training run's samples: one row per prompt, one column per step; None where the run has none.

    Args:
        run: its folder, with samples/step-…/0.mp4 and so on.
        most: columns, of steps spread evenly, the first and the last among them.
        tile_height: of each video's middle frame, px.
    """
    steps = sorted(path for path in (run / "samples").glob("step-*") if path.is_dir())
    chosen = [steps[i] for i in sorted({round(x) for x in np.linspace(0, len(steps) - 1, min(most, len(steps)))})]
    names = sorted({file.name for step in chosen for file in step.glob("*.*")}, key=lambda name: (len(name), name))
    if not names:
        return None
    rows = [
        [_labelled(_middle(step / name, tile_height), f"step {int(step.name[5:])}") for step in chosen]
        for name in names
    ]  # fmt: skip
    return to_png(_grid(rows))


def labelled_grid(rows: Sequence[Sequence[tuple[str, np.ndarray]]]) -> bytes:
    """PNG of pictures in rows, uint8 [H, W, 3] RGB, each under its label."""
    return to_png(_grid([[_labelled(picture, label) for label, picture in row] for row in rows]))


def _middle(file: Path, tile_height: int) -> np.ndarray:
    """Middle frame of a sample; a crossed-out tile where there is none."""
    import cv2

    try:
        if file.suffix != ".png":
            return _tiles(file.read_bytes(), Frames(count=1, color="rgb"), tile_height)[1][0]
        picture = cv2.cvtColor(cv2.imread(str(file)), cv2.COLOR_BGR2RGB)
        width = max(1, round(tile_height * picture.shape[1] / picture.shape[0]))
        return cv2.resize(picture, (width, tile_height), interpolation=cv2.INTER_AREA)
    except (MediaError, OSError, cv2.error):
        return _crossed_out(tile_height)


def strip(mp4: bytes, tile_height: int) -> np.ndarray:
    """First, middle and last frame side by side, uint8 [H, W, 3] RGB; a crossed-out tile where they do not decode."""
    try:
        _, tiles = _tiles(mp4, Ends(count=3, color="rgb"), tile_height)
    except MediaError:
        return _crossed_out(tile_height)
    seam = np.full((tile_height, 2, 3), PAPER, np.uint8)
    return np.hstack([part for tile in tiles for part in (seam, tile)][1:])


def clip_row(store: Store, clip_id: str) -> dict[str, Any]:
    """Return the clip's row, with the uri and more of its source."""
    return store.sql("SELECT * FROM clips_full WHERE clip_id = ?", params=[clip_id]).to_pylist()[0]


def write_sheet(store: Store, clip_id: str, out: Path) -> Path:
    """Write a contact sheet of one clip (PNG). Raises StoreError."""
    try:
        png = clip_sheet(_mp4(store, clip_id))
    except MediaError as error:
        raise StoreError(f"clip {clip_id} cannot be shown: {error.message}; curate its source again.") from error
    write_whole(out, png)
    return out


def write_clip(store: Store, clip_id: str, out: Path) -> Path:
    """Write the mp4 of one clip, byte by byte as it is stored. Raises StoreError."""
    write_whole(out, _mp4(store, clip_id))
    return out


def _mp4(store: Store, clip_id: str) -> bytes:
    _, mp4 = next(store.read_media([clip_id]))
    return mp4


def find_clip(store: Store, prefix: str) -> str:
    """Return the clip with this id, or with an id that begins so.

    Raises:
        StoreError: there is none, or there are several.
    """
    wanted = prefix.strip().lower()
    query = f"SELECT clip_id FROM clips WHERE starts_with(clip_id, $p) ORDER BY clip_id LIMIT {LOOK_ALIKES + 1}"
    found = store.sql(query, params={"p": wanted}).column(0).to_pylist() if wanted else []
    if len(found) == 1 or wanted in found:
        return found[0]
    if found:
        more = ", …" if len(found) > LOOK_ALIKES else ""
        raise StoreError(
            f"{prefix!r} begins the ids of several clips: {', '.join(found[:LOOK_ALIKES])}{more}; give more of it."
        )
    see = 'See: reel sql "select clip_id from clips"'
    raise StoreError(f"no clip's id begins with {prefix!r}{_alike(store, wanted)}. {see}")


def _alike(store: Store, wanted: str) -> str:
    """Return the ids that differ from a typed one in few characters."""
    query = (
        "SELECT clip_id, levenshtein(clip_id[:length($p)], $p) AS off FROM clips "
        f"WHERE off <= length($p) // 3 ORDER BY off, clip_id LIMIT {LOOK_ALIKES}"
    )
    found = store.sql(query, params={"p": wanted}).column(0).to_pylist() if wanted else []
    return f"; ids that look alike: {', '.join(found)}" if found else ""


def write_whole(out: Path, data: bytes) -> None:
    """Write a file that appears under its name only once it is whole. Raises StoreError."""
    begun = out.with_name(f".{out.name}.{os.getpid()}.part")
    try:
        begun.write_bytes(data)
        begun.replace(out)
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror or error}; choose a folder you can write.") from error
    finally:
        begun.unlink(missing_ok=True)


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
    from dataclasses import replace

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


def _crossed_out(tile_height: int) -> np.ndarray:
    import cv2

    tile = np.full((tile_height, tile_height * 16 // 9, 3), 70, np.uint8)
    corner = (tile.shape[1] - 1, tile_height - 1)
    cv2.line(tile, (0, 0), corner, (150, 60, 60), 2, cv2.LINE_AA)
    cv2.line(tile, (corner[0], 0), (0, corner[1]), (150, 60, 60), 2, cv2.LINE_AA)
    return tile


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
