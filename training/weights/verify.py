"""Checks files written for other projects: reads them back by those names and compares them with the source.

Their names are read by `reelwright.model.weights.their_names`, a table of its own, so a name that was written wrong is
missed here, not found by the same mistake.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from reelwright.errors import UserError
from reelwright.model.dit import DiT
from reelwright.model.lora.files import read_lora
from reelwright.model.lora.layer_weights import LayerWeights
from reelwright.model.weights.weight_files import open_weights
from reelwright.training.weights.formats import Network

ROUNDING = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}
"""Largest difference of outputs over their norm, where a scale that is no power of two went into rounded weights."""


@dataclass(frozen=True)
class Verified:
    """The comparison made, and the largest difference of outputs over their norm."""

    compared: int
    error: float

    def line(self, what: str) -> str:
        """Say it."""
        how = "equal bit for bit" if self.error == 0 else f"equal to {self.error:.1e} of their norm"
        return f"verified: {self.compared:,} {what} read back by their names; outputs {how}"


@torch.no_grad()
def verify_network(network: Network, out: Path) -> Verified:
    """Compare all tensors bit by bit, and the outputs of the network's first block, in fp32.

    One tensor of either side is in memory at a time, and the first block twice.

    Raises:
        UserError: a tensor is not there, or differs.
    """
    written = open_weights(out)
    config = network.config.model_copy(update={"depth": 1})
    sides: tuple[dict[str, Tensor], dict[str, Tensor]] = ({}, {})
    names = set()
    for name, tensor in network.tensors():
        if name not in written or not torch.equal(written[name], tensor) or written[name].dtype != tensor.dtype:
            raise UserError(f"{out}: {name} is not what was written; the files are not to be used")
        names.add(name)
        if not name.startswith("blocks.") or name.startswith("blocks.0."):
            for side, value in zip(sides, (tensor, written[name]), strict=True):
                side[name] = value.float()
    if extra := sorted(set(written) - names):
        raise UserError(f"{out}: {extra[0]} is in the files and not in {network.source}")
    ours, theirs = (_outputs(DiT(config), side) for side in sides)
    return Verified(len(names), float((ours - theirs).norm() / ours.norm().clamp_min(1e-30)))


@torch.no_grad()
def verify_lora(layers: Mapping[str, LayerWeights], file: Path) -> Verified:
    """Compare each layer's output on random states with that of the file, in fp32.

    Raises:
        UserError: a layer is missing, or its output differs by more than rounding.
    """
    written, worst = read_lora(file), 0.0
    if written.keys() != layers.keys():
        odd = sorted(written.keys() ^ layers.keys())
        raise UserError(f"{file}: {len(odd)} layers are on one side alone, for example {odd[0]}")
    for layer, weights in layers.items():
        x = torch.randn(4, weights.down.shape[1], generator=torch.Generator().manual_seed(0))
        ours, theirs = _update(weights, x), _update(written[layer], x)
        error = float((ours - theirs).norm() / ours.norm().clamp_min(1e-30))
        if not error <= ROUNDING.get(weights.down.dtype, 2e-2):
            raise UserError(f"{file}: {layer} gives other outputs than its source, by {error:.1e} of their norm")
        worst = max(worst, error)
    return Verified(len(layers), worst)


def _update(weights: LayerWeights, x: Tensor) -> Tensor:
    lows = (x @ weights.down.float().T).chunk(len(weights.ups), dim=-1)
    outs = [low @ up.float().T for low, up in zip(lows, weights.ups, strict=True)]
    return torch.cat(outs, dim=-1) * float(weights.scale)


def _outputs(model: DiT, state: Mapping[str, Tensor]) -> Tensor:
    """Return the network's outputs for one small latent and random text states."""
    model.load_state_dict(state, assign=True)
    config, random = model.config, torch.Generator().manual_seed(0)
    _, rows, columns = config.patch_size
    x = torch.randn(1, config.in_channels, 3, 2 * rows, 2 * columns, generator=random)
    text = torch.randn(1, 5, config.caption_channels, generator=random)
    return model(x, torch.tensor([500.0]), text, torch.ones(1, 5, dtype=torch.bool), cond_frames=1)
