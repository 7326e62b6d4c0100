"""The map of a view: what is drawn is what is there, a lasso is what its SQL says, clusters weigh as in a snapshot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reelwright.curation.store import Store
from reelwright.curation.store.weighting import Balance
from reelwright.errors import ReelError
from reelwright.pipelines.app import plane as plane_module
from reelwright.pipelines.app.columns import Columns
from reelwright.pipelines.app.freezing import Freeze, freeze, sql_of
from reelwright.pipelines.app.plane import Plane, plane
from reelwright.pipelines.app.polygon import condition, inside
from reelwright.pipelines.app.reviews import Reviews
from reelwright.pipelines.app.selection import Selection
from reelwright.pipelines.app.view import Lasso, View
from tests.pipelines.app.made import CLUSTERS, clip_id, make_store

AROUND_FIRST = [(-2.0, -2.0), (2.0, -2.0), (2.0, 2.0), (-2.0, 2.0)]
"""Around the first of the three clusters of the store."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return make_store(tmp_path_factory.mktemp("map") / "store")


@pytest.fixture(scope="module")
def selection(store: Store) -> Iterator[Selection]:
    columns = Columns(store)
    reviews = Reviews(store, columns)
    yield Selection(store, columns, reviews)
    reviews.close()


# --- polygons --------------------------------------------------------------------------------------------------------

grid = st.integers(-4, 4).map(lambda i: i / 4)
corners = st.lists(st.tuples(st.one_of(grid, st.floats(-1, 1)), st.one_of(grid, st.floats(-1, 1))), min_size=3,
                   max_size=8)  # fmt: skip
numbers = st.one_of(st.none(), st.just(float("nan")), grid, st.floats(-1.25, 1.25, width=32))


@given(corners, st.lists(st.tuples(numbers, numbers), min_size=1, max_size=30))
def test_a_polygon_is_the_same_over_arrays_and_in_sql(polygon, points):
    """Also with crossing lines, corners on points, and coordinates that are missing."""
    x, y = (pa.array([p[i] for p in points], pa.float32()) for i in (0, 1))
    arrays = [one.to_numpy(zero_copy_only=False) for one in (x, y)]
    rows = pa.table({"x": x, "y": y})
    query = f"SELECT coalesce({condition('x', 'y', polygon)}, false) FROM rows"
    found = duckdb.connect().register("rows", rows).execute(query).fetchall()
    assert inside(arrays[0], arrays[1], polygon).tolist() == [bool(one) for (one,) in found]


@given(st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=3, max_size=3), st.integers(0, 9))
def test_a_point_is_in_a_triangle_where_it_lies_on_one_side_of_all_edges(triangle, seed):
    points = np.random.default_rng(seed).uniform(-1, 1, (40, 2))
    ends = np.array(triangle)
    along = np.roll(ends, -1, 0) - ends
    to = points[:, None] - ends
    side = along[:, 0] * to[..., 1] - along[:, 1] * to[..., 0]
    clear = np.abs(side).min(1) > 1e-9
    expect = (side > 0).all(1) | (side < 0).all(1)
    found = inside(points[:, 0], points[:, 1], triangle)
    assert found[clear].tolist() == expect[clear].tolist()


def test_a_lasso_is_a_filter_beside_others_and_of_snapshots(store, selection):
    view = View(lasso=Lasso(points=AROUND_FIRST), ranges={"duration_s": (2.0, None)})
    chosen = selection.choose(view)
    names = store.read("clips", ["clip_id", "cluster_name", "duration_s"]).to_pylist()
    expect = {row["clip_id"] for row in names if row["cluster_name"] == CLUSTERS[0] and row["duration_s"] >= 2}
    assert set(selection.columns.ids.take(np.flatnonzero(chosen.mask)).to_pylist()) == expect
    removed = view.model_copy(update={"show": "lasso"})
    assert np.count_nonzero(selection.choose(removed).mask) == np.count_nonzero(chosen.others["lasso"]) - len(expect)
    for one in (view, removed, view.model_copy(update={"show": "removed"})):
        found = store.sql(sql_of(selection, one)).column(0).to_pylist()
        assert len(found) == np.count_nonzero(selection.choose(one).mask)
    made = freeze(store, selection, Freeze(name="lassoed", view=view))
    assert made["clips"] == len(expect)
    assert {row["clip_id"] for row in store.snapshots.rows("lassoed").to_pylist()} == expect


# --- what is drawn ---------------------------------------------------------------------------------------------------


def placed(store: Store, *more: str) -> list[dict[str, Any]]:
    rows = store.read("clips", ["clip_id", "map_x", "map_y", *more]).to_pylist()
    return [row for row in rows if row["map_x"] is not None]


def test_every_clip_that_has_a_place_is_drawn_in_its_cell(store, selection):
    found = plane(selection, Plane(across=30, down=20))
    rows = placed(store)
    assert (found["clips"], found["inside"], found["without"]) == (len(rows), len(rows), 40 - len(rows))
    x0, y0, x1, y1 = found["box"]
    counts, _, _ = np.histogram2d(
        [-row["map_y"] for row in rows], [row["map_x"] for row in rows], bins=(20, 30), range=((-y1, -y0), (x0, x1))
    )
    drawn = np.zeros(600)
    drawn[found["cells"]["at"]] = found["cells"]["count"]
    assert drawn.tolist() == counts.ravel().tolist()
    assert (x1 - x0) / 30 == pytest.approx((y1 - y0) / 20), "both axes have one scale"
    dots = dict(zip(found["dots"]["clip_id"], zip(found["dots"]["x"], found["dots"]["y"], strict=True), strict=True))
    assert dots == {row["clip_id"]: (row["map_x"], row["map_y"]) for row in rows}


