"""`reel balance`: its numbers are the clips', its rule is the stated one, its advice is right when followed."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.schema import field
from reelwright.curation.store.weighting import Balance
from reelwright.errors import UserError
from reelwright.pipelines.browse.balance.measure import OVER, UNDER, measure, nearest, to_collect, weightings
from reelwright.pipelines.browse.balance.rows import balance_report, embeddings, read_targets
from tests.curation.store.conftest import fake_mp4

HOSTILE = "jelly\x1b[2J<b>\u202efish"
THEMES = {"dogs": 60, "cars": 25, "waves": 10, HOSTILE: 5}
NOWHERE = 3  # clips without a cluster


def even_store(folder: Path) -> Store:
    """A store of made-up clips: THEMES as clusters, each about an axis of a small embedding; waves and the hostile
    cluster lie near one another."""
    store = Store.open(folder, create=True)
    rng = np.random.default_rng(0)
    cluster = [*np.repeat(np.arange(len(THEMES)), list(THEMES.values())).tolist(), *[None] * NOWHERE]
    count, names = len(cluster), list(THEMES)
    axes = np.eye(6)[[0, 1, 2, 2]] + np.eye(6)[[4, 4, 5, 3]] * 0.3
    vectors = np.stack([axes[c if c is not None else 0] for c in cluster]) + rng.normal(0, 0.02, (count, 6))
    flat = pa.array(vectors.reshape(-1), pa.float32())
    ids = [f"{i:024x}" for i in range(count)]
    rows = {
        "clip_id": ids, "source_md5": ["m"] * count, "duration_s": [3.6] * count,
        "cluster_id": pa.array(cluster, pa.int32()),
        "cluster_name": [None if c is None else names[c] for c in cluster],
        "density": pa.array([None if c is None else float(THEMES[names[c]]) for c in cluster], pa.float32()),
        "camera_motion": ["static" if i % 2 else "pan_left" for i in range(count)],
        "blur_score": [1.0] * count,
        "caption_embedding": pa.FixedSizeListArray.from_arrays(flat, 6),
    }  # fmt: skip
    makers = {"cluster_id": "clusters", "cluster_name": "clusters", "density": "density", "camera_motion": "motion",
              "blur_score": "blur", "caption_embedding": "caption_embedding"}  # fmt: skip
    table = pa.table(rows)
    store.ensure_columns("clips", [field(n, table.schema.field(n).type, n, computed_by=m) for n, m in makers.items()])
    store.commit_media([store.write_media(ids, [fake_mp4(i) for i in ids])])
    store.append("clips", table)
    store.append("sources", [{"source_id": "s", "md5": "m", "uri": "/f/s.mp4", "state": "ok"}])
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return even_store(tmp_path_factory.mktemp("balance") / "store")


def clips_of(names: list[str | None], **columns: Any) -> pa.Table:
    return pa.table({"kind": pa.array(names, pa.string()), "duration_s": [1.0] * len(names)} | columns)


# --- the measure -----------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(counts=st.lists(st.integers(1, 500), min_size=1, max_size=12))
def test_collecting_what_is_advised_brings_the_scarce_to_their_targets(counts):
    names = [f"c{i:02d}" for i, n in enumerate(counts) for _ in range(n)]
    column = measure(clips_of(names), ["kind"])[0]
    assert sum(c.clips for c in column.categories) == len(names) == column.clips
    assert sum(c.share for c in column.categories) == pytest.approx(1)
    for c in column.categories:
        ratio = c.clips * len(counts) / len(names)
        assert c.ratio == pytest.approx(ratio)
        assert c.verdict == ("over" if ratio > OVER else "under" if ratio < UNDER else "")
        assert (c.more_clips > 0) == (c.verdict == "under")
    after = {c.name: c.clips + c.more_clips for c in column.categories}
    whole = sum(after.values())
    for c in column.categories:
        if c.verdict == "under":
            assert after[c.name] / whole == pytest.approx(1 / len(counts), abs=len(counts) / whole)


def test_one_scarce_category_by_hand():
    # 90 + 10 -> half each: 80 more
    assert to_collect(np.array([90, 10]), np.array([0.5, 0.5]), np.array([False, True])).tolist() == [0, 80]


def test_a_target_of_one_s_own_counts_what_is_not_there_at_all_and_what_is_not_wanted():
    names: list[str | None] = ["wide"] * 80 + ["medium"] * 20 + [None] * 7
    targets = {"kind": {"wide": 3, "close-up": 1}}
    column = measure(clips_of(names), ["kind"], targets=targets)[0]
    found = {c.name: c for c in column.categories}
    assert (column.clips, column.without_value) == (100, 7)
    assert (found["wide"].target, found["wide"].verdict) == (0.75, "")
    assert (found["medium"].target, found["medium"].ratio, found["medium"].verdict) == (0, float("inf"), "over")
    assert (found["close-up"].clips, found["close-up"].verdict) == (0, "under")
    assert found["close-up"].more_clips == 34  # of 134, a quarter
    assert found["close-up"].more_hours == pytest.approx(34 / 3600), "at the mean length of clips"


def test_weights_move_shares_as_they_should():
    names: list[str | None] = ["a"] * 75 + ["b"] * 25
    columns = {"cluster_id": pa.array([0] * 75 + [1] * 25, pa.int32()), "density": [3.0] * 75 + [1.0] * 25}
    clips = clips_of(names, **columns)
    costs, weights = weightings(clips, [Balance("density"), Balance("cluster")])
    column = measure(clips, ["kind"], weights=weights)[0]
    assert [c.name for c in costs] == ["density", "cluster"]
    for c in column.categories:
        assert c.weighted == pytest.approx({"density": 0.5, "cluster": 0.5})
    assert column.effective["none"] == pytest.approx(np.exp(-0.75 * np.log(0.75) - 0.25 * np.log(0.25)))
    assert column.effective["cluster"] == pytest.approx(2)
    assert costs[1].effective_size == pytest.approx(100**2 / (75 * (2 / 3) ** 2 + 25 * 4))
    assert {c.name: c.density for c in column.categories} == {"a": 3, "b": 1}


def test_few_clips_for_many_categories_are_said_to_be_few():
    assert measure(clips_of(["a", "b", "c"]), ["kind"])[0].too_few
    assert not measure(clips_of(["a", "b", "c"] * 5), ["kind"])[0].too_few


def test_the_nearest_clusters_are_those_of_the_closest_mean_direction():
    near = nearest(["x", "xy", "y", "none"], np.array([[9.0, 0], [1, 1], [0, 0.1], [0, 0]]))
    assert near["y"] == ["xy", "x"]
    assert near["x"] == ["xy", "y"]
    assert "none" not in near


def test_embeddings_that_are_null_zero_or_not_finite_are_left_out():
    rows = [[3.0, 4.0], None, [0.0, 0.0], [float("nan"), 1.0], [0.0, 2.0]]
    vectors, has = embeddings(pa.chunked_array([pa.array(rows, pa.list_(pa.float32(), 2))]))
    assert has.tolist() == [True, False, False, False, True]
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 1]], rtol=1e-6)


# --- of a store ------------------------------------------------------------------------------------------------------


def test_a_store_s_balance(store: Store) -> None:
    found = balance_report(store)
    assert found.clips == 100 + NOWHERE
    assert found.hours == pytest.approx(0.103)
    assert [c.column for c in found.columns] == ["cluster_name", "camera_motion"]
    assert found.absent == ["shot_size", "lens_type", "camera_angle", "visual_style", "color_tone", "lighting"]
    clusters = {c.name: c for c in found.columns[0].categories}
    assert {n: c.clips for n, c in clusters.items()} == THEMES
    assert [c.verdict for c in found.columns[0].categories] == ["over", "", "under", "under"]
    assert clusters[HOSTILE].near[0] == "waves"
    assert clusters["waves"].near[0] == HOSTILE
    assert clusters["dogs"].near == []
    assert {w.name: w.without_value for w in found.weightings} == {"density": NOWHERE, "cluster": NOWHERE}
    assert clusters["waves"].weighted["cluster"] == pytest.approx(0.25)


def test_a_condition_and_a_snapshot_choose_the_clips(store: Store) -> None:
    some = balance_report(store, ["cluster_name"], where="density > 20 -- large")
    assert {c.name: c.clips for c in some.columns[0].categories} == {"dogs": 60, "cars": 25}
    query = "SELECT clip_id FROM clips WHERE cluster_id IS NOT NULL"
    store.snapshots.create("even", query, weights=Balance("cluster", cap=20))
    frozen = balance_report(store, snapshot="even")
    assert frozen.clips == 100
    assert [c.weighted for c in frozen.columns[0].categories] == [pytest.approx({"snapshot": 0.25})] * 4
    assert frozen.weightings[0].effective_size == pytest.approx(100**2 / sum(625 / n for n in THEMES.values()))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"by": ["cluster_nam"]}, "'cluster_nam' is not a column of clips; columns that look alike: cluster_name"),
        ({"by": ["blur_score"]}, "blur_score holds double, and balance counts categories"),
        ({"where": "densit > 1"}, "is not a condition over clips"),
        ({"where": "density > 1e9"}, "no clip passes 'density > 1e9'"),
        ({"snapshot": "eve"}, "there is no snapshot 'eve'"),
    ],
)
def test_what_cannot_be_measured_is_explained(store: Store, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(StoreError) as error:
        balance_report(store, **options)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("- a", "holds no targets"),
        ("shot_size: 3", "holds no targets"),
        ("shot_size: {wide: -1}", "look at 'wide'"),
        ("shot_size: {wide: yes}", "look at 'wide'"),
        ("shot_size: {wide: 0}", "all of them are 0"),
        ("lens: {wide: 1}", "add it to --by"),
        ("{", "cannot read targets"),
    ],
)
def test_a_file_that_holds_no_targets_is_refused(tmp_path: Path, text: str, sentence: str) -> None:
    (tmp_path / "t.yaml").write_text(text)
    with pytest.raises(UserError, match=sentence):
        read_targets(tmp_path / "t.yaml", ["shot_size"])


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_command_prints_shares_verdicts_and_what_to_do_next(call, store: Store) -> None:
    made = call("balance", "-s", store.uri)
    assert made.returncode == 0, made.stderr
    text = made.stdout
    assert "103 clips, 0.10 h" in text
    assert "cluster_name: 4 categories in 100 clips (3 without one); target uniform, 25.0% each" in text
    assert "1 over-represented (more than 2 x target), 2 under-represented (below 0.5 x)" in text
    # dogs and cars, 85 clips, become half of 170: waves and the others want 42.5 each
    assert "71 more clips, 0.071 h, bring the under-represented to their targets together" in text
    assert '"waves" is nearest to "jelly' in text
    assert "without a value in these clips, so not shown: shot_size, lens_type" in text
    assert "reel snapshot create NAME" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_json_and_csv_hold_the_same_numbers(call, store: Store) -> None:
    found = json.loads(call("balance", "-s", store.uri, "--json").stdout)
    rows = list(csv.DictReader(io.StringIO(call("balance", "-s", store.uri, "--csv").stdout)))
    clusters = found["columns"][0]["categories"]
    assert [(c["name"], c["clips"]) for c in clusters] == list(THEMES.items())
    assert [(r["name"], int(r["clips"])) for r in rows if r["column"] == "cluster_name"] == list(THEMES.items())
    assert float(rows[0]["share_by_cluster"]) == pytest.approx(clusters[0]["weighted"]["cluster"])


def test_targets_from_a_file_and_wrong_use(call, store: Store, tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"camera_motion": {"static": 1, "zoom_in": 1}}')
    asked = ("balance", "-s", store.uri, "--by", "camera_motion")
    text = call(*asked, "--target", tmp_path / "t.json").stdout
    assert "target the file's" in text
    assert "zoom_in" in text
    assert "not wanted" in text, "pan_left"
    for wrong in (("--where", "true", "--snapshot", "x"), ("--json", "--csv"), ("--cap", "0.5")):
        made = call(*asked, *wrong)
        assert made.returncode == 1
        assert made.stderr.startswith("error: ")
        assert len(made.stderr.strip().splitlines()) == 1


def test_a_snapshot_is_made_shown_and_made_once(call, store: Store) -> None:
    query = "select clip_id from clips"
    asked = ("snapshot", "create", "balanced", "-s", store.uri, "--sql", query, "--balance", "density")
    made = call(*asked, "--balance-within", "store", "--balance-cap", "3")
    assert made.returncode == 0, made.stderr
    said = (
        "weight ∝ 1 / density among all clips of the store, mean 1, at most 3 (5 clips at that); 3 clips without a "
        "density weigh 1"
    )
    assert said in made.stdout
    assert "weights: as good as " in made.stdout
    assert "effective" not in made.stdout, "the size is said once"
    assert made.stdout.count("(no caption)") == 10, "the heaviest clips, of which none has a caption here"
    shown = call("snapshot", "show", "balanced", "-s", store.uri).stdout
    assert f"{said}; effective size" in shown
    assert "balance" in shown
    assert "exists, and snapshots never change" in call(*asked).stderr
    asked = ("snapshot", "create", "another", *asked[3:])
    assert "not from both" in call(*asked, "--weights", "w").stderr
    assert "add --balance density or cluster" in call(*asked[:-2], "--balance-cap", "3").stderr
    assert "not by 'size'" in call(*asked[:-1], "size").stderr
    plain = call("snapshot", "create", "plain", "-s", store.uri, "--sql", query).stdout
    assert "weight" not in plain


def test_with_train_a_snapshot_is_found_again_by_the_same_balance_alone(store: Store) -> None:
    from reelwright.pipelines.cli.commands.snapshots import _same

    query = "SELECT clip_id FROM clips WHERE density > 6"
    asked = {"limit": None, "seed": 0, "weights": None, "limit_per": None, "distinct": False}
    made = store.snapshots.create("again", query, weights=Balance("density", cap=4, within="store"))
    assert _same(store, "again", query, asked | {"weights": Balance("density", cap=4, within="store")}) == made
    others = (Balance("density", within="store"), Balance("cluster", cap=4), Balance("density", cap=4), "weight", None)
    for other in (*others, Balance("density", cap=4, alpha=2, within="store")):
        assert _same(store, "again", query, asked | {"weights": other}) is None
