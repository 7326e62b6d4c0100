"""Pictures and still-standing footage that the virtual camera films: which, in which set, and which never."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

LARGEST = 900  # pixels of the longer side that are kept of a picture
LONGEST = 150  # frames that are kept of footage

Set = Literal["train", "held_out"]

# Pictures in the wheels of scikit-image and scikit-learn, which need no download
WHEELS: dict[Set, tuple[str, ...]] = {
    "train": (
        "skimage/astronaut.png", "skimage/motorcycle_left.png", "skimage/hubble_deep_field.jpg", "skimage/brick.png",
        "skimage/grass.png", "skimage/gravel.png", "skimage/ihc.png", "skimage/retina.jpg", "skimage/moon.png",
        "skimage/coins.png", "skimage/page.png", "sklearn/flower.jpg",
    ),
    "held_out": (
        "skimage/chelsea.png", "skimage/coffee.png", "skimage/rocket.jpg", "skimage/camera.png", "skimage/text.png",
        "sklearn/china.jpg",
    ),
}  # fmt: skip

# A corpus's file, its first and last frame (one is a picture; more are footage of a camera that stands still);
# every file of one film, room or series belongs to one set
CORPUS: dict[Set, tuple[tuple[str, int, int], ...]] = {
    "train": (
        ("natural/bottle_detection.mp4", 200, 349), ("montage/n02_exposure_no_cut.mp4", 0, 149),
        ("codecs/mjpeg.mov", 0, 35), ("montage/m01_hard_mixed.mp4", 394, 433), ("natural/newtonscradle.gif", 0, 35),
        ("natural/motorcycle_4k.mp4", 10, 10), ("natural/motorcycle_4k.mp4", 100, 100),
        ("natural/cockatoo_720p.mp4", 20, 20), ("natural/cockatoo_720p.mp4", 200, 200),
        ("natural/bbb_720p_30s.webm", 330, 330), ("natural/bbb_720p_30s.webm", 600, 600),
        ("natural/haircut_480x360.mp4", 100, 100), ("natural/arm_wrestling.mp4", 50, 50),
        ("natural/makeup.avi", 50, 50), ("codecs/prores.mov", 5, 5), ("codecs/portrait_9x16.mp4", 30, 30),
        ("codecs/h264_444.mp4", 20, 20),
    ),
    "held_out": (
        ("natural/car_detection.mp4", 100, 249), ("natural/asl_help.mkv", 0, 57), ("natural/asl_milk.mkv", 0, 50),
        ("codecs/fps10.mp4", 20, 20), ("natural/cat_480p_16fps.mp4", 10, 10),
        ("montage/m01_hard_mixed.mp4", 372, 372), ("montage/m02_hard_short_abab.mp4", 150, 150),
        ("montage/m04_hard_portrait.mp4", 230, 230),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Source:
    """frames: uint8 [T, H, W]; one is a picture."""

    name: str
    frames: np.ndarray
    fps: float = 24.0

    @property
    def is_picture(self) -> bool:
        """Whether it is a still picture."""
        return len(self.frames) == 1

    @cached_property
    def still(self) -> Source:
        """The picture that stays, without the people and cars that come and go before it."""
        return Source(self.name, np.median(self.frames[:: max(1, len(self.frames) // 15)], axis=0)[None], self.fps)


def load_sources(corpus: Path, which: Set) -> list[Source]:
    """Return the pictures and footage of a set.

    Raises:
        ValueError: one of them belongs to the corpus's test of cameras.
    """
    refuse_test_material(corpus)
    truth = {file["path"]: file for file in json.loads((corpus / "truth.json").read_text())["files"]}
    wheels = [Source(name, _fitted(_wheel_picture(name))[None]) for name in WHEELS[which]]
    return wheels + [
        Source(path, _footage(corpus / path, first, last), truth[path]["fps"]) for path, first, last in CORPUS[which]
    ]


def refuse_test_material(corpus: Path) -> None:
    """Raise ValueError where a set would take from the camera folder, from a source of it, or the sets share one."""
    files = {file["path"]: file for file in json.loads((corpus / "truth.json").read_text())["files"]}
    tested = {_key(s) for file in files.values() if file["category"] == "camera" for s in file["sources"]}
    used: dict[Set, set[tuple[str, str]]] = {"train": set(), "held_out": set()}
    for which, entries in CORPUS.items():
        for path, first, last in entries:
            shown = _shown(files[path], first, last)
            if files[path]["category"] == "camera" or shown & tested:
                raise ValueError(f"{path}, frames {first} to {last}: shows a source of the corpus's camera folder")
            used[which] |= shown
    if shared := used["train"] & used["held_out"]:
        raise ValueError(f"in both sets: {sorted(shared)}")


def _shown(file: dict, first: int, last: int) -> set[tuple[str, str]]:
    """Return the sources that these frames of a file can show.

    In a montage with one source per shot, they are those of the shots that the frames lie in.
    """
    shots = file.get("shots")
    sources = file["sources"]
    if len(sources) == 1 or not shots or len(shots) != len(sources):
        return {_key(s) for s in sources}
    return {_key(s) for (start, end), s in zip(shots, sources, strict=True) if start <= last and end >= first}


def _key(source: dict) -> tuple[str, str]:
    return source["repo"], source["path"]


def _wheel_picture(name: str) -> np.ndarray:
    package, file = name.split("/")
    if package == "skimage":
        import skimage

        folder = Path(skimage.__file__).parent / "data"
    else:
        import sklearn.datasets

        folder = Path(sklearn.datasets.__file__).parent / "images"
    picture = cv2.imread(str(folder / file), cv2.IMREAD_GRAYSCALE)
    if picture is None:
        raise ValueError(f"{folder / file} is no picture; install scikit-image and scikit-learn")
    return picture


def _footage(path: Path, first: int, last: int) -> np.ndarray:
    from reelwright.curation.media.decode import Video

    last = min(last, first + LONGEST - 1)
    with Video(str(path)) as video:
        return np.stack(
            [_fitted(frame.reformat(format="gray").to_ndarray()) for frame in islice(video.frames(), first, last + 1)]
        )


def _fitted(picture: np.ndarray) -> np.ndarray:
    scale = min(1.0, LARGEST / max(picture.shape))
    return cv2.resize(picture, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else picture