def test_a_part_of_the_map_shows_the_clips_that_lie_in_it(store, selection):
    found = plane(selection, Plane(box=(-2, -2, 2, 2), across=16, down=16))
    here = [row for row in placed(store) if abs(row["map_x"]) < 2 and abs(row["map_y"]) < 2]
    assert (found["inside"], sum(found["cells"]["count"])) == (len(here), len(here))
    assert found["clips"] > len(here)
    nothing = plane(selection, Plane(box=(90, 90, 91, 91)))
    assert (nothing["inside"], nothing["cells"]["at"], nothing["dots"]["clip_id"]) == (0, [], [])
    assert plane(selection, Plane(view=View(where="false")))["clips"] == 0


def test_colours_are_the_mean_of_a_measure_and_the_commonest_of_categories(store, selection):
    one = Plane(across=4, down=3, colour="duration_s")
    found, rows = plane(selection, one), placed(store, "duration_s", "cluster_id")
    x0, y0, x1, y1 = found["box"]
    cells: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        at = int((y1 - row["map_y"]) / (y1 - y0) * 3) * 4 + int((row["map_x"] - x0) / (x1 - x0) * 4)
        cells.setdefault(at, []).append(row)
    means = [np.mean([row["duration_s"] for row in cells[at]]) for at in found["cells"]["at"]]
    assert found["cells"]["colour"] == pytest.approx(means, rel=1e-3)
    assert found["scale"]["kind"] == "number"
    found = plane(selection, one.model_copy(update={"colour": "cluster_id"}))
    for at, colour in zip(found["cells"]["at"], found["cells"]["colour"], strict=True):
        counts = Counter(row["cluster_id"] for row in cells[at])
        assert counts[colour] == max(counts.values())
    assert found["dots"]["colour"] == [row["cluster_id"] for row in rows]
    found = plane(selection, one.model_copy(update={"colour": "camera_motion"}))
    assert found["scale"] == {"kind": "words", "words": ["pan_left", "static", "zoom_in"]}


def test_where_clips_are_many_some_are_dots_and_all_are_counted(selection, monkeypatch):
    monkeypatch.setattr(plane_module, "MOST_DOTS", 10)
    found = plane(selection, Plane())
    assert len(set(found["dots"]["clip_id"])) == 10
    assert sum(found["cells"]["count"]) == found["inside"] == 36
    assert plane(selection, Plane())["dots"] == found["dots"]


def test_a_lasso_leaves_its_surroundings_on_the_map_and_not_in_the_clusters(selection):
    view = View(lasso=Lasso(points=AROUND_FIRST))
    found, whole = plane(selection, Plane(view=view)), plane(selection, Plane())
    assert found["clips"] == whole["clips"]
    assert [one["name"] for one in found["clusters"]["list"]] == [CLUSTERS[0]]
    rest = plane(selection, Plane(view=view.model_copy(update={"show": "lasso"})))
    assert [one["name"] for one in rest["clusters"]["list"]] == [CLUSTERS[1], CLUSTERS[2]]


# --- clusters --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("weights", ["", "cluster", "density", "duration_s"])
def test_clusters_have_the_shares_that_a_snapshot_gives_them(store, selection, weights):
    name, view = f"by-{weights or 'none'}", View(ranges={"cluster_id": (0.0, None)})
    if weights == "density":  # the page's own measures density among the snapshot's clips, which have no vectors here
        store.snapshots.create(name, sql_of(selection, view), weights=Balance("density", within="store"))
    else:
        freeze(store, selection, Freeze(name=name, view=view, weights=weights))
    drawn = {row["clip_id"]: row["weight"] for row in store.snapshots.rows(name).to_pylist()}
    of = {row["clip_id"]: row["cluster_id"] for row in placed(store, "cluster_id")}
    found = plane(selection, Plane(weights=weights))["clusters"]
    for one in found["list"]:
        members = [clip for clip, cluster in of.items() if cluster == one["id"]]
        assert (one["clips"], one["name"]) == (len(members), CLUSTERS[one["id"]])
        assert one["share"] == pytest.approx(len(members) / len(of))
        assert one["weighted"] == pytest.approx(sum(drawn[clip] for clip in members) / sum(drawn.values()), rel=1e-6)
    assert [one["clips"] for one in found["list"]] == sorted((one["clips"] for one in found["list"]), reverse=True)
    assert found["list"][0]["x"] == pytest.approx(0, abs=1), "the middle of the first cluster"
    squared = sum(weight**2 for weight in drawn.values())
    assert found["effective"] == pytest.approx(sum(drawn.values()) ** 2 / squared, rel=1e-6)


@pytest.mark.parametrize("asked", [
    Plane(x="nope"), Plane(y="camera_motion"), Plane(x="review_at"), Plane(colour="nope"),
    Plane(colour="span_captions"),
    Plane(weights="nope"), Plane(weights="camera_motion"), Plane(box=(1, 0, 0, 1)),
    Plane(view=View(lasso=Lasso(x="camera_motion", points=AROUND_FIRST))),
    Plane(view=View(lasso=Lasso(x="review_verdict", points=AROUND_FIRST))),
])  # fmt: skip
def test_a_map_that_cannot_be_is_a_sentence(selection, asked):
    with pytest.raises(ReelError) as refused:
        plane(selection, asked)
    assert 10 < len(str(refused.value)) < 600


def test_any_two_columns_of_numbers_make_a_map(selection):
    view = View(where=f"clip_id = '{clip_id(1)}'")
    found = plane(selection, Plane(x="width", y="duration_s", view=view))
    assert (found["dots"]["x"], found["dots"]["y"], found["inside"]) == ([176], [1.125], 1)
