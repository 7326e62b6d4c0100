"""Laws of a run on several snapshots: shares as asked in every pass and step, nothing held out by one is trained on by
another, each draw as its snapshot has it."""

import itertools
from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.model.config import DiTConfig
from reelwright.training.data.mix_plan import lines, overlapping
from reelwright.training.data.mix_steps import dealt
from reelwright.training.data.plan import OVERLAPPING, TRAINED, read_plan, write_plan
from reelwright.training.data.schedule import Schedule
from reelwright.training.errors import TrainError
from reelwright.training.mix import check_shares, label, options, parse_snapshots
from reelwright.training.recipe import DataConfig, TaskConfig, TrainRecipe

ALL = TaskConfig(t2i=1, t2v=2, i2v=1, continuation=1)
SHARES = {"general": 0.8, "camera": 0.1, "style": 0.1}
OPTIONS = {"sizes": ("64p", "128p"), "frames": (1, 17, 33), "tokens_per_batch": 1800, "batches_per_step": 16}


def clips(ids: range, seed: int = 0, sources: int = 0) -> pa.Table:
    """Clips whose facts follow from their ids, as they would in any snapshot."""
    shapes = [np.random.default_rng(i).integers(0, 1 << 20, 4) for i in ids]
    weights = np.random.default_rng(seed).lognormal(size=len(ids))
    return pa.table({
        "clip_id": [f"{i:06x}" for i in ids], "weight": weights,
        "width": [(160, 320, 640)[s[0] % 3] for s in shapes], "height": [(96, 192, 320)[s[1] % 3] for s in shapes],
        "fps": [(15.0, 24.0, 30.0)[s[2] % 3] for s in shapes], "num_frames": [40 + int(s[3]) % 160 for s in shapes],
        "source_md5": [f"s{i % sources if sources else i}" for i in ids],
    })  # fmt: skip


def mixed(parts: dict[str, pa.Table]) -> pa.Table:
    """As `training_rows` joins them: numbered in the order of names."""
    numbered = [
        part.append_column("snapshot", pa.array([n] * len(part), pa.int16()))
        for n, part in enumerate(parts[name] for name in sorted(parts))
    ]
    return pa.concat_tables(numbered)


def three(**options) -> pa.Table:
    """A large snapshot, and two small ones; style is a part of general."""
    return mixed({
        "general": clips(range(900), 1, **options), "camera": clips(range(900, 960), 2, **options),
        "style": clips(range(0, 900, 12), 3, **options),
    })  # fmt: skip


def schedule_of(rows: pa.Table | None = None, mix: dict[str, float] = SHARES, seed: int = 0, **options) -> Schedule:
    block = options.pop("block", 4096)
    data = DataConfig(**(OPTIONS | {"mix": mix, "holdout": 0.05} | options))
    return Schedule(three() if rows is None else rows, data, ALL, DiTConfig(), seed, block=block)


def rows_drawn(plan: Schedule, serials: range) -> list[int]:
    blocks = range(serials.start // plan.block, -(-serials.stop // plan.block))
    found = [d for b in blocks for k in plan.block_batches(b) for d in plan.batch(k).samples if d.index in serials]
    assert len(found) == len(serials)
    return [d.row for d in found]


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**40), number=st.integers(0, 3), camera=st.floats(0.02, 0.6))
def test_a_pass_takes_each_snapshots_share_to_within_one(seed, number, camera):
    shares = {"general": 0.9 - camera, "camera": camera, "style": 0.1}
    plan = schedule_of(mix=shares, seed=seed)
    size = plan.plan.facts.train
    of = plan.plan.snapshot[rows_drawn(plan, range(number * size, (number + 1) * size))]
    for place, name in enumerate(sorted(shares)):
        assert abs(np.sum(of == place) - size * shares[name]) < 1 + 1e-6


