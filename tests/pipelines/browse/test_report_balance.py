"""The report's Balance section: the map and the bars are the store's, hostile names stay text, gaps are said."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from reelwright.curation.store import Store
from reelwright.curation.store.schema import field
from reelwright.pipelines.browse.report import clusters as section
from reelwright.pipelines.browse.report.clusters import clusters, project
from reelwright.pipelines.browse.report.page import render
from tests.pipelines.browse.test_report import Reader

DIM = 8
NAMES = ["<script>alert(1)</script>", '"><img src=x onerror=y>', "{{ 7 * 7 }} \u202egpj", "plain"]
SIZES = [40, 20, 10, 2]


def fill(
    folder: Path, *, embedded: bool = True, seed: int = 0, names: list[str] = NAMES, sizes: list[int] = SIZES
) -> Store:
    """Clips in clusters about random directions, in an order of the seed."""
    store = Store.open(folder, create=True)
    rng = np.random.default_rng(0)
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    vectors = rng.normal(size=(len(sizes), DIM))[cluster] + rng.normal(0, 0.1, (len(cluster), DIM))
    order = np.random.default_rng(seed).permutation(len(cluster))
    columns: dict[str, Any] = {
        "clip_id": [f"{i:024x}" for i in order], "duration_s": [2.0] * len(order),
        "cluster_id": pa.array(cluster[order], pa.int32()), "cluster_name": [names[cluster[i]] for i in order],
        "density": pa.array([float(sizes[cluster[i]]) for i in order], pa.float32()),
    }  # fmt: skip
    if embedded:
        flat = pa.array(vectors[order].reshape(-1), pa.float32())
        columns["caption_embedding"] = pa.FixedSizeListArray.from_arrays(flat, DIM)
    table = pa.table(columns)
    added = [n for n in columns if n not in ("clip_id", "duration_s")]
    store.ensure_columns("clips", [field(n, table.schema.field(n).type, n, computed_by="tester") for n in added])
    store.append("clips", table)
    return store


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return fill(tmp_path_factory.mktemp("balance") / "store")


@pytest.fixture(scope="module")
def page(store: Store) -> str:
    return render(store)


def dots(path: str) -> int:
    return path.count("M")


def test_hostile_cluster_names_stay_text_and_the_page_asks_no_server(page: str) -> None:
    reader = Reader(page)
    assert not {"script", "iframe", "object", "link", "base", "form", "foreignobject"} & set(reader.tags)
    assert not [name for name in reader.attributes if name.startswith("on")]
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in reader.links)
    assert "<script>alert(1)</script>" in reader.text
    assert '"><img src=x onerror=y>' in reader.text
    assert "{{ 7 * 7 }} \\u202egpj" in reader.text
    assert "\u202e" not in page


def test_every_clip_is_a_dot_of_its_cluster_and_every_bar_its_share(store: Store, page: str) -> None:
    found = clusters(store, None)
    assert found is not None
    assert [(c.category.name, c.category.clips, dots(c.path)) for c in found.clusters] == [
        (name, size, size) for name, size in zip(NAMES, SIZES, strict=True)
    ]
    assert (found.points, found.with_embedding, found.without, dots(found.other_path)) == (72, 72, 0, 0)
    assert 0 < found.explained <= 1
    text = Reader(page).text
    assert "72 of 72 clips with an embedded caption" in text
    assert "1 <script>alert(1)</script> 40 2.22 × over" in text
    assert "4 plain 2 0.11 × under" in text
    bars = re.findall(r'class="track thin t2".*?class="bar" width="([\d.]+)"', page, re.DOTALL)
    assert [float(b) for b in bars][:3] == pytest.approx([100 * c.category.weighted["cluster"] / found.longest
                                                          for c in found.clusters[:3]], abs=0.01)  # fmt: skip


def test_dots_lie_on_the_map_and_clusters_apart(store: Store) -> None:
    found = clusters(store, None)
    assert found is not None
    places = [np.array(re.findall(r"M([\d.-]+) ([\d.-]+)h0", c.path), float) for c in found.clusters]
    every = np.concatenate(places)
    assert (every >= 0).all()
    assert (every <= [section.WIDTH, section.HEIGHT]).all()
    middles = [p.mean(0) for p in places[:2]]
    spread = max(p.std() for p in (places[0] - middles[0], places[1] - middles[1]))
    assert np.linalg.norm(middles[0] - middles[1]) > 4 * spread


def test_the_same_clips_in_another_order_make_the_same_map(store: Store, tmp_path: Path) -> None:
    other = clusters(fill(tmp_path / "store", seed=5), None)
    mine = clusters(store, None)
    assert mine is not None
    assert other is not None
    assert [sorted(c.path.split("M")) for c in other.clusters] == [sorted(c.path.split("M")) for c in mine.clusters]


def test_a_number_that_would_cover_a_larger_cluster_s_is_left_out():
    groups = [np.zeros((3, 2)), np.ones((2, 2)), np.full((1, 2), 90.0), np.zeros((0, 2))]
    assert section._numbers_at(groups) == [(0, 0), None, (90, 90), None]


def test_the_projection_is_pca_with_a_settled_sign():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 5)) * [1, 5, 2, 0.1, 0.5] + 3
    points, explained = project(vectors)
    u, s, _ = np.linalg.svd(vectors - vectors.mean(0), full_matrices=False)
    np.testing.assert_allclose(np.abs(points), np.abs(u[:, :2] * s[:2]), rtol=1e-6, atol=1e-6)
    assert explained == pytest.approx((s[:2] ** 2).sum() / (s**2).sum())
    assert np.corrcoef(points[:, 0], vectors[:, 1])[0, 1] > 0.99
    points, explained = project(np.ones((4, 5)))
    assert (points == 0).all()
    assert explained == 0


def test_a_large_set_is_sampled_and_many_clusters_are_shown_from_both_ends(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(section, "MAX_POINTS", 50)
    names = [f"cluster {i:02d}" for i in range(30)]
    store = fill(tmp_path / "store", names=names, sizes=[60 - i for i in range(30)])
    found = clusters(store, None)
    assert found is not None
    assert found.points == 50
    assert [c.category.name for c in found.clusters] == names[:10] + names[20:]
    assert sum(dots(c.path) for c in found.clusters) + dots(found.other_path) == 50
    assert (found.others, found.other_clips) == (10, sum(60 - i for i in range(10, 20)))
    assert found.with_embedding == sum(60 - i for i in range(30))


def test_a_condition_chooses_the_clips_of_the_section(store: Store) -> None:
    found = clusters(store, "density > 15")
    assert found is not None
    assert [c.category.clips for c in found.clusters] == [40, 20]
    assert found.points == 60
    assert clusters(store, "density > 1e6") is None


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    without = Reader(render(fill(tmp_path / "a", embedded=False))).text
    assert "No map: these clips have no caption_embedding" in without
    assert "4 plain 2 0.11 × under" in without
    empty = Reader(render(Store.open(tmp_path / "b", create=True))).text
    assert "No clip has a cluster. Make them with: reel annotate" in empty
