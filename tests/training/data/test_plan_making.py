"""A plan is the same by stretches of any length, in memory and on disk, and as whole columns would make it."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.keys import row_order
from reelwright.training.data import spool
from reelwright.training.data.holdout import held_out
from reelwright.training.data.mapped import map_table
from reelwright.training.data.mix_rows import ordered_rows
from reelwright.training.data.plan import HELD_OUT, NOTE, TRAINED, Plan, write_plan
from reelwright.training.data.plan_making import plan_of
from reelwright.training.data.rows import hashed
from reelwright.training.data.spool import Spool, total
from reelwright.training.recipe import DataConfig, TaskConfig

OPTIONS = {"sizes": ("64p", "128p"), "frames": (1, 17, 33), "tokens_per_batch": 1800, "batches_per_step": 16}
TASKS = TaskConfig(t2i=1, t2v=2, i2v=1, continuation=1)
WORDS = ["", "a", "a boat", "ä\N{CLAPPER BOARD}", "x" * 300]
SHORT = 256  # rows of a stretch


def some(values: list, rng: np.random.Generator, kind: pa.DataType) -> pa.Array:
    """Values, a few of them unknown."""
    return pa.array([None if rng.random() < 0.05 else value for value in values], kind)


def clips(count: int, seed: int = 0, sources: int = 90) -> pa.Table:
    """Clips of all kinds in no order: sizes, rates and sources that are unknown or empty, one to three captions."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(2 * count)[:count]
    captions = [[WORDS[k] for k in rng.choice(len(WORDS), rng.integers(1, 4))] for _ in ids]
    return pa.table({
        "clip_id": pa.array([f"é{i:06x}" for i in ids], pa.large_string()),
        "source_md5": some(["" if i % 40 == 0 else f"s{i % sources}" for i in ids], rng, pa.large_string()),
        "width": some(rng.choice([0, 160, 320, 640, 1280], count).tolist(), rng, pa.int32()),
        "height": some(rng.choice([96, 192, 320, 720], count).tolist(), rng, pa.int32()),
        "fps": some(rng.choice([0.0, 12.0, 24.0, 29.97, 60.0], count).tolist(), rng, pa.float64()),
        "num_frames": some(rng.integers(1, 400, count).tolist(), rng, pa.int64()),
        "weight": rng.lognormal(size=count), "only_composed": rng.random(count) < 0.2,
        "captions": pa.array(captions, pa.list_(pa.large_string())),
    })  # fmt: skip


def mixed() -> pa.Table:
    parts = []
    for place, count in enumerate((900, 300, 600)):
        start = np.random.default_rng(place).integers(0, 300, count)
        more = {"snapshot": pa.array([place] * count, pa.int16()), "start_frame": start, "end_frame": start + 90}
        part = clips(count, place)
        for name, column in more.items():
            part = part.append_column(name, pa.array(column))
        parts.append(part)
    return pa.concat_tables(parts).combine_chunks()


CASES = {
    "sources": (clips(1500), {"holdout": 0.05}), "clips": (clips(1500, 1, sources=10**6), {"holdout": 0.05}),
    "none held out": (clips(1000, 2), {"holdout": 0.0}), "one held out": (clips(1000, 3), {"holdout": 1e-9}),
    "one": (clips(1, 5), {}), "mix": (mixed(), {"holdout": 0.05, "mix": {"a": 0.5, "b": 0.2, "c": 0.3}}),
}  # fmt: skip


def made(rows: pa.Table, options: dict, folder) -> tuple[bytes, Plan]:
    failed = [clip for clip in rows.column("clip_id").to_pylist() if clip.endswith("7f")]
    plan = plan_of(rows, DataConfig(**OPTIONS, **options), TASKS, failed)
    write_plan(plan, folder / "clips.arrow", {"of": "a test"})
    return (folder / "clips.arrow").read_bytes(), plan


def on_disk(monkeypatch) -> None:
    monkeypatch.setattr(spool, "STRETCH", SHORT)
    monkeypatch.setattr(spool, "IN_MEMORY", 64)
    monkeypatch.setattr(row_order, "IN_MEMORY", 0)