def test_inside_a_snapshot_draws_follow_its_weights_whatever_the_others():
    plan = schedule_of()
    size = plan.plan.facts.train
    drawn = Counter(rows_drawn(plan, range(size)))
    weights = {(r["snapshot"], r["clip_id"]): r["weight"] for r in three().to_pylist()}
    for place, name in enumerate(sorted(SHARES)):
        rows = np.flatnonzero((plan.plan.snapshot == place) & (plan.plan.state == TRAINED))
        own = np.array([weights[place, plan.clip_ids[int(r)].as_py()] for r in rows])
        expected = own / own.sum() * SHARES[name] * size
        counts = np.array([drawn[int(r)] for r in rows])
        assert (abs(counts - expected) < 1 + 1e-6).all(), "the closed form: share · w / Σ w of the snapshot"


def shares_of_bands(plan: Schedule) -> tuple[list[int], list[float]]:
    """Band of the first block's micro-batches, and the share of `camera` in the draws of each band, pictures' last."""
    block = plan._made(0)
    bands, _, _ = plan.mixture.split(block.batches.groups)
    is_camera = plan.plan.snapshot[block.rows] == sorted(SHARES).index("camera")
    mine = [is_camera[block.batches.draws[a:b]] for a, b in zip(block.batches.starts, block.batches.stops, strict=True)]
    found = [
        np.concatenate([m for m, b in zip(mine, bands, strict=True) if b == k]) for k in range(plan.mixture.bands + 1)
    ]
    return bands.tolist(), [float(of.mean()) for of in found]


def test_every_step_has_the_shares_within_a_few_per_cent():
    """The shares of the step's bands of cost and of pictures, and several times closer than draws by chance."""
    plan = schedule_of(tokens_per_batch=4000, block=12_000)
    bands, shares = shares_of_bands(plan)
    camera, per_step = sorted(SHARES).index("camera"), plan.data.batches_per_step
    far, by_chance, sums = [], [], []
    for i in range(len(bands) // per_step):
        numbers = range(i * per_step, (i + 1) * per_step)
        rows = [[d.row for d in plan.batch(k).samples] for k in numbers]
        count, found = sum(map(len, rows)), sum(np.sum(plan.plan.snapshot[of] == camera) for of in rows)
        wanted = [(len(of), shares[bands[k]]) for of, k in zip(rows, numbers, strict=True)]
        far.append((found - sum(n * share for n, share in wanted)) / count)
        by_chance.append(sum(n * share * (1 - share) for n, share in wanted) / count**2)
        sums.append((found, count))
    assert len(far) > 50
    assert abs(np.array(far)).max() < 0.03
    assert np.mean(np.square(far)) < 0.2 * np.mean(by_chance)
    total = np.sum(sums, 0)
    assert total[0] / total[1] == pytest.approx(0.1, abs=0.005)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 999), groups=st.integers(1, 5), kinds=st.integers(1, 4), size=st.integers(1, 5))
def test_dealing_loses_nothing_and_gives_each_kind_its_share_all_along(seed, groups, kinds, size):
    rng = np.random.default_rng(seed)
    group, kind = np.sort(rng.integers(0, groups, 400)), rng.integers(0, kinds, 400)
    bounds = [0, *(np.flatnonzero(np.diff(group)) + 1).tolist(), 400]
    pieces = [(a, min(a + size, stop)) for start, stop in itertools.pairwise(bounds) for a in range(start, stop, size)]
    starts, stops = np.array(pieces)[rng.permutation(len(pieces))].T
    order = dealt(np.arange(400), group, np.zeros(400, int), kind, starts, stops)
    assert sorted(order.tolist()) == list(range(400))
    assert (group[order] == group).all(), "each place keeps its group"
    for g, k in itertools.product(range(groups), range(kinds)):
        own = order[np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])]
        own = own[(group[own] == g) & (kind[own] == k)]
        assert (np.diff(own) > 0).all(), "in the order of the draws, as the steps take them"
    taken = kind[order[np.concatenate([np.arange(a, b) for a, b in zip(starts, stops, strict=True)])]]
    for k in range(kinds):
        away = np.cumsum(taken == k) - np.mean(kind == k) * np.arange(1, 401)
        assert abs(away).max() < 3 + groups


