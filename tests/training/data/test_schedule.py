"""Laws of the sampler: deterministic, the same whatever the ranks, every clip as often as its weight, nothing
dropped."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.rank_balance import clips, lockstep
from reelwright.model.config import DiTConfig
from reelwright.training.data.draws import permuted
from reelwright.training.data.draws import rows_of as rows_drawn
from reelwright.training.data.holdout import hashes, held_out
from reelwright.training.data.plan import read_plan, write_plan
from reelwright.training.data.schedule import Schedule, caption_choice
from reelwright.training.errors import TrainError
from reelwright.training.recipe import DataConfig, TaskConfig
from reelwright.training.recipe_file import load_recipe
from tests.conftest import ROOT

ALL = TaskConfig(t2i=1, t2v=2, i2v=1, continuation=1)


def rows_of(count: int, seed: int = 0, *, weights=None, sources: int = 0) -> pa.Table:
    rng = np.random.default_rng(seed)
    return pa.table({
        "clip_id": [f"{i:06x}" for i in rng.permutation(count)],
        "weight": rng.lognormal(size=count) if weights is None else weights,
        "width": rng.choice([160, 320, 640], count),
        "height": rng.choice([96, 192, 320], count),
        "fps": rng.choice([15.0, 24.0, 30.0], count),
        "num_frames": rng.integers(1, 200, count),
        "source_md5": [f"s{i % sources if sources else i}" for i in range(count)],
    })  # fmt: skip


def plan_of(count: int = 60, seed: int = 0, tasks: TaskConfig = ALL, block: int = 64, **data) -> Schedule:
    options = {
        "sizes": ("64p", "128p"),
        "frames": (1, 17, 33),
        "tokens_per_batch": 900,
        "batches_per_step": 4,
        "holdout": 0.1,
    }
    return Schedule(rows_of(count), DataConfig(**(options | data)), tasks, DiTConfig(), seed, block=block)


def draws(plan: Schedule, number: int) -> list[tuple[str, int]]:
    """Clip and index of the draws of a pass: as many as there are training clips."""
    size, found = len(plan.train), []
    first, last = number * size, (number + 1) * size
    for block in range(first // plan.block, -(-last // plan.block)):
        found += [(d.clip_id, d.index) for k in plan.block_batches(block) for d in plan.batch(k).samples]
    return [(clip, index) for clip, index in found if first <= index < last]


@settings(max_examples=15, deadline=None)
@given(count=st.integers(3, 80), seed=st.integers(-5, 2**40), epoch=st.integers(0, 3))
def test_in_a_pass_every_clip_appears_as_often_as_its_weight_says(count, seed, epoch):
    plan = plan_of(count, seed)
    seen = Counter(clip for clip, _ in draws(plan, epoch))
    ids = plan.clip_ids.take(plan.train).to_pylist()
    assert sum(seen.values()) == len(ids)
    assert set(seen) <= set(ids)
    for clip, expected in zip(ids, plan.expected, strict=True):
        assert abs(seen[clip] - expected) < 1 + 1e-9


@given(
    weights=st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=200),
    seed=st.integers(0, 1000),
    number=st.integers(0, 9),
)
def test_a_pass_draws_each_clip_within_one_of_its_weight(weights, seed, number):
    expected = np.array(weights) * len(weights) / sum(weights)
    edges = np.cumsum(expected) * (len(weights) / np.cumsum(expected)[-1])
    serials = np.arange(number * len(weights), (number + 1) * len(weights))
    rows = rows_drawn(serials, edges, len(weights), seed)
    counts = np.bincount(rows, minlength=len(weights))
    assert counts.sum() == len(weights) == len(counts)
    assert (abs(counts - expected) < 1 + 1e-6).all()
    some = np.random.default_rng(seed).permutation(len(serials))[:10]
    assert (rows_drawn(serials[some], edges, len(weights), seed) == rows[some]).all(), "each draw by its number alone"


@given(count=st.integers(1, 3000), key=st.integers(0, 2**63))
def test_a_permutation_holds_each_place_once(count, key):
    order = permuted(np.arange(count), count, np.uint64(key))
    assert (np.sort(order) == np.arange(count)).all()


def test_passes_are_in_orders_of_their_own_without_pattern():
    """Neighbours of one order are no neighbours in the next; places rank as random numbers do."""
    one, other = (permuted(np.arange(5000), 5000, np.uint64(key)) for key in (1, 2))
    for order in (one, other):
        assert abs(np.corrcoef(order[1:], order[:-1])[0, 1]) < 0.05
        assert abs(np.corrcoef(order, np.arange(5000))[0, 1]) < 0.05
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.05


def test_no_sample_is_seen_twice_and_none_is_left_over():
    plan = plan_of()
    indices = [d.index for block in range(4) for k in plan.block_batches(block) for d in plan.batch(k).samples]
    assert sorted(indices) == list(range(4 * plan.block))


def test_a_micro_batch_knows_how_many_samples_come_before_it():
    plan, before = plan_of(), 0
    for k in range(plan.block_batches(3).stop):
        assert plan.batch(k).place == before
        before += len(plan.batch(k).samples)
    assert len({len(plan.batch(k).samples) for k in range(plan.block_batches(3).stop)}) > 1


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_ranks_share_each_step_without_overlap_and_the_step_does_not_depend_on_them(ranks):
    alone, shared = plan_of(), plan_of()
    for i in range(12):
        parts = [shared.step(i)[rank::ranks] for rank in range(ranks)]
        mine = [d.index for part in parts for m in part for d in m.samples]
        assert len(mine) == len(set(mine))
        assert sorted(mine) == sorted(d.index for m in alone.step(i) for d in m.samples)


def footage(count: int = 4000) -> pa.Table:
    """Clips of 2 to 20 s in four shapes, as long as they come."""
    rng = np.random.default_rng(0)
    sizes = np.array(((1280, 720), (720, 1280), (1080, 1080), (1440, 1080)))[
        rng.choice(4, count, p=(0.7, 0.15, 0.05, 0.1))
    ]
    return (
        rows_of(count, weights=[1.0] * count)
        .set_column(2, "width", pa.array(sizes[:, 0]))
        .set_column(3, "height", pa.array(sizes[:, 1]))
        .set_column(
            5, "num_frames", pa.array(np.rint(24 * np.exp(rng.uniform(np.log(2.5), np.log(20), count))).astype(int))
        )
    )


MIXED = {"sizes": ("480p",), "frames": (1, 33, 61, 93), "tokens_per_batch": 40_000, "batches_per_step": 64}


def test_ranks_side_by_side_wait_little_and_every_step_has_every_task_in_its_share():
    plan = Schedule(footage(), DataConfig(**MIXED), ALL, DiTConfig(), 0, block=30_000)
    steps = [plan.step(i) for i in range(plan.block_batches(1).stop // 64)]  # with those of blocks' ends
    for ranks in (8, 16, 32, 64):
        costs = [[plan.cost(m) for m in step] for step in steps]
        lockstep = sum(max(of[i : i + ranks]) for of in costs for i in range(0, 64, ranks))
        assert 1 - sum(map(sum, costs)) / ranks / lockstep < 0.05
    expected = np.array(plan.plan.facts.expected).sum(0)
    expected /= expected.sum()
    shares = np.array([_samples(plan, step) for step in steps], float)
    shares /= shares.sum(1, keepdims=True)
    off = abs(shares - expected).max(1)
    assert off.max() < 0.08, "a band of 200 draws has 3 points more or fewer of a task by chance"
    assert np.quantile(off, 0.98) < 0.035


@pytest.mark.parametrize(
    "stage",
    [pytest.param("stage2-t2v-256p", marks=pytest.mark.exhaustive),
     pytest.param("stage3-all-256p", marks=pytest.mark.exhaustive), "stage5-all-720p"],
)  # fmt: skip
def test_ranks_wait_little_and_steps_have_their_shares_in_the_other_stages(stage):
    """Stage 4 is above; every step of a block of draws."""
    recipe = load_recipe(ROOT / "configs/train" / f"{stage}.yaml")
    plan = Schedule(clips(), recipe.data, recipe.tasks, recipe.model, recipe.seed)
    steps = [plan.step(i) for i in range(len(plan.block_batches(0)) // recipe.data.batches_per_step)]
    costs = [[plan.cost(m) for m in step] for step in steps]
    for ranks in (8, 16, 32, 64):
        assert 1 - sum(map(sum, costs)) / ranks / sum(lockstep(of, ranks) for of in costs) < 0.05, ranks
    shares = np.array([_samples(plan, step) for step in steps], float)
    expected = np.array(plan.plan.facts.expected).sum(0)
    assert abs(shares / shares.sum(1, keepdims=True) - expected / expected.sum()).max() < 0.05


def _samples(plan: Schedule, step: list) -> list[int]:
    """Of each task."""
    return [sum(len(m.samples) for m in step if m.task == task) for task in plan.names]


@settings(max_examples=10, deadline=None)
@given(per_step=st.sampled_from([1, 2, 3, 8, 64]), seed=st.integers(0, 99), block=st.sampled_from([7, 64, 500]))
def test_steps_are_whole_and_no_draw_is_lost_however_blocks_end(per_step, seed, block):
    plan = plan_of(60, seed, batches_per_step=per_step, block=block)
    last = plan.block_batches(3).stop
    steps = [plan.step(i) for i in range(last // per_step)]
    assert all(len(step) == per_step for step in steps)
    seen = [d.index for step in steps for m in step for d in m.samples]
    assert len(seen) == len(set(seen))
    rest = [d.index for k in range(last // per_step * per_step, last) for d in plan.batch(k).samples]
    assert sorted(seen + rest) == list(range(4 * plan.block))


def test_shapes_are_known_before_the_first_draw_and_few():
    plan = plan_of(200, block=20_000, batches_per_step=8)
    known, seen = plan.shapes(), Counter(plan.batch(k).shape for k in plan.block_batches(0))
    assert known == [*dict.fromkeys(known)]
    assert sum(n for shape, n in seen.items() if shape not in known) / seen.total() < 0.02
    left_over = [n for shape, n in seen.items() if shape not in known]
    assert max(left_over) <= plan.mixture.bands * len(plan.names), "one per kind"
    assert len({(shape.bucket, shape.cond_frames) for shape in known if shape.bucket.frames > 1}) == len(
        [shape for shape in known if shape.bucket.frames > 1]
    ), "one number of samples per bucket of clips"


def test_a_handful_of_clips_fills_its_micro_batches():
    """Four clips and three tasks gave 1.3 samples per micro-batch where blocks were single passes."""
    rows = rows_of(4, weights=[1.0] * 4)
    rows = rows.set_column(5, "num_frames", pa.array([100] * 4)).set_column(4, "fps", pa.array([15.0] * 4))
    data = DataConfig(sizes=("64p",), frames=(17,), tokens_per_batch=320, batches_per_step=1, holdout=0)
    plan = Schedule(rows, data, TaskConfig(t2i=0, t2v=2, i2v=1, continuation=1), DiTConfig(), block=2000)
    sizes = [len(plan.batch(k).samples) for k in range(200)]
    assert np.mean(sizes) > 3.9


def test_resuming_at_step_k_gives_the_tail():
    whole = [plan_of().step(i) for i in range(30)]
    resumed = plan_of()
    assert [resumed.step(i) for i in range(17, 30)] == whole[17:]
    assert [plan_of(seed=1).step(i) for i in range(30)] != whole


def test_the_order_of_the_rows_does_not_matter():
    rows, args = rows_of(40), (DataConfig(sizes=("64p",), frames=(1, 17)), ALL, DiTConfig(), 3)
    shuffled = rows.take(np.random.default_rng(1).permutation(40))
    assert Schedule(rows, *args).step(2) == Schedule(shuffled, *args).step(2)


def test_batches_are_of_one_shape_and_task_and_keep_the_budget():
    plan = plan_of(tasks=ALL.model_copy(update={"condition_frames": (13, 5)}))
    conds = Counter()
    for i in range(40):
        for m in plan.step(i):
            assert 1 <= len(m.samples) <= max(1, 900 // m.bucket.tokens())
            assert (m.bucket.frames == 1) == (m.task == "t2i")
            conds[m.task, m.cond_frames] += 1
            assert m.cond_frames < m.bucket.latent[0]
    assert set(conds) == {("t2i", 0), ("t2v", 0), ("i2v", 1), ("continuation", 4), ("continuation", 2)}


def test_tasks_and_sizes_are_drawn_by_their_weights():
    rows = rows_of(400, weights=[1.0] * 400)
    rows = rows.set_column(2, "width", pa.array([640] * 400)).set_column(3, "height", pa.array([320] * 400))
    rows = rows.set_column(5, "num_frames", pa.array([200] * 400))
    data = DataConfig(sizes=("128p", "64p"), size_weights=(3, 1), frames=(1, 33), batches_per_step=1, holdout=0)
    plan = Schedule(rows, data, ALL, DiTConfig(), block=4000)
    tasks, sizes = Counter(), Counter()
    for k in plan.block_batches(0):
        m = plan.batch(k)
        tasks[m.task] += len(m.samples)
        sizes[m.bucket.height * m.bucket.width > 8000] += len(m.samples)
    assert tasks["t2v"] / 4000 == pytest.approx(0.4, abs=0.03)
    assert tasks["t2i"] / 4000 == pytest.approx(0.2, abs=0.03)
    assert sizes[True] / 4000 == pytest.approx(0.75, abs=0.03)


def test_clips_that_no_task_can_use_are_counted_not_drawn():
    plan = plan_of(tasks=TaskConfig(t2i=0, t2v=1), frames=(33,))
    assert plan.unused["too short for the tasks"] + len(plan.train) + len(plan.held_out) == 60
    lost = frozenset(plan.clip_ids.take(plan.train[:3]).to_pylist())
    again = Schedule(rows_of(60), plan.data, plan.tasks, plan.config, failed=lost)
    assert again.unused["failed to encode"] == 3
    with pytest.raises(TrainError, match="no clip of the snapshot can be trained on"):
        plan_of(tasks=TaskConfig(t2i=0, t2v=1), frames=(929,))


def test_held_out_clips_are_never_drawn_and_validation_has_fixed_seeds():
    plan, other = plan_of(), plan_of(seed=9)
    held = set(plan.clip_ids.take(plan.held_out).to_pylist())
    assert held
    assert not held & {clip for epoch in range(3) for clip, _ in draws(plan, epoch)}
    batches = plan.validation(5)
    assert batches == other.validation(5)
    assert {d.clip_id for m in batches for d in m.samples} <= held
    assert {m.task for m in batches} == {"t2i", "t2v", "i2v", "continuation"}


def test_the_clips_to_validate_on_are_chosen_once_and_mapped(tmp_path):
    """Those with the smallest hashes, so that no rank hashes the ids of all that are held out."""
    plan = plan_of()
    held = plan.clip_ids.take(plan.held_out).to_pylist()
    first = sorted(held, key=lambda clip: hashes([clip])[0])
    assert plan.clip_ids.take(np.array(plan.plan.facts.validated)).to_pylist() == first
    assert {d.clip_id for m in plan.validation(3) for d in m.samples} == set(first[:3])
    write_plan(plan.plan, tmp_path / "clips.arrow", {})
    mapped = read_plan(tmp_path / "clips.arrow")
    assert mapped.facts == plan.plan.facts
    assert Schedule(mapped, plan.data, plan.tasks, plan.config).validation(5) == plan.validation(5)


@pytest.mark.parametrize(("width", "height", "largest"), [(112, 64, 48), (640, 320, 96)])
def test_validation_shows_each_clip_in_the_largest_size_that_it_fills(width, height, largest):
    rows = rows_of(60).set_column(2, "width", pa.array([width] * 60)).set_column(3, "height", pa.array([height] * 60))
    rows = rows.set_column(5, "num_frames", pa.array([100] * 60))
    data = DataConfig(sizes=("64p", "128p"), frames=(1, 17, 33), tokens_per_batch=900, holdout=0.1)
    plan = Schedule(rows, data, ALL, DiTConfig(), 0)
    held = sorted(plan.clip_ids.take(plan.held_out).to_pylist())
    shown = [b for b in plan.validation(60) if b.task == "t2v"]
    assert sorted(d.clip_id for b in shown for d in b.samples) == held
    assert {min(b.bucket.height, b.bucket.width) for b in shown} == {largest}


def test_a_clip_no_longer_than_its_condition_is_not_continued():
    tasks = TaskConfig(t2i=0, t2v=1, continuation=1, condition_frames=(17,))
    plan = plan_of(60, tasks=tasks)
    batches = [plan.batch(k) for block in range(20) for k in plan.block_batches(block)]
    assert {b.bucket.frames for b in batches if b.task == "continuation"} == {33}
    assert {b.bucket.frames for b in batches if b.task == "t2v"} == {17, 33}


def test_whole_sources_are_held_out_where_there_are_enough():
    sources = [f"s{i // 5}" for i in range(1000)]
    kind, held = held_out([f"c{i}" for i in range(1000)], sources, np.ones(1000, bool), 0.1)
    assert kind == "source"
    assert 0.05 < held.mean() < 0.15
    assert not set(np.array(sources)[held]) & set(np.array(sources)[~held])
    kind, held = held_out([f"c{i}" for i in range(20)], ["one"] * 20, np.ones(20, bool), 0.1)
    assert kind == "clip"
    assert 1 <= held.sum() < 20


@pytest.mark.parametrize(("sources", "kind"), [(16, "source"), (15, "clip")])
def test_sources_are_held_out_where_two_are_to_be_expected(sources, kind):
    """An eighth of sixteen are two."""
    clips = [f"c{i}" for i in range(64)]
    assert held_out(clips, [f"s{i % sources}" for i in range(64)], np.ones(64, bool), 1 / 8)[0] == kind


def test_of_few_clips_one_is_held_out_and_one_is_left():
    """By their hashes, where these pick none or all."""
    clips = [f"c{i}" for i in range(20)]
    first, *_, last = np.argsort(hashes(clips))
    for share, place, held in ((1e-12, first, True), (1 - 1e-12, last, False)):
        found = held_out(clips, [None] * 20, np.ones(20, bool), share)[1]
        assert (np.flatnonzero(found == held) == [place]).all()


def test_a_clip_once_held_out_stays_so_in_a_larger_snapshot():
    ids = [f"c{i}" for i in range(400)]
    small = held_out(ids[:200], [None] * 200, np.ones(200, bool), 0.1)[1]
    large = held_out(ids, [None] * 400, np.ones(400, bool), 0.1)[1]
    assert (large[:200] == small).all()
    assert hashes(["a"])[0] == hashes(["a"])[0] != hashes(["b"])[0]


def test_captions_are_drawn_evenly_and_dropped_as_often_as_asked():
    picks = Counter(caption_choice(seed * 7919, 3, 0.1) for seed in range(20_000))
    assert picks[3] / 20_000 == pytest.approx(0.1, abs=0.01)
    assert all(picks[i] / 20_000 == pytest.approx(0.3, abs=0.02) for i in range(3))
    assert caption_choice(5, 2, 1.0) == 2
    assert caption_choice(5, 2, 0.0) < 2
