"""The demonstration's footage holds what its docstring says."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from reelwright.curation.media.decode import Video
from reelwright.curation.media.errors import MediaError
from reelwright.curation.media.probe import md5_of, probe
from reelwright.pipelines.demo import footage, scenes
from reelwright.pipelines.demo.footage import COPY, FILES, FILM, ORIGINAL, make_footage

FRAMES = {
    "a film of the coast and the city.mp4": 366,
    "balls in the playroom, letterboxed.mp4": 90,
    ORIGINAL: 72,
    COPY: 72,
    "forest walk out of focus.mp4": 72,
    "fruit on a table.mp4": 60,
    "flight over fields with subtitles.mp4": 72,
    "wheel filmed upright on a phone.mp4": 60,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo") / "footage"
    made = make_footage(folder)
    assert made == sorted(folder.iterdir())
    return folder


@cache
def frames_of(path: Path) -> np.ndarray:
    """uint8 [T, H, W] grey, as stored."""
    with av.open(str(path)) as file:
        return np.stack([frame.to_ndarray(format="gray") for frame in file.decode(video=0)])


def steps(frames: np.ndarray) -> np.ndarray:
    """Mean absolute difference of each frame to the next, [T - 1]."""
    return np.array([cv2.absdiff(a, b).mean() for a, b in pairwise(frames)])


def test_every_file_is_as_long_as_it_says(folder: Path) -> None:
    for name, frames in FRAMES.items():
        assert probe(str(folder / name))["frames_hint"] == frames, name
    assert sum(n for _, n, _, _ in FILM) - 18 == FRAMES["a film of the coast and the city.mp4"]


def test_the_film_cuts_where_it_says_and_has_sound(folder: Path) -> None:
    path = folder / "a film of the coast and the city.mp4"
    frames = frames_of(path)
    largest = sorted(int(i) + 1 for i in np.argsort(steps(frames))[-3:])
    assert largest == [72, 132, 306]
    assert frames[246].mean() < 20, "the fade passes through black"
    assert steps(frames)[174:192].max() < steps(frames)[[71, 131, 305]].min() / 2, "a dissolve is gradual"
    with av.open(str(path)) as file:
        assert file.streams.audio[0].duration * file.streams.audio[0].time_base == pytest.approx(366 / 24, abs=0.1)


def test_the_letterbox_is_black_and_nothing_else_is(folder: Path) -> None:
    frames = frames_of(folder / "balls in the playroom, letterboxed.mp4")
    rows = frames.mean(axis=(0, 2))
    assert frames.shape[1:] == (360, 640)
    assert rows[:45].max() < 4
    assert rows[-45:].max() < 4
    assert rows[48:-48].min() > 40


def test_the_still_stands_and_the_others_move(folder: Path) -> None:
    for name in FRAMES:
        moves = steps(frames_of(folder / name)).mean()
        assert (moves < 0.05) == (name == "fruit on a table.mp4"), (name, moves)


def test_the_copy_has_the_original_s_bytes_and_a_name_that_sorts_after_it(folder: Path) -> None:
    assert md5_of(str(folder / ORIGINAL)) == md5_of(str(folder / COPY))
    assert ORIGINAL < COPY


def test_the_phone_s_picture_stands_upright_once_turned(folder: Path) -> None:
    info = probe(str(folder / "wheel filmed upright on a phone.mp4"))
    assert (info["display_width"], info["display_height"], info["rotation"]) == (270, 480, 90)


@pytest.mark.parametrize("name", ["interrupted download.mp4", "shooting notes.mp4"])
def test_what_is_broken_cannot_be_opened(folder: Path, name: str) -> None:
    with pytest.raises(MediaError), Video(str(folder / name)):
        pass


def test_a_seed_decides_every_byte(folder: Path, tmp_path: Path) -> None:
    name = "interrupted download.mp4"
    FILES[name](tmp_path / "again.mp4", np.random.default_rng([0, list(FILES).index(name)]))
    assert (tmp_path / "again.mp4").read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize("scene", [scenes.landscape, scenes.sea, scenes.city_night, scenes.aerial, scenes.forest])
def test_a_scene_depends_on_seed_and_time_alone(scene: footage.Maker) -> None:
    one, again, other = (scene(np.random.default_rng(seed), 160, 90) for seed in (0, 0, 1))
    later = one(1.5)
    assert (one(0) == again(0)).all()
    assert (later == again(1.5)).all()
    assert (later != one(0)).any()
    assert (later != other(1.5)).any()


def test_drawing_asks_for_no_file_and_leaves_none(folder: Path) -> None:
    assert sorted(p.name for p in folder.iterdir()) == sorted([*FILES, COPY])
    assert set(FRAMES) < {*FILES, COPY}
    assert footage.__doc__ is not None
    for name in [*FILES, COPY]:
        assert f"| {name} |" in footage.__doc__, f"{name} is not described"
