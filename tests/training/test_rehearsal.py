"""Every shape is compiled before the first step, nothing after it, and what is learned stays the same."""

import os
import shutil
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend

from reelwright.model.dit import DiT
from reelwright.model.dtypes import DTYPES
from reelwright.training.data.buckets import Bucket
from reelwright.training.data.schedule import Shape
from reelwright.training.distributed.parallel import compile_for, parallelize
from reelwright.training.distributed.world import World
from reelwright.training.rehearsal import Rehearsal, open_own, rehearse
from reelwright.training.run import build
from tests.training.distilling import distilling, save_base, train
from tests.training.made_up import MadeUp, recipe_of, run

SHAPES = [Shape(Bucket(9, 32, 32), 2, 0), Shape(Bucket(9, 32, 32), 2, 1)]  # of MadeUp's t2v and i2v
RECIPE = recipe_of(
    steps=3, data={"batches_per_step": 1}, model={"depth": 1}, compute={"compile": True}, validation={"every": 0}
)


DISTILLATIONS = {
    "consistency": {"kind": "consistency", "teacher": "quick"},
    "dmd": {"kind": "dmd", "start": "quick", "critic_steps": 1},
}


class Odd(MadeUp):
    """Clips alone; the third step's micro-batch has one sample: a shape that nobody knew."""

    def validation(self):
        return []

    def _batch(self, step, micro, per_step):
        batch = super()._batch(step % 2 + 1, 0, per_step)
        batch.step = step
        if step != 2:
            return batch
        text = batch.text._replace(
            states=batch.text.states[: int(batch.text.lengths[0])], lengths=batch.text.lengths[:1]
        )
        text = text._replace(longest=int(text.lengths[0]))
        return replace(batch, latents=batch.latents[:1], text=text, seeds=batch.seeds[:1], clip_ids=batch.clip_ids[:1])


@pytest.mark.parametrize(
    ("frames", "clean", "task"), [(1, 0, "t2i"), (9, 0, "t2v"), (9, 1, "i2v"), (9, 2, "continuation")]
)
def test_a_made_up_batch_is_one_of_the_shape_s(frames, clean, task):
    long = RECIPE.model_copy(update={"model": RECIPE.model.model_copy(update={"text_tokens": 32})})
    batch = Rehearsal(long, SHAPES).batch(Shape(Bucket(frames, 32, 64), 3, clean))
    assert (batch.task, batch.cond_frames) == (task, clean)
    assert batch.latents.shape == (3, RECIPE.model.in_channels, (frames - 1) // 4 + 1, 4, 8)
    assert not batch.latents.any()
    assert batch.text.lengths.tolist() == [7] * 3
    assert batch.text.states.dtype == DTYPES[RECIPE.data.store_dtype]
    assert len(set(batch.seeds)) == batch.samples_in_step == 3
    assert batch.step < 0, "of no step"


def test_shapes_of_validation_are_rehearsed_once_and_without_a_backward_pass(tmp_path):
    micros = [SimpleNamespace(shape=SHAPES[i % 2]) for i in range(4)]
    rehearsal, seen, told = Rehearsal.of(RECIPE, SHAPES[:1], micros), [], []
    assert list(rehearsal.validation) == SHAPES
    compute = lambda batch, backward: seen.append((batch.cond_frames, backward))  # noqa: E731
    rehearse(rehearsal, compute, cache=tmp_path / "rank.bin", say=told.append)
    assert seen == [(0, True), (0, False), (1, False)]
    assert told[0] == "compiling for 3 shapes of micro-batches before the first step (nothing is cached yet)"
    assert told[-1].startswith("compiled for 3 shapes in ")


def test_nothing_is_compiled_after_step_0_and_weights_are_the_same(tmp_path):
    torch._dynamo.reset()
    counter, counts, world = CompileCounterWithBackend("eager"), [], World.alone("cpu")
    model, plain = (DiT(RECIPE.model).init_weights(0) for _ in range(2))
    parallelize(model, RECIPE.parallel, RECIPE.compute, world, backend=counter)
    run(
        RECIPE, tmp_path / "a", data=Odd(RECIPE, world), model=model, rehearsal=Rehearsal(RECIPE, SHAPES, SHAPES[:1]),
        on_weights=lambda model, step: counts.append(counter.frame_count),
    )  # fmt: skip
    assert counts[0] >= 3, "before the first step, with and without gradients"
    assert len(counts) == 4
    assert len(set(counts)) == 1, "and no more, whatever comes"
    run(RECIPE, tmp_path / "b", data=Odd(RECIPE, world), model=plain)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=1e-5, atol=1e-6)


