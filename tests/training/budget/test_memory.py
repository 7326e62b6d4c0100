"""The planner against what is really held: live storages of a real pass, counts, and the shape of its answers."""

from dataclasses import fields, replace

import pytest
import torch

from reelwright.model.config import AttentionConfig, DiTConfig, LoRAConfig
from reelwright.model.dit import DiT
from reelwright.training.budget.activations import Activations, measure, trace
from reelwright.training.budget.live_bytes import LiveBytes
from reelwright.training.budget.memory import (
    Counts,
    MemoryEstimate,
    _being_reduced,
    _gathered,
    _weights,
    batch_size,
    count_parameters,
    even_batches,
    heaviest,
    micro_batches_of,
    plan_memory,
    shape_of,
)
from reelwright.training.budget.sampling import DECODED_NUMBERS_PER_PX
from reelwright.training.budget.traced import Shape, TracedRun
from reelwright.training.data.buckets import Bucket, buckets_of
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.recipe import ComputeConfig, DataConfig, ParallelConfig, TrainRecipe
from reelwright.training.registry import AdapterPart

SMALL = DiTConfig(hidden_size=64, depth=4, num_heads=4, caption_channels=24, adaln_tembed_dim=16)
SHAPE = Shape(2, (3, 16, 16))
DATA = DataConfig(sizes=("128x128",), frames=(1, 9), tokens_per_batch=400, batches_per_step=4)
LONG = DiTConfig(hidden_size=512, num_heads=4, adaln_tembed_dim=64, caption_channels=64)  # 48 blocks, quick to trace
VIDEO = DataConfig(sizes=("480p",), tokens_per_batch=37440)
BIG = TrainRecipe(model=LONG, data=VIDEO, compute=ComputeConfig(checkpointing="full"))


def test_parameters_are_counted_by_where_they_lie_and_by_who_trains_them():
    model = DiT(SMALL)
    everything, blocks = (sum(p.numel() for p in part.parameters()) for part in (model, model.blocks))
    plain = count_parameters(SMALL, None, ComputeConfig())
    assert (plain.blocks, plain.rest, plain.all, plain.depth) == (blocks, everything - blocks, everything, 4)
    assert (plain.trained, plain.trained_in_blocks, plain.bytes) == (everything, blocks, 4 * everything)
    assert plain.optimizers == 1
    width, middle = 64, 16
    assert plain.modulation == 4 * 6 * width * (middle + 1)  # of each block, six vectors from the time's embedding
    lora = LoRAConfig(rank=2, alpha=2, targets=("*.attn.proj",))
    held = AdapterPart("reference", trained=False)
    parts = (AdapterPart("default"), AdapterPart("critic"), held)
    one, two = (count_parameters(SMALL, lora, ComputeConfig(), p) for p in (parts[:1], parts))
    assert one.trained == one.trained_in_blocks == 4 * 2 * (64 + 64)
    assert (two.trained, two.optimizers, one.optimizers) == (2 * one.trained, 2, 1)
    assert two.all == one.all + 2 * one.trained


def test_what_lies_on_a_rank_is_divided_by_the_ranks_that_share_it():
    recipe, averaged = TrainRecipe(), TrainRecipe(optim={"ema": 0.9})
    counts = Counts(blocks=800, modulation=80, rest=201, trained=1001, trained_in_blocks=800, depth=4, bytes=4004)
    assert _weights(recipe, counts, 1) == {"parameters": 4004, "gradients": 4004, "optimizer (AdamW)": 8008}
    assert _weights(averaged, counts, 4) == {
        "parameters": 1001, "gradients": 4 * 251, "optimizer (AdamW)": 8 * 251, "averaged weights": 4 * 251,
    }  # fmt: skip
    two = replace(counts, optimizers=2)  # one at a time has gradients
    assert _weights(recipe, two, 1) == {"parameters": 4004, "gradients": 4 * 501, "optimizer (AdamW)": 8008}


def test_gathered_weights_are_two_blocks_and_the_rest_or_all():
    """Blocks in bf16 but for their modulation, where ranks gather them so."""
    counts = Counts(blocks=800, modulation=80, rest=200, trained=1000, trained_in_blocks=800, depth=4, bytes=4000)
    recipe = TrainRecipe()
    assert _gathered(recipe, counts, half=False) == 4 * (2 * 200 + 200)
    assert _gathered(recipe, counts, half=True) == 2 * (180 * 2 + 20 * 4) + 4 * 200
    whole = TrainRecipe(parallel={"reshard_after_forward": False})
    assert _gathered(whole, counts, half=False) == 4 * 1000
    assert _gathered(recipe, replace(counts, depth=1), half=False) == 4 * 1000  # there is no second block


