"""The one oracle: dense attention in fp64 under the mask of tokens that a block mask stands for."""

import torch
from torch import Tensor

from reelwright.kernels.blocks import BlockGrid


def expand(mask: Tensor, grid_q: BlockGrid, grid_k: BlockGrid) -> Tensor:
    """bool [..., query blocks, key blocks] -> [..., Nq, Nk], tokens in (t, h, w) order."""
    return mask[..., block_of_token(grid_q), :][..., block_of_token(grid_k)]


def block_of_token(grid: BlockGrid) -> Tensor:
    """int64 [N] for tokens in (t, h, w) order, found from the blocks' bounds alone."""
    frames, rows, columns = (torch.arange(n) for n in grid.grid)
    places = torch.stack(torch.meshgrid(frames, rows, columns, indexing="ij"), -1).view(-1, 1, 3)
    bounds = grid.bounds()
    inside = ((places >= bounds[:, :, 0]) & (places < bounds[:, :, 1])).all(-1)
    assert (inside.sum(-1) == 1).all()
    return inside.int().argmax(-1)


def dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scale: float | None = None) -> tuple[Tensor, Tensor]:
    """-> out, log-sum-exp, in fp64; a row that sees nothing gets 0 and -inf. Differentiable."""
    scores = q.double() @ k.double().mT * (q.shape[-1] ** -0.5 if scale is None else scale)
    lse = scores.masked_fill(~mask, -torch.inf).logsumexp(-1)
    weights = (scores - lse.masked_fill(lse == -torch.inf, 0)[..., None]).masked_fill(~mask, -torch.inf).exp()
    return weights @ v.double(), lse


def gradients(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, grad: Tensor, grad_lse: Tensor | None = None):
    """Of q, k and v, in fp64."""
    leaves = [x.detach().double().requires_grad_() for x in (q, k, v)]
    out, lse = dense(*leaves, mask)
    loss = (out * grad.double()).sum() + (0 if grad_lse is None else (lse * grad_lse.double()).sum())
    return torch.autograd.grad(loss, leaves)


def worst(found: Tensor, expected: Tensor) -> float:
    """Largest difference over the largest expected value."""
    if not expected.numel():
        return 0.0
    found, expected = found.detach().double(), expected.detach().double()
    scale = expected.abs().max().clamp(min=1e-30)
    return float((found - expected).abs().max() / scale)


def roundoff(q: Tensor, k: Tensor) -> float:
    """By how much more than usual fp32 errs: a score's last digit, so its exponential's, grows with the score."""
    if not q.numel() or not k.numel():
        return 1.0
    return max(1.0, float((q.detach().double() @ k.detach().double().mT).abs().max()) * q.shape[-1] ** -0.5 / 16)


def worst_of_all(found, expected) -> float:
    """`worst` over several, relative to the largest of them: one that vanishes (a single key's) is noise anywhere."""
    size = max((float(x.abs().max()) for x in expected if x.numel()), default=0.0)
    gaps = [float((a.detach().double() - b).abs().max()) for a, b in zip(found, expected, strict=True) if b.numel()]
    return max(gaps, default=0.0) / max(size, 1e-3)
