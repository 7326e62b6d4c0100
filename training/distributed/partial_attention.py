"""Attention over a part of the keys: outputs with their log-sum-exp, by which parts are merged; and its gradients.

The gradients take the output and log-sum-exp of the whole: then each part's are its share of the whole's (Dao, 2023).
All tensors [B, heads, N, D]; log-sum-exps [B, heads, N], at least fp32.
"""

import warnings
from functools import lru_cache

import torch
from torch import Tensor

from reelwright.errors import first_line

ROWS = 1024
"""Queries at a time where there is no fused kernel: their scores are held."""
CUDNN_DIM, FLASH_DIM = 128, 256
"""Largest head dims of the fused kernels on GPUs; both take eights, in half precision."""
PROBE_ERROR = 0.05
"""Error over the largest value from which a kernel is not trusted: bf16's own is below 0.02."""


def forward_piece(q: Tensor, k: Tensor, v: Tensor, backend: str | None = None) -> tuple[Tensor, Tensor]:
    """softmax(q kᵀ / sqrt(D)) v and the log of the softmax's sum; backend: other than `piece_backend`'s."""
    aten = torch.ops.aten
    backend = backend or piece_backend(q.device, q.dtype, q.shape[-1])
    if backend == "cpu":
        out, lse = aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, 0.0, False)
        return out, lse
    if backend == "cudnn":
        out, lse, *_ = aten._scaled_dot_product_cudnn_attention(q, k, v, None, True, 0.0, False, False)
        return out, lse.reshape(q.shape[:3])
    if backend == "flash":
        out, lse, *_ = aten._scaled_dot_product_flash_attention(q, k, v, 0.0, False, False)
        return out, lse[..., : q.shape[2]]
    return forward_plain(q, k, v)


def backward_piece(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, backend: str | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v; `grad`, `out` and `lse` are of the whole."""
    aten = torch.ops.aten
    backend = backend or piece_backend(q.device, q.dtype, q.shape[-1])
    if backend == "cpu":
        return aten._scaled_dot_product_flash_attention_for_cpu_backward(grad, q, k, v, out, lse, 0.0, False)
    if backend == "cudnn":  # no mask, no variable lengths, no dropout whose random state would matter
        state = torch.zeros((), dtype=torch.int64, device=q.device)
        return aten._scaled_dot_product_cudnn_attention_backward(
            grad, q, k, v, out, lse[..., None].contiguous(), state, state, None, None, None, q.shape[2], k.shape[2],
            0.0, False,
        )  # fmt: skip
    if backend == "flash":
        state = torch.zeros(2, dtype=torch.uint64, device=q.device)
        return aten._scaled_dot_product_flash_attention_backward(
            grad, q, k, v, out, lse.contiguous(), None, None, q.shape[2], k.shape[2], 0.0, False, state, state
        )
    return backward_plain(grad, q, k, v, out, lse)


@lru_cache(maxsize=64)
def piece_backend(device: torch.device, dtype: torch.dtype, dim: int) -> str:
    """Choose the fastest kernel that a device has: "cudnn" from Hopper on, else "flash", "cpu", or "plain" operations.

    cuDNN's is about twice as fast there as FlashAttention-2. A kernel is tried on a small problem first, both passes:
    one that fails or is wrong, in an unforeseen version of a library, is not taken.

    Args:
        device: of the tensors.
        dtype: of q, k and v.
        dim: D.
    """
    if device.type == "cpu":
        return "cpu"
    if device.type != "cuda" or dtype not in {torch.bfloat16, torch.float16} or dim % 8:
        return "plain"
    hopper = torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= (9, 0)
    fits = {"cudnn": hopper and dim <= CUDNN_DIM, "flash": dim <= FLASH_DIM}
    return next((name for name, good in fits.items() if good and _is_right(name, device, dtype, dim)), "plain")


def whole_backend(device: torch.device, dtype: torch.dtype, dim: int) -> str:
    """Name the kernel that PyTorch's scaled_dot_product_attention takes on a GPU, in training and without a mask."""
    from torch.nn.attention import SDPBackend

    q = torch.zeros(1, 1, 256, dim, device=device, dtype=dtype, requires_grad=True)
    return SDPBackend(torch._fused_sdp_choice(q, q, q)).name.removesuffix("_ATTENTION").lower()


def _is_right(backend: str, device: torch.device, dtype: torch.dtype, dim: int) -> bool:
    """Try a kernel on two pieces of keys against plain operations."""
    generator = torch.Generator().manual_seed(0)
    q, k, v, grad = torch.randn(4, 1, 2, 192, dim, generator=generator).to(device, dtype)
    whole = forward_plain(q.float(), k.float(), v.float())
    expect = backward_plain(grad.float(), q.float(), k.float(), v.float(), *whole)
    try:
        with torch.no_grad():
            out, lse = forward_piece(q, k, v, backend)
            given = whole[0].to(dtype), whole[1]
            parts = [backward_piece(grad, q, k[:, :, at], v[:, :, at], *given, backend) for at in _HALVES]
    except Exception as error:
        why = first_line(error)
        warnings.warn(f"attention by {backend} does not run here, another kernel is taken: {why}", stacklevel=2)
        return False
    found = (parts[0][0] + parts[1][0], torch.cat([p[1] for p in parts], 2), torch.cat([p[2] for p in parts], 2))
    pairs = zip((out, lse, *found), (*whole, *expect), strict=True)
    return all(float((a.float() - b).abs().max() / b.abs().max()) < PROBE_ERROR for a, b in pairs)


_HALVES = (slice(0, 128), slice(128, None))


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