def test_gradients_on_their_way_are_two_blocks_or_all_where_they_stay_whole():
    counts = Counts(blocks=800, modulation=80, rest=200, trained=1000, trained_in_blocks=800, depth=4, bytes=4000)
    held = Activations(**{f.name: 0 for f in fields(Activations)} | {"growing": 70, "block": 300})
    recipe, whole = TrainRecipe(), TrainRecipe(parallel={"gradients": "whole"})
    assert _being_reduced(recipe, counts, held, 2) == 70 + (4 * 200 - 300)
    assert _being_reduced(recipe, counts, replace(held, block=900), 2) == 70  # its activations were more
    assert _being_reduced(whole, counts, held, 1) == 70 + (4 * 200 - 300)
    assert _being_reduced(whole, counts, held, 2) == 4 * 1000
    assert _being_reduced(whole, replace(counts, optimizers=2), held, 2) == 4 * 500


def test_micro_batches_come_out_even_or_the_next_number_that_does_is_told():
    recipe = TrainRecipe(data={"batches_per_step": 12}, parallel={"replicate": 2, "context": 2})
    assert micro_batches_of(recipe, 8) == 3  # 2 replicas of 2 shards, each of 2 ranks that share samples
    assert even_batches(recipe, 8) == 12
    assert even_batches(recipe, 20) == 20
    with pytest.raises(TrainError, match=r"no multiple of the 10 ranks that take batches; set it to 20"):
        micro_batches_of(recipe, 20)


def test_the_heaviest_buckets_are_an_image_s_and_a_video_s_with_their_captions():
    """A caption's token weighs 0.11 of a grid's; a bucket that is larger than a batch has one sample."""
    data = DataConfig(sizes=("64x64", "128x128"), frames=(1, 9, 17), ratios=("1:1",), tokens_per_batch=100)
    of = {b: b.tokens(SMALL.patch_size) for b in buckets_of(data)}
    assert sorted(of.values()) == [16, 48, 64, 80, 192, 320]
    assert [batch_size(b, data, SMALL) for b in sorted(of, key=of.get)] == [6, 2, 1, 1, 1, 1]
    assert [of[b] for b in heaviest(TrainRecipe(model=SMALL, data=data))] == [16, 320]
    images = data.model_copy(update={"frames": (1,), "sizes": ("64x64", "96x96"), "tokens_per_batch": 47})
    for captions, expect in ((36, 36), (37, 16)):  # 2 · 16 tokens with two captions, or 36 with one: 4 = 0.11 · 36.4
        (found,) = heaviest(TrainRecipe(model=SMALL, data=images, text={"tokens": captions}))
        assert found.tokens(SMALL.patch_size) == expect


def test_where_long_attention_is_kept_the_heaviest_samples_that_have_it_are_told_too():
    """As many tokens in images of 1,024 and of 2,048 tokens: attention is kept of the latter alone."""
    data = DataConfig(sizes=("512x512", "512x1024"), frames=(1,), ratios=("1:1",), tokens_per_batch=4096)
    found, peaks = {}, {}
    for form in ("attention", "full"):
        recipe = TrainRecipe(model=SMALL, data=data, compute={"checkpointing": form})
        found[form] = [b.tokens(SMALL.patch_size) for b in heaviest(recipe)]
        peaks[form] = [trace(recipe, shape_of(recipe, b)).peak for b in buckets_of(data)]
    assert found == {"attention": [1024, 2048], "full": [1024]}
    assert peaks["attention"][1] > peaks["full"][1]
    assert peaks["attention"][0] == peaks["full"][0]


