"""A small set of footage, drawn and encoded in seconds, with the cases that a curation pipeline must tell apart.

Its files (24 frames per second and 480x270 unless stated):

| file | content |
|---|---|
| a film of the coast and the city.mp4 | with sound; six shots of 72, 60, 60, 72, 60, 60 frames: hills, cut, city at
  night, cut, Ferris wheel, dissolve over 18 frames, sea, fade through black over 24 frames, fields from above, cut,
  forest. A dissolve's frames belong to both shots, so the film has 384 - 18 = 366 frames |
| balls in the playroom, letterboxed.mp4 | 640x360 at 30 frames per second; the picture is 640x268, between black bars |
| fishing boat at sunset.mp4 | one shot of the sea |
| sunset with a boat, downloaded twice.mp4 | the same bytes again |
| forest walk out of focus.mp4 | one shot, blurred |
| fruit on a table.mp4 | one shot in which nothing moves |
| flight over fields with subtitles.mp4 | one shot with two lines of burned-in text, one after the other |
| wheel filmed upright on a phone.mp4 | stored lying, 480x270, with the mark to turn it by 90 degrees: 270x480 upright |
| interrupted download.mp4 | the first two thirds of a file whose index comes last: nothing in it can be read |
| shooting notes.mp4 | text, no video |
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from reelwright.pipelines.demo import scenes
from reelwright.pipelines.demo.scenes import Scene

WIDTH, HEIGHT, FPS = 480, 270, 24
SOUND_HZ = 44_100
GRAIN_LEVELS = 1.2  # standard deviation of the camera's noise
GRAIN_ROOM = 64  # px
QUARTER_TURN = (
    0,
    65536,
    0,
    -65536,
    0,
    0,
    0,
    0,
    0x40000000,
)  # an mp4 track's display matrix, 16.16 and 2.30 fixed point

X264 = {"crf": "20", "preset": "veryfast", "threads": "1", "x264-params": "mbtree=0"}
"""On CPUs with AVX-512, x264's mbtree comes out a little different each time, on one thread too (seen with PyAV 18)."""

Maker = Callable[[np.random.Generator, int, int], Scene]

FILM: tuple[tuple[Maker, int, str, int], ...] = (  # scene, frames, how it begins, frames of that transition
    (scenes.landscape, 72, "start", 0),
    (scenes.city_night, 60, "cut", 0),
    (scenes.ferris_wheel, 60, "cut", 0),
    (scenes.sea, 72, "dissolve", 18),
    (scenes.aerial, 60, "fade", 24),
    (scenes.forest, 60, "cut", 0),
)


def make_footage(folder: Path, seed: int = 0) -> list[Path]:
    """Write the files into `folder` (made if missing) and return their paths, sorted; the same bytes for one seed."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, write) in enumerate(FILES.items()):
        with tempfile.TemporaryDirectory(dir=folder, prefix=".making-") as making:  # a file appears whole or not at all
            made = Path(making) / "made.mp4"
            write(made, np.random.default_rng([seed, number]))
            made.replace(folder / name)
    shutil.copyfile(folder / ORIGINAL, folder / COPY)
    return sorted(folder / name for name in [*FILES, COPY])


def _film(path: Path, rng: np.random.Generator) -> None:
    frames = list(_edited(rng))
    _encode(path, _grainy(frames, rng), sound_s=len(frames) / FPS)


def _letterboxed(path: Path, rng: np.random.Generator) -> None:
    scene = scenes.playroom(rng, 640, 268)
    bars = ((46, 46), (0, 0), (0, 0))
    inside = _grainy((scene(i / 30) for i in range(90)), rng)
    _encode(path, (np.pad(frame, bars) for frame in inside), fps=30)


def _boat(path: Path, rng: np.random.Generator) -> None:
    _encode(path, _grainy(_shot(scenes.sea(rng, WIDTH, HEIGHT), 72), rng))


def _out_of_focus(path: Path, rng: np.random.Generator) -> None:
    import cv2

    frames = _shot(scenes.forest(rng, WIDTH, HEIGHT), 72)
    _encode(path, (cv2.GaussianBlur(frame, (0, 0), 6) for frame in frames))


def _still(path: Path, rng: np.random.Generator) -> None:
    _encode(path, _shot(scenes.still_life(rng, WIDTH, HEIGHT), 60))


def _subtitled(path: Path, rng: np.random.Generator) -> None:
    frames = _shot(scenes.aerial(rng, WIDTH, HEIGHT), 72)
    lines = ("We left before sunrise,", "and the fields were still asleep.")
    _encode(path, (_with_text(frame, lines[i // 36]) for i, frame in enumerate(frames)))


def _phone(path: Path, rng: np.random.Generator) -> None:
    upright = _grainy(_shot(scenes.ferris_wheel(rng, HEIGHT, WIDTH), 60), rng)
    _encode(path, (np.rot90(frame) for frame in upright))  # turned left, so that players turn it right
    _set_display_matrix(path, QUARTER_TURN)


def _interrupted(path: Path, rng: np.random.Generator) -> None:
    _encode(path, _shot(scenes.landscape(rng, WIDTH, HEIGHT), 48), index_first=False)
    whole = path.read_bytes()
    path.write_bytes(whole[: 2 * len(whole) // 3])


def _notes(path: Path, rng: np.random.Generator) -> None:
    path.write_text("Day 3. Wind from the west, haze until ten. Boat at six, wheel after dark.\n", encoding="utf-8")


ORIGINAL, COPY = "fishing boat at sunset.mp4", "sunset with a boat, downloaded twice.mp4"
FILES: dict[str, Callable[[Path, np.random.Generator], None]] = {
    "a film of the coast and the city.mp4": _film,
    "balls in the playroom, letterboxed.mp4": _letterboxed,
    ORIGINAL: _boat,
    "forest walk out of focus.mp4": _out_of_focus,
    "fruit on a table.mp4": _still,
    "flight over fields with subtitles.mp4": _subtitled,
    "wheel filmed upright on a phone.mp4": _phone,
    "interrupted download.mp4": _interrupted,
    "shooting notes.mp4": _notes,
}


# --- frames ----------------------------------------------------------------------------------------------------------


def _shot(scene: Scene, num_frames: int) -> Iterator[np.ndarray]:
    return (scene(i / FPS) for i in range(num_frames))


def _edited(rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Join the film's shots: a dissolve overlaps two shots, a fade takes its frames from both sides of black."""
    held: list[np.ndarray] = []
    for maker, num_frames, begins, length in FILM:
        frames = list(_shot(maker(rng, WIDTH, HEIGHT), num_frames))
        if begins == "dissolve":
            yield from held[:-length]
            both = zip(held[-length:], frames[:length], strict=True)
            yield from (_mix(a, b, (i + 1) / (length + 1)) for i, (a, b) in enumerate(both))
            frames = frames[length:]
        elif begins == "fade":
            half = length // 2
            yield from held[:-half]
            yield from (_mix(f, np.zeros_like(f), (i + 1) / half) for i, f in enumerate(held[-half:]))
            yield from (_mix(np.zeros_like(f), f, i / half) for i, f in enumerate(frames[:half]))
            frames = frames[half:]
        else:
            yield from held
        held = frames
    yield from held


