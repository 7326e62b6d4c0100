"""The formula against what torch counts."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from reelwright.kernels import TopR, block_grids, select_blocks
from reelwright.model.config import AttentionConfig, DiTConfig, LoRAConfig
from reelwright.model.dit import DiT
from reelwright.model.flops import forward_flops, train_flops
from reelwright.model.lora.adapters import add_lora
from reelwright.model.lora.flops import lora_train_flops

CONFIG = DiTConfig(
    hidden_size=48, depth=3, num_heads=4, in_channels=5, out_channels=7, caption_channels=24, adaln_tembed_dim=32,
    frequency_embedding_size=20,
)  # fmt: skip
GRID, BATCH, TEXT = (4, 3, 5), 2, 11


@pytest.mark.parametrize("cond_frames", [0, 1, 3])
@pytest.mark.parametrize("zero_pad", [True, False])
def test_forward_and_backward_are_those_torch_counts(cond_frames, zero_pad):
    config = CONFIG.model_copy(update={"text_tokens_zero_pad": zero_pad})
    sizes = {"batch": BATCH, "cond_frames": cond_frames, "text_tokens": TEXT}
    forward, both = counted(DiT(config), cond_frames)
    assert forward_flops(config, GRID, **sizes) == pytest.approx(forward, rel=1e-9)
    assert train_flops(config, GRID, **sizes) == pytest.approx(both, rel=1e-9)


TARGETS = [LoRAConfig().targets, ("*.qkv", "*.proj", "*.q_linear", "*.kv_linear", "*.w?", "*adaLN*", "*.linear"),
           ("blocks.1.ffn.w2",), ("*.kv_linear",), ("t_embedder.*",), ("y_embedder.y_proj.0",)]  # fmt: skip


@pytest.mark.parametrize("targets", TARGETS, ids=str)
@pytest.mark.parametrize("cond_frames", [0, 3])
def test_of_adapters_alone_they_are_those_torch_counts(targets, cond_frames):
    lora = LoRAConfig(rank=4, alpha=4, targets=targets)
    model = DiT(CONFIG)
    add_lora(model, lora)
    sizes = {"batch": BATCH, "cond_frames": cond_frames, "text_tokens": TEXT}
    _, both = counted(model, cond_frames)
    assert lora_train_flops(CONFIG, lora, GRID, **sizes) == pytest.approx(both, rel=0.01)


def test_recomputation_is_the_blocks_forward_once_more():
    model = DiT(CONFIG)
    for block in model.blocks:
        block.forward = recomputed(block.forward)
    sizes = {"batch": BATCH, "cond_frames": 1, "text_tokens": TEXT}
    _, both = counted(model, 1)
    assert train_flops(CONFIG, GRID, **sizes, recompute=True) == pytest.approx(both, rel=0.01)
    assert train_flops(CONFIG, GRID, **sizes) < 0.8 * both


def test_the_published_size():
    """Attention over 37,440 tokens, and twice the parameters a token, but for those of modulation and text."""
    grid = (24, 30, 52)
    found = forward_flops(DiTConfig(), grid, batch=1, cond_frames=0, text_tokens=512)
    attention = 48 * 4 * 37440 * (37440 + 512) * 4096
    assert 0.8 < (found - attention) / (2 * 13.581e9 * 37440) < 0.9


@pytest.mark.parametrize(
    ("grid", "cond_frames", "rel"),
    [((8, 8, 12), 0, 1e-9), ((8, 8, 12), 4, 1e-9), ((5, 7, 9), 0, 0.15), ((5, 7, 9), 2, 0.15)],
)
def test_of_sparse_attention_the_pairs_that_are_kept_count(grid, cond_frames, rel):
    attention = AttentionConfig(form="sparse", block=(2, 4, 4), keep=0.2)
    sizes = {"batch": 1, "cond_frames": cond_frames, "text_tokens": TEXT}
    dense, sparse = (forward_flops(CONFIG, grid, **sizes, attention=a) for a in (AttentionConfig(), attention))
    frame, every = grid[1] * grid[2], grid[0] * grid[1] * grid[2]
    clean = cond_frames * frame
    left_out = clean**2 + (every - clean) * every - kept_pairs(grid, cond_frames, attention)
    assert dense - sparse == pytest.approx(left_out * 4 * CONFIG.hidden_size * CONFIG.depth, rel=rel)
    assert 3 * (dense - sparse) == train_flops(CONFIG, grid, **sizes) - train_flops(
        CONFIG, grid, **sizes, attention=attention
    )


@pytest.mark.parametrize(
    ("grid", "attention"),
    [
        (GRID, {"keep": 1.0}),
        (GRID, {"keep": 0.1, "form": "dense"}),
        (GRID, {"cdf": 0.5}),
        ((1, 8, 8), {"keep": 0.1, "block": (1, 2, 2)}),
    ],
    ids=["all blocks", "dense", "cdf", "image"],
)
def test_what_keeps_all_pairs_counts_as_dense(grid, attention):
    sizes = {"batch": BATCH, "cond_frames": 0, "text_tokens": TEXT}
    sparse = AttentionConfig(**{"form": "sparse", **attention})
    assert forward_flops(CONFIG, grid, **sizes, attention=sparse) == forward_flops(CONFIG, grid, **sizes)


def kept_pairs(grid, cond_frames: int, attention: AttentionConfig) -> float:
    """Of a head, from lists made of random tokens."""
    of_q, of_k = block_grids(grid, grid, attention.block, cond_frames)
    q, k = torch.randn(2, 1, 6, of_q.tokens, 8, generator=torch.Generator().manual_seed(0))
    mask = select_blocks(q, k, of_q, of_k, TopR(attention.keep)).mask(of_k.count).double()
    lengths = of_q.offsets().diff().double()
    return float((mask.mean((0, 1)) * lengths * lengths[:, None]).sum())


def counted(model: DiT, cond_frames: int) -> tuple[int, int]:
    """(forward, forward and backward). The fused CPU kernel is not among what torch counts: plain products are."""
    x = torch.randn(BATCH, CONFIG.in_channels, GRID[0], 2 * GRID[1], 2 * GRID[2])
    text, mask = torch.randn(BATCH, TEXT, CONFIG.caption_channels), torch.ones(BATCH, TEXT)
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        out = model(x, torch.full((BATCH,), 500.0), text, mask, cond_frames=cond_frames)
        forward = counter.get_total_flops()
        out.sum().backward()
        return forward, counter.get_total_flops()


def recomputed(forward):
    return lambda *inputs: checkpoint(forward, *inputs, use_reentrant=False)


def test_it_runs_without_storage():
    with torch.device("meta"):
        model = DiT(CONFIG)
        x, text = torch.empty(BATCH, CONFIG.in_channels, 4, 6, 10), torch.empty(BATCH, TEXT, CONFIG.caption_channels)
        out = model(x, torch.empty(BATCH), text, cond_frames=1)
    assert out.is_meta
    assert out.shape == (BATCH, CONFIG.out_channels, 4, 6, 10)
