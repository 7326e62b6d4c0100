"""Compiled blocks compute what eager ones do, in one graph for all of them and each shape of batch."""

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from torch.distributed.tensor import DTensor

from reelwright.model.attention import dense_attention
from reelwright.model.config import AttentionConfig
from reelwright.model.sparse import use_attention
from reelwright.training.distributed.context import context_parallel
from reelwright.training.distributed.parallel import parallelize
from reelwright.training.distributed.world import World, start
from reelwright.training.objectives.flow import FlowConfig, flow_loss
from reelwright.training.recipe import ComputeConfig, ParallelConfig, TrainRecipe
from tests.training.ranks import ranks
from tests.training.steps import CONFIG, PLAIN, make_batch, tiny

BACKEND = "aot_eager"
"""Graphs of forward and backward as Inductor gets them, run as they are: no C++ compiler, no rounding of its own."""


@pytest.mark.parametrize(
    ("form", "precision", "batches"),
    [
        pytest.param("none", "fp32", ((1, 1), (2, 0)), marks=pytest.mark.exhaustive),  # samples, condition frames
        ("selective", "bf16", ((1, 1),)),
        pytest.param("full", "fp32", ((1, 1),), marks=pytest.mark.exhaustive),
    ],
)
def test_outputs_and_gradients_are_those_of_eager_blocks(
    form: str, precision: str, batches: tuple[tuple[int, int], ...]
) -> None:
    torch._dynamo.reset()
    counter = CompileCounterWithBackend(BACKEND)
    plain, options = tiny(), {"checkpointing": form, "precision": precision, "compile": True}
    compiled = parallelize(
        tiny(), ParallelConfig(), ComputeConfig.model_validate(options), World.alone("cpu"), backend=counter
    )
    for graphs, (samples, cond) in enumerate(batches, start=1):
        expect, found = (_pass(model, samples, cond, precision) for model in (plain, compiled))
        near = {"rtol": 1e-5, "atol": 1e-5} if precision == "fp32" else {"rtol": 2e-2, "atol": 2e-2}
        for a, b in zip(found, expect, strict=True):
            torch.testing.assert_close(a / b.abs().max(), b / b.abs().max(), **near)
        assert counter.frame_count == graphs


def _pass(model: torch.nn.Module, samples: int, cond: int, precision: str) -> list[torch.Tensor]:
    """The output, and every gradient."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(samples, CONFIG.in_channels, 3, 8, 4, generator=generator)
    text = torch.randn(samples, 5, CONFIG.caption_channels, generator=generator)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16", cache_enabled=False):
        out = model(x, torch.full((samples,), 300.0), text, cond_frames=cond)
    out.float().square().mean().backward()
    return [out.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


SPARSE = AttentionConfig(form="sparse", block=(1, 2, 2), keep=0.5)
LAYOUTS: tuple[tuple[str, str, AttentionConfig], ...] = (
    ("ulysses", "full", AttentionConfig()),
    ("ring", "attention", AttentionConfig()),
    ("ring", "full", SPARSE),
)
"""Form, checkpointing, attention."""


@pytest.mark.exhaustive
def test_sharded_blocks_on_strips_are_compiled_and_change_nothing() -> None:
    """FSDP2 and context parallelism, with activations made anew. A dense ring is in the one graph; around a ring of
    sparse attention there are several, as it is in none.
    """
    expect = [_pass_of_one(ParallelConfig(), World.alone("cpu"), PLAIN, of)[1] for of in (AttentionConfig(), SPARSE)]
    for graphs, gradients in ranks(2, _compiled):
        assert graphs[:2] == [1, 1]
        assert graphs[2] > 1
        for found, right in zip(gradients, (expect[0], expect[0], expect[1]), strict=True):
            torch.testing.assert_close(torch.tensor(found), torch.tensor(right), rtol=1e-4, atol=1e-5)


def _compiled() -> tuple[list[int], list[list[float]]]:
    found = []
    for form, checkpointing, attention in LAYOUTS:
        torch._dynamo.reset()
        parallel = ParallelConfig.model_validate({"context": 2, "context_form": form})
        options = {"precision": "fp32", "checkpointing": checkpointing, "compile": True}
        compute = ComputeConfig.model_validate(options)
        found.append(_pass_of_one(parallel, start(parallel, device="cpu"), compute, attention))
    return [graphs for graphs, _ in found], [gradients for _, gradients in found]


def _pass_of_one(
    parallel: ParallelConfig, world: World, compute: ComputeConfig, attention: AttentionConfig
) -> tuple[int, list[float]]:
    """Of a batch with a clean frame, forward and backward: graphs, and the norm of every parameter's gradient."""
    recipe = TrainRecipe(parallel=parallel, compute=compute, attention=attention)
    counter = CompileCounterWithBackend(BACKEND)
    model = parallelize(tiny(), parallel, compute, world, backend=counter, regions=recipe.in_regions)
    attend = use_attention(model, attention)
    context = context_parallel(model, parallel, world, attend or dense_attention)
    batch = make_batch(0, 1)
    batch = context.share(batch, CONFIG.patch_size) if context else batch
    flow_loss(model, batch, FlowConfig()).total.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    whole = (g.full_tensor() if isinstance(g, DTensor) else g for g in gradients)
    return counter.frame_count, [float(g.norm()) for g in whole]