def test_resuming_and_the_order_of_rows_change_nothing():
    rows = three()
    shuffled = rows.take(pa.array(np.random.default_rng(0).permutation(len(rows))))
    alone, other = schedule_of(rows), schedule_of(shuffled)
    tail = schedule_of(rows)
    tail.starts = list(alone.starts)
    for i in (37, 5, 36):
        assert alone.step(i) == other.step(i)
    assert [tail.step(i) for i in (37, 38)] == [alone.step(i) for i in (37, 38)]


@pytest.mark.parametrize("sources", [0, 200])
def test_a_clip_held_out_is_held_out_of_every_snapshot(sources):
    plan = schedule_of(three(sources=sources))
    ids = np.array(plan.clip_ids.to_pylist())
    md5 = np.array(plan.plan.table.column("source_md5").to_pylist())
    held, trained = plan.plan.state == 2, plan.plan.state == TRAINED
    assert held.any()
    assert not set(ids[held]) & set(ids[trained])
    if sources:
        assert plan.plan.facts.held_out_by == "source"
        assert not set(md5[held]) & set(md5[trained])
    alone = Schedule(clips(range(900), 1, sources=sources), DataConfig(**OPTIONS, holdout=0.05), ALL, DiTConfig())
    of_general = set(alone.clip_ids.take(alone.held_out).to_pylist())
    assert of_general <= set(ids[held]), "nor does the mix train on what a run on general has held out"
    validated = [d.clip_id for m in plan.validation(1000) if m.task == "t2v" for d in m.samples]
    assert len(validated) == len(set(validated)), "a clip of two snapshots is validated once"