@pytest.mark.parametrize("hashes", [False, True], ids=["texts", "hashes"])
@pytest.mark.parametrize("case", CASES)
def test_a_plans_bytes_do_not_depend_on_stretches_or_disk(case, hashes, tmp_path, monkeypatch):
    rows, options = CASES[case]
    if hashes:
        at = rows.schema.get_field_index("captions")
        rows = rows.set_column(at, "captions", hashed(rows.column("captions").combine_chunks()))
    expected, _ = made(rows, options, tmp_path)
    on_disk(monkeypatch)
    assert made(rows, options, tmp_path)[0] == expected
    sorted_rows = ordered_rows(rows.slice(at, 111).combine_chunks() for at in range(0, len(rows), 111))
    assert sorted_rows.schema == rows.schema
    found, plan = made(sorted_rows, options, tmp_path)
    assert found == expected
    first, second = (t.column("clip_id").chunk(0).buffers()[2].address for t in (plan.table, sorted_rows))
    assert first == second, "rows in order are not copied"


def test_a_plan_is_what_whole_columns_make_of_it(monkeypatch):
    on_disk(monkeypatch)
    rows = clips(1500)
    plan = plan_of(rows, DataConfig(**OPTIONS, holdout=0.05), TASKS)
    rows = rows.sort_by("clip_id")
    units = [
        source or clip for source, clip in zip(*(rows[n].to_pylist() for n in ("source_md5", "clip_id")), strict=True)
    ]
    digests = b"".join(hashlib.blake2b(unit.encode(), digest_size=8).digest() for unit in units)
    held = np.frombuffer(digests, "<u8") < 0.05 * 2**64
    assert plan.clip_ids.to_pylist() == rows["clip_id"].to_pylist()
    assert (held[plan.state == HELD_OUT]).all()
    assert not (held[plan.state == TRAINED]).any()
    weights = np.where(plan.state == TRAINED, rows["weight"].to_numpy(), 0)
    edges = np.cumsum(weights * (plan.facts.train / weights.sum()))
    assert np.array_equal(plan.edges, edges * (plan.facts.train / edges[-1]))
    assert np.sum(plan.facts.expected) == pytest.approx(plan.facts.train)
    assert plan.table["captions"].to_pylist() == rows["captions"].to_pylist()


@pytest.mark.parametrize("repeated", [False, True])
def test_sources_are_held_out_where_two_clips_far_apart_are_of_one(monkeypatch, repeated):
    on_disk(monkeypatch)
    sources = [f"s{i}" for i in range(3 * SHORT)]
    if repeated:
        sources[-1] = sources[0]
    kind, held = held_out([f"c{i}" for i in range(len(sources))], sources, np.ones(len(sources), bool), 0.2)
    assert kind == ("source" if repeated else "clip")
    assert 0 < held.sum() < len(sources)


@given(count=st.integers(0, 5000), seed=st.integers(0, 9))
def test_a_sum_by_halves_is_rounded_as_the_whole_arrays(count, seed):
    values = np.random.default_rng(seed).lognormal(size=count)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "STRETCH", SHORT)
        assert total(values) == values.sum()


@given(
    texts=st.lists(st.one_of(st.none(), st.lists(st.text(max_size=9), max_size=4)), max_size=40),
    cut=st.integers(1, 13), in_memory=st.sampled_from([0, 2**20]),
)  # fmt: skip
def test_a_spool_has_the_rows_that_it_was_given(texts, cut, in_memory):
    first = [None if t is None else "".join(t) for t in texts]
    rows = pa.table({
        "text": pa.array(first, pa.large_string()), "lists": pa.array(texts, pa.list_(pa.large_string())),
        "flag": pa.array([None if t is None else len(t) > 1 for t in texts], pa.bool_()),
        "number": pa.array(range(len(texts)), pa.int32()),
        "hash": pa.array([[str(i).rjust(16).encode()] for i in range(len(texts))], pa.list_(pa.binary(16))),
    })  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spool, "IN_MEMORY", in_memory)
        grown = Spool(rows.schema)
        for batch in rows.to_batches(cut):
            grown.add(batch)
        spool.forget()
        found = grown.table()
        found.validate(full=True)
        assert found.equals(rows)
        assert all(column.num_chunks == 1 for column in found.columns)


def test_a_plan_that_was_not_finished_is_none(tmp_path):
    plan = plan_of(clips(300), DataConfig(**OPTIONS), TASKS)
    with pytest.raises(TypeError):
        write_plan(plan, tmp_path / "clips.arrow", {"no JSON": object()})
    assert not (tmp_path / "clips.arrow").exists()
    write_plan(plan, tmp_path / "clips.arrow", {})
    assert map_table(tmp_path / "clips.arrow", NOTE)[0].equals(plan.table)
    assert [path.name for path in tmp_path.iterdir()] == ["clips.arrow"]
