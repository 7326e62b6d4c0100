"""Block 5: sampling at 480p × 93 frames: steps per second of the 13.6 B network, and the VAE's decoding.

Weights are random: speed does not depend on them. A step is one pass over two samples, with and without the prompt.
"""

from functools import partial

import torch
from torch import nn

from benchmarks.gpu.bench import Bench
from benchmarks.gpu.machine import how_to_install, missing
from benchmarks.gpu.report import Figure
from benchmarks.gpu.train import TOY
from reelwright.model.config import AttentionConfig, DiTConfig
from reelwright.model.dit import DiT
from reelwright.model.sparse import use_attention

LATENT = (24, 60, 104)


def run(bench: Bench) -> None:
    config, latent = (TOY, (2, 4, 4)) if bench.toy else (DiTConfig(), LATENT)
    dtype = torch.float32 if bench.toy else torch.bfloat16
    model = _network(config, bench.device, dtype)
    for form in ({"form": "dense"}, {"form": "sparse", "block": (4, 4, 4), "keep": 0.125}):
        attention = AttentionConfig.model_validate(form)
        name = f"step, {config.depth} blocks, {attention.form}"
        bench.attempt(name, partial(_steps, bench, model, latent, attention, dtype), needs_s=5)
    del model
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    if lacking := missing(("diffusers",)):
        bench.note(f"VAE left out: {how_to_install(lacking)}")
        return
    bench.attempt("VAE decode", lambda: _decode(bench, (2, 2, 2) if bench.toy else LATENT), needs_s=15)


def _network(config: DiTConfig, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """Lay out without storage and fill on the device: 13.6 B numbers take seconds there, minutes on a CPU."""
    with torch.device("meta"):
        model = DiT(config)
    model = model.to(dtype).to_empty(device=device).requires_grad_(False)
    for weight in model.parameters():
        weight.normal_(std=0.02)
    return model.eval()


def _steps(
    bench: Bench, model: nn.Module, latent: tuple[int, int, int], attention: AttentionConfig, dtype: torch.dtype
) -> dict[str, Figure]:
    use_attention(model, attention)
    config = model.config
    x = torch.randn(2, config.in_channels, *latent, device=bench.device, dtype=dtype)
    text = torch.randn(2, config.text_tokens, config.caption_channels, device=bench.device, dtype=dtype)
    t = torch.full((2,), 500.0, device=bench.device)
    with torch.no_grad():
        ms = bench.milliseconds(lambda: model(x, t, text), target_s=3.0)
    peak = torch.cuda.max_memory_allocated() / 2**30 if bench.device.type == "cuda" else None
    return {"ms": ms, "steps_per_s": 1000 / ms, "video_of_50_steps_s": 50 * ms / 1000, "peak_gib": peak}


def _decode(bench: Bench, latent: tuple[int, int, int]) -> dict[str, Figure]:
    from diffusers import AutoencoderKLWan

    toy = {"base_dim": 8, "z_dim": 4, "dim_mult": [1, 1, 1, 1], "temperal_downsample": [False, True, True],
           "num_res_blocks": 1, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4}  # fmt: skip
    dtype = torch.float32 if bench.toy else torch.bfloat16
    vae = AutoencoderKLWan(**(toy if bench.toy else {})).to(bench.device, dtype).eval()
    z = torch.randn(1, vae.config.z_dim, *latent, device=bench.device, dtype=dtype)
    with torch.no_grad():
        ms = bench.milliseconds(lambda: vae.decode(z, return_dict=False), target_s=1.0)
    frames = 4 * (latent[0] - 1) + 1
    peak = torch.cuda.max_memory_allocated() / 2**30 if bench.device.type == "cuda" else None
    return {"ms": ms, "frames_per_s": 1000 * frames / ms, "peak_gib": peak}
