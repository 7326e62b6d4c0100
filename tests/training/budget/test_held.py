"""What the planner says of a ring and of decoding, against bytes that are held while they run."""

from pathlib import Path

import pytest
import torch

from benchmarks.trace import decoded_numbers_per_px
from reelwright.model.codec import load_codec
from reelwright.model.config import CodecConfig, DiTConfig
from reelwright.training.budget.live_bytes import LiveBytes
from reelwright.training.budget.memory import plan_memory
from reelwright.training.budget.sampling import DECODED_NUMBERS_PER_PX, decoded_bytes
from reelwright.training.budget.traced import made_up_ranks
from reelwright.training.distributed import ring
from reelwright.training.recipe import TrainRecipe
from tests.model.published import save_vae

CONFIG = DiTConfig(hidden_size=64, depth=2, num_heads=4, caption_channels=24, adaln_tembed_dim=16)


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_a_ring_s_backward_pass_holds_what_is_planned(precision: str, dtype: torch.dtype) -> None:
    """Of 2 samples of 3 × 8 × 8 tokens over 4 ranks. The gradients that it returns are planned as activations."""
    recipe = TrainRecipe.model_validate({
        "model": CONFIG, "parallel": {"context": 4, "context_form": "ring"}, "text": {"tokens": 8, "dim": 24},
        "data": {"sizes": ["128x128"], "frames": [9], "ratios": ["1:1"], "tokens_per_batch": 384},
        "compute": {"precision": precision},
    })  # fmt: skip
    plan = plan_memory(recipe, ranks=8, device="cpu")
    samples, heads, dim, rows, columns = 2, 4, 16, (2, 2, 2, 2), 8
    tokens = 3 * rows[0] * columns
    with made_up_ranks(recipe.parallel, 8) as world:
        assert world.context_group is not None
        q, k, v, grad, out = torch.zeros(5, samples, heads, tokens, dim, dtype=dtype)
        lse = torch.zeros(samples, heads, tokens)
        route = (world.context_group.group_name, list(rows), columns, 3, 0, 0)
        backward = ring._backward._init_fn  # as a whole it is one operation, whose results alone are seen
        with LiveBytes() as live:
            results = backward(grad, q, k, v, out, lse, *route)
    held = max(size for size, _ in live.timeline())
    assert plan.bytes["ring's buffers"] == held - sum(result.nbytes for result in results)


@pytest.mark.exhaustive
def test_wan_s_decoder_holds_as_many_numbers_per_pixel_as_are_planned() -> None:
    before = torch.get_default_dtype()
    assert decoded_numbers_per_px(side=64) == pytest.approx(DECODED_NUMBERS_PER_PX, rel=0.02)
    assert torch.get_default_dtype() == before


@pytest.mark.parametrize("kind", ["wan", "dct"])
def test_a_decoded_video_holds_as_many_copies_as_are_planned(kind: str, tmp_path: Path) -> None:
    """By two sizes, tile by tile: what a tile takes is the same in both."""
    path = str(save_vae(tmp_path)) if kind == "wan" else ""
    config = CodecConfig.model_validate({"kind": kind, "path": path, "tile": 32} if path else {"kind": kind})
    codec, recipe = load_codec(config), TrainRecipe(codec=config)

    def held(side: int) -> int:
        latents = torch.zeros(1, 16, 1, side // 8, side // 8)
        with torch.no_grad(), LiveBytes() as live:
            codec.decode(latents)
        return max(size for size, _ in live.timeline())

    def planned(side: int) -> int:
        return decoded_bytes(recipe, (side, side), 1)

    assert planned(160) - planned(112) == pytest.approx(held(160) - held(112), rel=0.02)