def test_another_cut_of_held_out_frames_is_not_trained_on():
    """Two snapshots of different versions of a store that cut the sources anew in between, a few frames later."""
    old, new = clips(range(0, 60), sources=3), clips(range(100, 160), sources=3)

    def placed(part: pa.Table, first: int) -> pa.Table:
        start = [first + 100 * (i // 3) for i in range(len(part))]
        return part.append_column("start_frame", [start]).append_column("end_frame", [[s + 80 for s in start]])

    rows = mixed({"new": placed(new.set_column(6, "source_md5", old.column("source_md5")), 7), "old": placed(old, 0)})
    plan = schedule_of(rows, {"new": 0.5, "old": 0.5}, holdout=0.2)
    assert plan.plan.facts.held_out_by == "clip", "three sources are too few to hold out whole ones"
    facts = ("source_md5", "start_frame", "end_frame")
    spans = {(r["snapshot"], r["clip_id"]): tuple(r[name] for name in facts) for r in rows.to_pylist()}
    where = [spans[int(s), i] for s, i in zip(plan.plan.snapshot, plan.clip_ids.to_pylist(), strict=True)]
    held = [where[i] for i in np.flatnonzero(plan.plan.state == 2)]
    for i in np.flatnonzero(plan.plan.state == TRAINED):
        source, start, end = where[i]
        assert not any(s == source and a < end and start < b for s, a, b in held)
    assert plan.unused[OVERLAPPING] >= len(held) // 2


def test_clips_that_touch_do_not_overlap():
    """A clip ends before its `end_frame`, at which the next one of the source may begin."""
    cuts = [("s", 100, 180), ("s", 20, 100), ("s", 180, 260), ("s", 179, 260), ("s", 20, 101), ("t", 100, 180)]
    cuts += [("s", 120, 130), (None, 100, 180), ("s", None, None)]
    rows = pa.table(dict(zip(("source_md5", "start_frame", "end_frame"), zip(*cuts, strict=True), strict=True)))
    held = np.arange(len(cuts)) == 0
    assert np.flatnonzero(overlapping(rows, held)).tolist() == [3, 4, 6]


def test_what_is_wanted_of_a_clip_in_two_snapshots_is_wanted_once():
    plan = schedule_of()
    assert len(plan.plan.distinct_ids) == 960 < len(plan.clip_ids)
    for _, rows in plan.wanted():
        ids = plan.clip_ids.take(rows).to_pylist()
        assert len(ids) == len(set(ids))
    ids = plan.plan.distinct_ids.to_pylist()
    every = np.arange(len(plan.clip_ids))
    assert [ids[i] for i in plan.plan.clips_of(every)] == plan.clip_ids.to_pylist()


def test_a_mixs_plan_is_mapped_as_it_was_made(tmp_path):
    plan = schedule_of().plan
    write_plan(plan, tmp_path / "clips.arrow", {})
    again = read_plan(tmp_path / "clips.arrow")
    assert again.table.equals(plan.table)
    assert again.facts.parts == plan.facts.parts
    assert [p["name"] for p in again.facts.parts] == sorted(SHARES)
    said = lines(again.facts.parts, again.facts.train)
    assert len(said) == 3
    assert "80.0%: 900 clips" in said[1]


def test_a_snapshot_of_which_nothing_can_be_trained_on_is_refused():
    short = clips(range(900, 930)).set_column(5, "num_frames", pa.array([1] * 30))
    rows = mixed({"general": clips(range(300)), "camera": short})
    data = DataConfig(**(OPTIONS | {"mix": {"general": 0.9, "camera": 0.1}, "frames": (17,)}))
    with pytest.raises(TrainError, match="no clip of snapshot camera can be trained on"):
        Schedule(rows, data, TaskConfig(t2i=0, t2v=1), DiTConfig())


@pytest.mark.parametrize(
    ("mix", "sentence"),
    [
        ({"a": 0.8, "b": 0.1}, r"add up to 0.9, not to 1 \(a 0.8 \+ b 0.1\)"),
        ({"a": 1.2, "b": -0.2}, "share of snapshot b is -0.2"),
        ({"a": float("nan"), "b": 1.0}, "share of snapshot a is nan"),
    ],
)
def test_shares_that_are_no_parts_of_a_whole_are_refused(mix, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_shares(mix)
    with pytest.raises(ValueError, match=sentence):
        DataConfig(mix=mix)


def test_snapshots_are_named_on_the_command_line():
    assert parse_snapshots([]) == ("", {})
    assert parse_snapshots(["a"]) == ("a", {})
    assert parse_snapshots(["a:1"]) == ("a", {}), "one alone is no mix"
    assert parse_snapshots(["a:0.7", "b:0.3"]) == ("", {"a": 0.7, "b": 0.3})
    third = {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3}
    words = [word for word in options("", third).split() if word != "--snapshot"]
    assert parse_snapshots(words) == ("", third), "to the last digit, since a run is known by it"
    assert label("", third) == "a+b+c"
    assert label("", {"x" * 40: 0.5, "y" * 40: 0.5}) == "mix-of-2"
    for words, sentence in (
        (["a", "b"], "--snapshot a has no share"),
        (["a:x", "b:1"], "share of snapshot a is 'x', not a number"),
        (["a:0.5", "a:0.5"], "named twice"),
        (["a:0.8"], "add up to 0.8"),
    ):
        with pytest.raises(ValueError, match=sentence):
            parse_snapshots(words)


def test_a_run_is_known_by_its_mix_and_runs_without_one_as_before():
    def print_of(**data) -> str:
        return TrainRecipe(data=DataConfig(**data)).fingerprint

    assert print_of(mix={}) == print_of()
    assert print_of(mix={"a": 0.5, "b": 0.5}) == print_of(mix={"b": 0.5, "a": 0.5})
    assert len({print_of(), print_of(mix={"a": 0.5, "b": 0.5}), print_of(mix={"a": 0.6, "b": 0.4})}) == 3