@pytest.mark.exhaustive
@pytest.mark.skipif(shutil.which("g++") is None, reason="Inductor needs a compiler for C++")
def test_a_second_start_reads_what_the_first_compiled(tmp_path):
    """Each start has an empty cache of PyTorch's own, as on another machine."""
    from torch._dynamo.utils import counters
    from torch._inductor.utils import fresh_cache

    told, path = [], tmp_path / "cache" / "rank-00000.bin"

    def compilations():
        torch._dynamo.reset()
        counters.clear()
        compiled = torch.compile(lambda x: x.sin() + 1)
        shapes = Rehearsal(RECIPE, SHAPES[:1])
        with fresh_cache():
            rehearse(shapes, lambda batch, backward: compiled(batch.latents), cache=path, say=told.append)
        return counters["inductor"]["fxgraph_cache_miss"], counters["inductor"]["fxgraph_cache_hit"]

    assert compilations() == (1, 0)
    assert compilations() == (0, 1)
    assert [line for line in told if "before the first step" in line] == [
        f"compiling for 1 shapes of micro-batches before the first step ({where})"
        for where in ("nothing is cached yet", "from the run's cache")
    ]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["dmd", pytest.param("consistency", marks=pytest.mark.exhaustive)])
@pytest.mark.exhaustive
def test_every_role_is_compiled_before_the_first_step_too(kind, tmp_path):
    """Student, teacher, reference, and a critic whose own steps come between the student's."""
    torch._dynamo.reset()
    base, counts, world = save_base(tmp_path / "base.safetensors"), [], World.alone("cpu")
    train(distilling(base, {"kind": "consistency"}, steps=1), tmp_path / "quick")
    objective = {name: str(tmp_path / v) if v == "quick" else v for name, v in DISTILLATIONS[kind].items()}
    short = {"steps": 3, "data": {"batches_per_step": 1}, "validation": {"every": 0}}
    recipe = distilling(base, objective, **short)
    (plain, _), (model, _) = build(recipe, world), build(recipe, world)
    compiled = recipe.model_copy(update={"compute": recipe.compute.model_copy(update={"compile": True})})
    counter = CompileCounterWithBackend("eager")
    parallelize(model, compiled.parallel, compiled.compute, world, backend=counter)
    compile_for(4 * (1 + len(recipe.objective.adapters)))
    run(
        compiled, tmp_path / "a", data=Odd(compiled, world), model=model,
        rehearsal=Rehearsal(compiled, SHAPES, SHAPES[:1]),
        on_weights=lambda model, step: counts.append(counter.frame_count),
    )  # fmt: skip
    assert counts[0] >= len(recipe.objective.adapters)
    assert counts == counts[:1] * 4, "and no more, whatever comes"
    run(recipe, tmp_path / "b", data=Odd(recipe, world), model=plain)
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(model.state_dict()[name], tensor, rtol=0, atol=1e-3)  # a step moves a weight by 2e-2


def test_what_was_compiled_is_read_from_a_file_of_ones_own_alone(tmp_path):
    """Nor by a link: the artifacts are code."""
    path, link = tmp_path / "rank.bin", tmp_path / "link.bin"
    path.write_bytes(b"artifacts")
    link.symlink_to(path)
    for mode, ours in ((0o600, True), (0o644, True), (0o664, False), (0o602, False)):
        path.chmod(mode)
        handle = open_own(path)
        assert (handle is not None) == ours
        if handle is not None:
            os.close(handle)
    path.chmod(0o600)
    assert open_own(link) is None
    assert open_own(tmp_path / "none") is None