@pytest.mark.parametrize(
    ("tasks", "frames", "clean"),
    [({"t2v": 1}, 9, 0), ({"i2v": 1}, 9, 1), ({"t2v": 1, "continuation": 1}, 9, 1), ({"i2v": 1, "t2i": 1}, 1, 0)],
)
def test_a_clean_frame_is_planned_where_a_task_has_one(tasks, frames, clean):
    shape = shape_of(TrainRecipe(model=SMALL, data=DATA, tasks=tasks), Bucket(frames, 128, 128))
    assert shape == Shape(max(1, 400 // (64 * (1 + frames // 4))), ((frames - 1) // 4 + 1, 16, 16), clean)


def test_an_estimate_s_time_and_utilisation_are_each_other_s_inverse_and_its_total_the_worse_peak():
    recipe, image = TrainRecipe(model=SMALL, data=DATA), Bucket(1, 128, 128)
    counts = Counts(blocks=8, modulation=1, rest=2, trained=10, trained_in_blocks=8, depth=4, bytes=40)
    of = {"recipe": recipe, "ranks": 8, "layout": (1, 8, 1), "counts": counts, "bucket": image, "batch": 6}
    plan = MemoryEstimate(**of, micro_batches=1, bytes={"a": 30, "b": 12}, costly=image, flops=4000, sampling=41)
    assert plan.seconds(mfu=0.5, peak_flops=100.0) == 4000 / (0.5 * 100 * 8) == 10
    assert plan.mfu(seconds=10.0, peak_flops=100.0) == 0.5
    assert (plan.total, replace(plan, sampling=43).total) == (42, 43)
    assert plan.tokens_of(image) == 6 * 64 * 4  # of a step's 4 micro-batches
    assert plan.tokens == max(6 * 64, 2 * 192) * 4


@pytest.mark.parametrize(
    "checkpointing", [pytest.param("none", marks=pytest.mark.exhaustive), "attention", "selective", "full"]
)
@pytest.mark.parametrize(
    ("precision", "lora"),
    [pytest.param("fp32", None, marks=pytest.mark.exhaustive), ("bf16", LoRAConfig(rank=4, alpha=4))],
)
@pytest.mark.every(2)
def test_a_trace_of_few_blocks_without_storage_is_a_real_pass_of_all(checkpointing, precision, lora):
    compute = ComputeConfig(precision=precision, checkpointing=checkpointing)
    recipe = TrainRecipe(model=SMALL, lora=lora, compute=compute, text={"tokens": 8})
    peak, *_ = measure(TracedRun(recipe, World.alone("cpu"), SHAPE, sharded=False))
    assert trace(recipe, SHAPE).peak == pytest.approx(peak, rel=0.02)


def test_captions_longer_than_their_images_are_extrapolated_too():
    """Their gradients are summed from the second block on: once, not per block."""
    deep = SMALL.model_copy(update={"depth": 12})
    recipe = TrainRecipe(model=deep, compute={"checkpointing": "full"}, text={"tokens": 64})
    shape = Shape(4, (1, 8, 8))
    peak, *_ = measure(TracedRun(recipe, World.alone("cpu"), shape, sharded=False))
    assert trace(recipe, shape).peak == pytest.approx(peak, rel=0.02)


def test_live_bytes_counts_what_is_made_until_it_is_freed_and_no_views():
    there = torch.zeros(100)
    with LiveBytes() as live:
        view = there.view(10, 10)
        a = view + 1
        b = a * 2
        del a
        c = b + 1
    assert max(size for size, _ in live.timeline()) == 800
    assert live.timeline(apart=[c])[-1] == (400, 400)
    del b, c
    assert live.timeline()[-1] == (0, 0)


def test_a_trace_leaves_no_fake_tensors_behind():
    trace(TrainRecipe(model=SMALL, objective={"weight_at": "level"}), SHAPE)
    x, text = torch.randn(1, 16, 3, 16, 16), torch.randn(1, 8, 24)
    assert torch.isfinite(DiT(SMALL)(x, torch.zeros(1), text)).all()


def test_weights_gradients_and_states_on_one_rank():
    plan = plan_memory(TrainRecipe(model=SMALL, data=DATA), device="cpu")
    count = sum(p.numel() for p in DiT(SMALL).parameters())
    assert plan.counts.all == plan.counts.trained == count
    assert plan.bytes["parameters"] == plan.bytes["gradients"] == 4 * count
    assert plan.bytes["optimizer (AdamW)"] == 8 * count
    assert plan.total == sum(plan.bytes.values())


def test_one_gpu_holds_what_one_cpu_does_and_its_libraries():
    """Autocast's copies of weights too: nothing gathers these in bf16."""
    recipe = TrainRecipe(model=SMALL, data=DATA)
    cpu, gpu = (plan_memory(recipe, device=device).bytes for device in ("cpu", "cuda"))
    assert gpu == cpu | {"CUDA and libraries": 2 * 1024**3}


@pytest.mark.exhaustive
def test_what_sharding_divides_and_what_it_does_not():
    one, two, eight = (plan_memory(BIG, ranks=n) for n in (1, 2, 8))
    for kind in ("parameters", "gradients", "optimizer (AdamW)"):
        assert one.bytes[kind] == pytest.approx(8 * eight.bytes[kind], rel=1e-6)
        assert one.bytes[kind] == pytest.approx(2 * two.bytes[kind], rel=1e-6)
    assert two.bytes["activations"] == eight.bytes["activations"]
    gathered = 2 * eight.counts.blocks + 2 * eight.counts.modulation  # all in bf16, but for the modulation
    assert eight.bytes["gathered weights"] < 0.06 * gathered + 4 * eight.counts.rest
    zero2 = BIG.model_copy(update={"parallel": ParallelConfig(reshard_after_forward=False)})
    assert plan_memory(zero2, ranks=8).bytes["gathered weights"] == gathered + 4 * eight.counts.rest
    context = BIG.model_copy(update={"parallel": ParallelConfig(context=4)})
    shared = plan_memory(context, ranks=8)
    assert shared.bytes["parameters"] == eight.bytes["parameters"]
    assert shared.bytes["activations"] < 0.4 * eight.bytes["activations"]


@pytest.mark.exhaustive
def test_lora_trains_its_adapters_alone():
    plan = plan_memory(BIG.model_copy(update={"lora": LoRAConfig(rank=1, alpha=1)}), ranks=8)
    assert plan.counts.trained < 0.01 * plan.counts.all
    assert plan.bytes["optimizer (AdamW)"] == pytest.approx(plan.counts.trained, rel=1e-6)  # 8 bytes over 8 ranks
    assert 2 * plan.counts.all < 8 * plan.bytes["parameters"] < 2.7 * plan.counts.all  # the frozen ones are bf16


def test_a_block_s_input_is_all_that_full_checkpointing_keeps():
    held = trace(BIG, Shape(1, (24, 60, 104)), half=True)
    assert held.block == pytest.approx(24 * 30 * 52 * 512 * 2, rel=0.01)  # bf16


def test_attention_s_output_is_all_that_attention_checkpointing_keeps_beside_it():
    compute = ComputeConfig(checkpointing="attention")
    held = trace(BIG.model_copy(update={"compute": compute}), Shape(1, (24, 60, 104)), half=True)
    heads = 4 * 4  # log-sum-exps in fp32
    assert held.block == pytest.approx(24 * 30 * 52 * (2 * 512 * 2 + heads), rel=0.01)


def test_the_widest_strip_is_planned_for():
    """Of 45 rows, the first of four ranks in a ring has 12."""
    parallel = {"parallel": {"context": 4, "context_form": "ring"}, "compute": {"checkpointing": "full"}}
    recipe = TrainRecipe.model_validate({"model": LONG, "data": VIDEO, **parallel})
    held = trace(recipe, Shape(1, (24, 90, 160)), half=True)
    assert held.block == pytest.approx(24 * (12 * 80 * 512 * 2 + 6 * 512 * 4), rel=0.01)  # tokens, and their modulation


ENCODERS = {"codec": {"kind": "wan", "path": "x", "dtype": "bf16"}, "text": {"kind": "umt5", "path": "x"}}
SAMPLED = {"model": SMALL, "data": DATA, "optim": {"ema": 0.9}, "samples": {"every": 1, "prompts": ["a"]}}


def test_encoders_and_a_copy_of_the_weights_are_there_while_sampling():
    quiet, plan = (TrainRecipe.model_validate(SAMPLED | extra) for extra in ({"samples": {}}, ENCODERS))
    held, plan = plan_memory(quiet, device="cpu"), plan_memory(plan, device="cpu")
    weights = held.counts.all * 4
    assert held.sampling == 0
    assert "VAE of samples" not in held.bytes
    assert plan.sampling == 2 * 127_000_000 + 4 * 5_680_000_000 + 5 * weights  # weights, AdamW's two, averages, a copy
    assert plan.total == plan.sampling > sum(plan.bytes.values())
    assert plan.bytes["VAE of samples"] == 2 * 127_000_000
    sizes = {"latents": 2 * 127_000_000, "text": 4 * 5_680_000_000}
    for encode, size in (("on_the_fly", sum(sizes.values())), *(({name: "cached"}, sizes[name]) for name in sizes)):
        data = DATA.model_dump() | {"encode": encode}
        fly = TrainRecipe.model_validate(SAMPLED | ENCODERS | {"data": data})
        there = plan_memory(fly, device="cpu").bytes
        assert there["VAE and text encoder"] == size
        assert ("VAE of samples" in there) == (encode == {"text": "cached"}), "one VAE serves both"


def test_a_tile_is_planned_while_a_sample_is_decoded_not_a_whole_picture():
    """The small text encoder leaves decoding as the worst time."""
    samples = {"samples": {"every": 1, "prompts": ["a"], "size": (832, 480)}}
    codecs = ({"codec": {**ENCODERS["codec"], "tile": tile}} for tile in (0, 512))
    small, large = (TrainRecipe.model_validate({**SAMPLED, **samples, **codec}) for codec in codecs)
    first, second = (plan_memory(r, device="cpu").sampling for r in (small, large))
    assert second - first == pytest.approx((512 * 480 - 256 * 256) * 2 * DECODED_NUMBERS_PER_PX, rel=0.01)


@pytest.mark.exhaustive
def test_captions_decide_which_micro_batch_is_the_worst():
    """At the same tokens of their grids, images bring more captions."""
    few, many = (TrainRecipe(model=SMALL, data=DATA, text={"tokens": n}) for n in (1, 512))
    worst = plan_memory(many, device="cpu")
    assert worst.bucket.key == "1x128x128"
    assert worst.batch == 400 // 64

    def lead(recipe: TrainRecipe) -> int:
        """Bytes that images hold more than the video."""
        image, video = (plan_memory(recipe, device="cpu", bucket=Bucket(f, 128, 128)) for f in (1, 9))
        return image.bytes["activations"] - video.bytes["activations"]

    assert lead(many) > 10 * abs(lead(few))


@pytest.mark.exhaustive
@pytest.mark.parametrize(("sizes", "tokens"), [(("256p", "480p"), 40_000), (("480p", "720p"), 90_000)])
def test_no_bucket_of_a_recipe_holds_more_than_those_that_are_traced(sizes, tokens):
    """Images of 720p are long enough for their attention to be kept, those of 480p are not."""
    ratios = ("9:16", "1:1", "3:2")
    data = DataConfig(sizes=sizes, frames=(1, 33, 93), tokens_per_batch=tokens, ratios=ratios)
    config = DiTConfig(hidden_size=128, num_heads=1, adaln_tembed_dim=16, caption_channels=128)
    recipe = TrainRecipe(model=config, data=data, compute=ComputeConfig(checkpointing="attention"))
    worst = max(trace(recipe, shape_of(recipe, b), half=True).peak for b in buckets_of(data))
    found = max(trace(recipe, shape_of(recipe, b), half=True).peak for b in heaviest(recipe))
    assert found > 0.97 * worst


@pytest.mark.exhaustive
def test_time_and_utilisation_are_each_other_s_inverse():
    plan = plan_memory(BIG, ranks=8)
    seconds = plan.seconds(mfu=0.35, peak_flops=989.5e12)
    assert plan.mfu(seconds=seconds, peak_flops=989.5e12) == pytest.approx(0.35)
    assert plan.flops > 5 * plan.counts.blocks * plan.tokens  # 6 N per token but for modulation and text, and attention


@pytest.mark.exhaustive
def test_the_tokens_of_a_step_are_those_of_its_fullest_bucket():
    data = DataConfig(sizes=("64x64",), frames=(1, 9, 17), ratios=("1:1",), tokens_per_batch=64, batches_per_step=3)
    plan = plan_memory(TrainRecipe(model=SMALL, data=data), device="cpu")
    each = {bucket.frames: plan.tokens_of(bucket) for bucket in buckets_of(data)}
    assert each == {1: 3 * 4 * 16, 9: 3 * 1 * 48, 17: 3 * 1 * 80}  # 4 × 4 tokens a latent frame; one clip at least
    assert plan.tokens == 3 * 80


@pytest.mark.exhaustive
def test_a_gpu_holds_two_gib_beside_the_tensors():
    kinds = {device: plan_memory(BIG, ranks=8, device=device).bytes for device in ("cuda", "cpu")}
    assert kinds["cuda"]["CUDA and libraries"] == 2 * 1024**3
    assert "CUDA and libraries" not in kinds["cpu"]


def test_sparse_attention_takes_fewer_operations():
    dense = TrainRecipe(model=SMALL, data=DATA.model_copy(update={"frames": (9,)}))
    sparse = dense.model_copy(update={"attention": AttentionConfig(form="sparse", block=(1, 2, 2), keep=1 / 16)})
    assert plan_memory(sparse, device="cpu").flops < 0.95 * plan_memory(dense, device="cpu").flops


def test_ranks_that_do_not_fit_are_one_sentence():
    with pytest.raises(TrainError, match="batches_per_step 8 is no multiple of the 3 ranks.*set it to 9"):
        plan_memory(BIG, ranks=3)
