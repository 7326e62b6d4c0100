"""Attention over a part of the keys: outputs with their log-sum-exp, by which parts are merged; and its gradients.

The gradients take the output and log-sum-exp of the whole: then each part's are its share of the whole's (Dao, 2023).
All tensors [B, heads, N, D]; log-sum-exps [B, heads, N], at least fp32.
"""

import torch
from torch import Tensor

ROWS = 1024
"""Queries at a time where there is no fused kernel: their scores are held."""


def forward_piece(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ / sqrt(D)) v and the log of the softmax's sum."""
    aten = torch.ops.aten
    if q.device.type == "cpu":
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, False)
        return out, lse
    if _has_flash(q):
        out, lse, *_ = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, False, False)
        return out, lse[..., : q.shape[2]]
    return forward_plain(q, k, v)


def backward_piece(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; `grad`, `out` and `lse` are of the whole."""
    aten = torch.ops.aten
    if q.device.type == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu_backward(grad, q, k, v, out, lse, 0.0, False)
    if _has_flash(q):
        # no variable lengths, and no dropout whose random state would matter
        state = torch.zeros(2, dtype=torch.uint64, device=q.device)
        return aten._scaled_dot_product_flash_attention_backward(
            grad, q, k, v, out, lse.contiguous(), None, None, q.shape[2], k.shape[2], 0.0, False, state, state
        )
    return backward_plain(grad, q, k, v, out, lse)


def forward_plain(q: Tensor, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """`forward_piece` in plain operations, `ROWS` queries at a time."""
    outs, sums = [], []
    for rows in q.split(ROWS, dim=2):
        scores = _scores(rows, k)
        sums.append(torch.logsumexp(scores, -1))
        outs.append(scores.softmax(-1).to(v.dtype) @ v)
    return torch.cat(outs, 2), torch.cat(sums, 2)


def backward_plain(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """`backward_piece` in plain operations."""
    wide = torch.promote_types(q.dtype, torch.float32)
    query, key, value = [], torch.zeros_like(k, dtype=wide), torch.zeros_like(v, dtype=wide)
    parts = (tensor.split(ROWS, dim=2) for tensor in (grad, q, out, lse))
    for g, rows, o, total in zip(*parts, strict=True):
        weights = torch.exp(_scores(rows, k) - total[..., None])
        value += weights.mT @ g.to(wide)
        mean = (g.to(wide) * o.to(wide)).sum(-1, keepdim=True)
        slope = weights * (g.to(wide) @ v.to(wide).mT - mean) * q.shape[-1] ** -0.5
        query.append(slope @ k.to(wide))
        key += slope.mT @ rows.to(wide)
    return torch.cat(query, 2).to(q.dtype), key.to(k.dtype), value.to(v.dtype)


def _scores(q: Tensor, k: Tensor) -> Tensor:
    wide = torch.promote_types(q.dtype, torch.float32)
    return q.to(wide) @ k.to(wide).mT * q.shape[-1] ** -0.5


def _has_flash(q: Tensor) -> bool:
    """PyTorch's flash kernels: half precision, head dims in eights up to 256."""
    half = q.dtype in {torch.bfloat16, torch.float16}
    return q.device.type == "cuda" and half and q.shape[-1] % 8 == 0 and q.shape[-1] <= 256
