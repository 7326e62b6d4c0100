"""A micro-batch: samples of one shape and one task."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from reelwright.model.config import TimestepShift
    from reelwright.model.rope import Origin
    from reelwright.model.text import PackedText

Task = Literal["t2i", "t2v", "i2v", "continuation"]
TASKS: tuple[Task, ...] = ("t2i", "t2v", "i2v", "continuation")

B = TypeVar("B", bound="Batch")


@dataclass(frozen=True)
class Draws:
    """Random numbers of a batch, on the CPU until `to`.

    u: float64 [B] in 0..1, from which noise levels follow. condition: [B, T] in 0..1, for the levels of clean frames.
    noise: [B, C, T, H, W].
    """

    u: Tensor
    condition: Tensor
    noise: Tensor

    def to(self, device: torch.device) -> Draws:
        """Move the noise; levels are computed on the CPU."""
        return replace(self, noise=self.noise.to(device, non_blocking=True))

    def pin_memory(self) -> Draws:
        """Return them with the noise in memory that a GPU copies from while it computes."""
        return replace(self, noise=self.noise.pin_memory())


@dataclass(frozen=True)
class Strip:
    """Rows of the token grid that this rank computes (context parallelism): [first, first + rows)."""

    first: int
    rows: int

    @property
    def origin(self) -> Origin:
        """Where the part lies, for RoPE."""
        return (0, self.first, 0)

    def cut(self, x: Tensor, patch: tuple[int, int, int]) -> Tensor:
        """Return the part of x [..., H, W]; patch: latent frames, rows and columns of a token."""
        return x[..., self.first * patch[1] : (self.first + self.rows) * patch[1], :]


@dataclass(frozen=True)
class TokenStrip:
    """Tokens of each frame that a rank computes, in (h, w) order: [first, first + tokens), of frames of `columns`."""

    first: int
    tokens: int
    columns: int

    @property
    def origin(self) -> Origin:
        """Where the part lies, for RoPE."""
        from reelwright.model.rope import Span

        return Span(self.first, self.columns)

    def cut(self, x: Tensor, patch: tuple[int, int, int]) -> Tensor:
        """Return the part of x [..., H, W] as one row of patches, [..., patch rows, tokens · patch columns]."""
        _, high, wide = patch
        rows = slice(self.first // self.columns, (self.first + self.tokens - 1) // self.columns + 1)
        patches = x.unflatten(-1, (self.columns, wide)).unflatten(-3, (-1, high))[..., rows, :, :, :]
        ordered = patches.transpose(-4, -3).flatten(-3, -2)  # [..., patch rows, tokens of these rows, patch columns]
        return ordered.narrow(-2, self.first - rows.start * self.columns, self.tokens).flatten(-2)


@dataclass
class Batch:
    """B samples. Their noise and timesteps come from `seeds`, so they do not depend on the rank that has them.

    An objective that needs more fields subclasses it; `to` moves every tensor.

    latents: float32 [B, C, T, H, W]. text: the captions' states, without padding, in the type that they are stored in.
    cond_frames: the first latent frames are clean. samples_in_step: of all ranks; the denominator of the loss.
    micro: index of the micro-batch in its step, over all ranks. place: samples of the run, of all ranks, that are drawn
    before these. wait_s: seconds that the loop waited for it.
    dropped: samples with the empty caption in place of their own. captions: of the samples, where videos are made of
    them. draws: of the seeds, if drawn ahead.
    strip: part of each frame that this rank computes; None: all. ready: when a GPU that encodes beside the training
    will have made the tensors; None: they are made.
    """

    latents: Tensor
    text: PackedText
    task: Task
    cond_frames: int
    seeds: list[int]
    clip_ids: list[str]
    samples_in_step: int
    step: int
    micro: int
    wait_s: float = 0.0
    dropped: tuple[bool, ...] = ()
    captions: tuple[str, ...] = ()
    bucket: str = ""
    place: int = 0
    draws: Draws | None = None
    strip: Strip | TokenStrip | None = None
    ready: torch.cuda.Event | None = None

    def to(self: B, device: torch.device) -> B:
        """Return the batch with its tensors on a device. Copies from pinned memory overlap with computing.

        Tensors that another stream of the GPU makes are waited for by the GPU, not by this process.
        """
        import torch

        from reelwright.model.text import PackedText

        if self.ready is not None:
            self.ready.wait(torch.cuda.current_stream(device))
            for tensor in (*self._tensors().values(), self.text.states, self.text.lengths):
                if tensor.is_cuda:
                    tensor.record_stream(torch.cuda.current_stream(device))
        moved: dict[str, Any] = {"ready": None}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, torch.Tensor):
                moved[f.name] = value.to(device, non_blocking=True)
            elif isinstance(value, PackedText | Draws):
                moved[f.name] = value.to(device)
        return replace(self, **moved)

    def pinned(self: B) -> B:
        """Return the batch with the tensors of this process' memory in memory that a GPU copies from as it computes."""
        pinned: dict[str, Any] = {n: t if t.is_cuda else t.pin_memory() for n, t in self._tensors().items()}
        text = self.text if self.text.states.is_cuda else self.text.pin_memory()
        return replace(self, text=text, draws=self.draws and self.draws.pin_memory(), **pinned)

    def _tensors(self) -> dict[str, Tensor]:
        """Return the fields that are tensors, also in subclasses."""
        import torch

        found = ((f.name, getattr(self, f.name)) for f in fields(self))
        return {name: value for name, value in found if isinstance(value, torch.Tensor)}


@dataclass
class PairBatch(Batch):
    """Samples of refinement. upsampled: latents of the enlarged first stage, like `latents`, which are the clips'."""

    upsampled: Tensor = field(kw_only=True)

    @classmethod
    def of(cls, batch: Batch, upsampled: Tensor) -> PairBatch:
        """Make pairs of a batch whose latents are the clips'."""
        return cls(**{f.name: getattr(batch, f.name) for f in fields(batch)}, upsampled=upsampled)


def shift_of(batch: Batch, config: TimestepShift, patch: tuple[int, int, int]) -> float:
    """Return the shift of a batch's noise levels, by its noisy tokens, as base training has it."""
    _, _, frames, height, width = batch.latents.shape
    return config.timestep_shift((frames - batch.cond_frames) * (height // patch[1]) * (width // patch[2]))


def of_strip(x: Tensor, batch: Batch, patch: tuple[int, int, int]) -> Tensor:
    """Return the part of whole latents that this rank computes."""
    return x if batch.strip is None else batch.strip.cut(x, patch)


def draw(seeds: Sequence[int], shape: Sequence[int]) -> Draws:
    """Draw the random numbers of samples [B, C, T, H, W]. It takes a while, so loaders do it ahead."""
    import torch

    u, condition = torch.empty(len(seeds), dtype=torch.float64), torch.empty(len(seeds), shape[2])
    noise = torch.empty(*shape)
    for i, seed in enumerate(seeds):
        generator = torch.Generator().manual_seed(seed)
        u[i] = torch.rand((), generator=generator, dtype=torch.float64)
        condition[i] = torch.rand(shape[2], generator=generator)
        torch.randn(*shape[1:], generator=generator, out=noise[i])
    return Draws(u, condition, noise)