def _mix(a: np.ndarray, b: np.ndarray, share: float) -> np.ndarray:
    return np.round(a * (1 - share) + b * share).astype(np.uint8)


def _grainy(frames: Iterable[np.ndarray], rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Frames as a camera's sensor would have them: noise that is new in each."""
    noise: np.ndarray | None = None  # int16, larger than a frame: each takes another window of it
    for frame in frames:
        height, width = frame.shape[:2]
        if noise is None:
            noise = np.rint(rng.normal(0, GRAIN_LEVELS, (height + GRAIN_ROOM, width + GRAIN_ROOM, 1))).astype(np.int16)
        y, x = rng.integers(0, GRAIN_ROOM, 2)
        yield np.clip(frame + noise[y : y + height, x : x + width], 0, 255).astype(np.uint8)


def _with_text(frame: np.ndarray, text: str) -> np.ndarray:
    """Draw the line in white with a dark edge, centred near the bottom."""
    import cv2

    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.72
    (width, _), _ = cv2.getTextSize(text, font, size, 2)
    at = ((frame.shape[1] - width) // 2, int(0.9 * frame.shape[0]))
    frame = frame.copy()
    cv2.putText(frame, text, at, font, size, (12, 12, 12), 5, cv2.LINE_AA)
    cv2.putText(frame, text, at, font, size, (250, 250, 245), 2, cv2.LINE_AA)
    return frame


# --- files -----------------------------------------------------------------------------------------------------------


def write_clip(path: Path, frames: Iterable[np.ndarray], *, fps: int = FPS) -> None:
    """Write uint8 [H, W, 3] RGB frames as an H.264 mp4; the same bytes every time."""
    _encode(path, frames, fps)


def _encode(
    path: Path, frames: Iterable[np.ndarray], fps: int = FPS, *, sound_s: float = 0, index_first: bool = True
) -> None:
    """H.264 mp4 of uint8 [H, W, 3] RGB frames, and a tune under them if `sound_s`; the same bytes every time."""
    import av

    options = {"fflags": "+bitexact"} | ({"movflags": "+faststart"} if index_first else {})
    with av.open(str(path), "w", format="mp4", container_options=options) as file:
        stream = file.add_stream("libx264", rate=Fraction(fps), options=X264)
        sound = (
            file.add_stream("aac", rate=SOUND_HZ, layout="mono", options={"flags": "+bitexact"}) if sound_s else None
        )
        stream.codec_context.thread_count = 1
        stream.pix_fmt = "yuv420p"
        for number, array in enumerate(frames):
            if not number:
                stream.height, stream.width = array.shape[:2]
            file.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(array), format="rgb24")))
        file.mux(stream.encode())
        if sound is not None:
            frame = av.AudioFrame.from_ndarray(_tune(sound_s)[None], format="fltp", layout="mono")
            frame.sample_rate = SOUND_HZ
            file.mux(sound.encode(frame))
            file.mux(sound.encode())


def _tune(seconds: float) -> np.ndarray:
    """Make a slow scale, float32 [samples]."""
    t = np.arange(int(seconds * SOUND_HZ)) / SOUND_HZ
    steps = np.array((0, 3, 5, 7, 10, 12))
    pitch_hz = 220 * 2 ** (steps[(t * 2).astype(int) % len(steps)] / 12)
    swell = 0.5 - 0.5 * np.cos(4 * np.pi * t)
    return (0.12 * swell * np.sin(2 * np.pi * pitch_hz * t)).astype(np.float32)


def _set_display_matrix(path: Path, matrix: tuple[int, ...]) -> None:
    """Write the matrix of the first track: 44 bytes after its header's name (ISO/IEC 14496-12, 8.3.2, version 0)."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)
