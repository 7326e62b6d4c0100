"""The running average of the weights that are trained."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor


class Ema:
    """average ← decay · average + (1 - decay) · weight, in fp32, each rank its own shards.

    The decay begins low, (1 + step) / (10 + step), so that an average asked for early is not that of random weights.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self.decay = decay
        self.parameters = parameters
        self.average = {name: p.detach().float().clone() for name, p in parameters.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """After optimizer step `step` (from 1)."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for name, parameter in self.parameters.items():
            _local(self.average[name]).lerp_(_local(parameter.detach()).float(), 1 - decay)

    def tensors(self) -> dict[str, Tensor]:
        """Return "ema.<name>": the averages themselves, to be saved or filled."""
        return {f"ema.{name}": average for name, average in self.average.items()}

    @contextmanager
    def swapped_in(self) -> Iterator[None]:
        """Within it, the model has the averages for weights."""
        kept = {name: p.detach().clone() for name, p in self.parameters.items()}
        self._set(self.average)
        try:
            yield
        finally:
            self._set(kept)

    @torch.no_grad()
    def _set(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            _local(parameter).copy_(_local(values[name]))


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor
