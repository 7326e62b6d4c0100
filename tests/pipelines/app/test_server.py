"""`reel app` as a process: media by range, who may ask, and requests that mean harm."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from reelwright.curation.store import Store
from reelwright.curation.store.schema import schemas
from reelwright.pipelines.app.routes import API
from tests.pipelines.app.made import CLIPS, HOSTILE, clip_id

pytestmark = pytest.mark.waits
HUGE = "x" * 3_000_000


# --- media -----------------------------------------------------------------------------------------------------------


def test_a_clip_comes_whole_and_by_parts(app, path):
    ((_, whole),) = Store.open(path).read_media([clip_id(3)])
    address = f"/media/{clip_id(3)}.mp4"
    status, headers, body = app.ask(address)
    assert (status, body) == (200, whole)
    assert (headers["accept-ranges"], headers["content-type"]) == ("bytes", "video/mp4")
    status, headers, body = app.ask(address, range="bytes=100-299")
    assert (status, body) == (206, whole[100:300])
    assert headers["content-range"] == f"bytes 100-299/{len(whole)}"
    assert app.ask(address, range="bytes=-64")[2] == whole[-64:]
    assert app.ask(address, range="bytes=0-")[0] == 206
    status, headers, body = app.ask(address, range=f"bytes={len(whole)}-")
    assert (status, headers["content-range"], body) == (416, f"bytes */{len(whole)}", b"")
    status, headers, body = app.ask(address, method="HEAD")
    assert (status, headers["content-length"], body) == (200, str(len(whole)), b"")


def test_a_clip_has_a_picture(app):
    status, headers, body = app.ask(f"/thumb/{clip_id(0)}.jpg")
    assert (status, headers["content-type"], body[:2]) == (200, "image/jpeg", b"\xff\xd8")


# --- who may ask -----------------------------------------------------------------------------------------------------


def test_the_address_carries_the_token_once_and_a_cookie_after(app):
    status, headers, _ = app.ask(f"/?token={app.token}&v=1", cookie=None)
    assert (status, headers["location"]) == (303, "/?v=1")
    assert headers["set-cookie"].startswith(app.cookie)
    assert "HttpOnly" in headers["set-cookie"]
    status, headers, body = app.ask("/")
    assert (status, b"/static/app.js" in body) == (200, True)
    assert "script-src 'self'" in headers["content-security-policy"]
    assert headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("where", ["/", "/static/app.js", f"/media/{clip_id(1)}.mp4", f"/thumb/{clip_id(1)}.jpg"])
def test_without_the_token_nothing_is_shown(app, where):
    assert app.ask(where, cookie=None)[0] == 401
    assert app.ask(where, cookie=f"reel_{app.port}=guessed-token")[0] == 401
    assert app.ask(f"{where}?token=guessed-token", cookie=None)[0] == 401
    assert app.ask(where, sec_fetch_site="cross-site", sec_fetch_mode="no-cors")[0] == 403
    assert app.ask(where, host="evil.example")[0] == 403


def test_another_site_s_page_decides_nothing(app, path):
    body = {"action": "drop", "reviewer": "evil", "clip_ids": [clip_id(0)]}
    before = Store.open(path).count("reviews")
    tries: list[dict[str, str | None]] = [
        {"cookie": None}, {"origin": "http://evil.example"}, {"content_type": "text/plain"},
        {"content_type": "application/x-www-form-urlencoded"}, {"sec_fetch_site": "cross-site"}, {"host": "a.b"},
    ]  # fmt: skip
    for headers in tries:
        assert app.ask("/api/decide", body, **headers)[0] in (401, 403)
    assert Store.open(path).count("reviews") == before


# --- harm ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", [
    "/static/../routes.py", "/static/..%2froutes.py", "/static/%2e%2e/routes.py", "/static//etc/passwd",
    "/static/sources.sha256", "/media/..%2f..%2fclips.mp4", "/media/%27%20OR%201=1--.mp4", f"/media/{clip_id(99)}.mp4",
    "/media/%00.mp4", "/thumb/%ff.jpg", "/api/nothing", "/api/__init__", "/etc/passwd", "//etc/passwd",
])  # fmt: skip
def test_a_path_leads_nowhere_else(app, where):
    status, _, body = app.ask(where)
    assert status in (404, 405)
    assert b"root:" not in body
    assert b"import" not in body


@pytest.mark.parametrize("query", [
    "select * from read_csv('/etc/passwd')", "select * from '/etc/passwd'", "copy clips to '/tmp/stolen.csv'",
    "attach '/tmp/x.db'", "install httpfs", "set memory_limit='100GB'", "drop table clips", "delete from clips",
    "select getenv('HOME')", "select * from duckdb_settings()", "select 1; select 2", "", ";",
    "select repeat('x', 1e9)",
    "select * from glob('/*')", "pragma database_list", "call pragma_version()", "explain analyze select 1", "\x00",
])  # fmt: skip
def test_sql_reads_the_store_and_nothing_else(app, query):
    status, _, body = app.ask("/api/sql", {"query": query})
    assert status == 400, body
    sentence = json.loads(body)["error"]
    assert "Traceback" not in sentence
    assert len(sentence) < 1_000
    status, _, body = app.ask("/api/page", {"view": {"where": query or "("}})
    assert status == 400, body


@pytest.mark.exhaustive  # 20 s; tests of the store stop queries sooner
def test_a_query_that_never_ends_is_stopped_and_the_grid_answers_meanwhile(app):
    from concurrent.futures import ThreadPoolExecutor

    endless = (
        "select count(*) from clips a, clips b, clips c, clips d, clips e, clips f, clips g where a.fps + g.fps > 1"
    )
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(app.ask, "/api/sql", {"query": endless})
        assert app.call("page", limit=5)["shown"] == CLIPS
        assert not slow.done()
        status, _, body = slow.result()
    assert status == 400
    assert b"took longer than" in body


def test_texts_that_mean_harm_stay_texts(app, path):
    rows = app.call("page", view={"where": f"clip_id = '{clip_id(1)}'"})["rows"]
    assert rows[0]["caption"] == HOSTILE
    assert app.call("clip", clip_id=clip_id(1))["source"]["uri"] == f"/footage/{HOSTILE}.mp4"
    app.call("decide", action="tag", text=HOSTILE[:50], reviewer="<b>ann</b>", clip_ids=[clip_id(1)])
    shown = app.call("clip", clip_id=clip_id(1))["review"]
    assert shown["tags"] == [" ".join(HOSTILE[:50].split())]
    assert app.call("page", view={"values": {"review_tags": shown["tags"]}})["shown"] == 1
    assert app.call("page", view={"values": {"camera_motion": ["'; DROP TABLE clips; --"]}})["shown"] == 0


def test_a_value_of_ten_megabytes_is_cut_and_a_request_of_three_is_refused(app, path):
    import pyarrow as pa

    big = pa.table({"clip_id": [clip_id(7)], "composed_caption": ["y" * 10_000_000]})
    Store.open(path).merge("clips", big, on="clip_id")
    status, _, body = app.ask("/api/page", {"view": {"where": f"clip_id = '{clip_id(7)}'"}})
    assert status == 200
    assert len(body) < 5_000
    assert len(app.ask("/api/clip", {"clip_id": clip_id(7)})[2]) < 100_000
    assert len(app.ask("/api/sql", {"query": "select composed_caption from clips"})[2]) < 100_000
    assert app.ask("/api/page", {"view": {"where": HUGE}})[0] == 413


names = st.sampled_from(
    ["blur_score", "camera_motion", "review_tags", "review_caption", "clip_id", "span_captions", "'", ""]
)
leaves = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=20), names,
                   st.just(clip_id(2)))  # fmt: skip
anything = st.recursive(
    leaves,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=3)),
    max_leaves=8,
)
fields = st.sampled_from(["view", "facets", "columns", "offset", "limit", "clip_id", "clip_ids", "query", "action",
                          "text", "reviewer", "name", "weights", "a", "b", "x", "y", "box", "colour"])  # fmt: skip
views = st.dictionaries(
    st.sampled_from(["ranges", "values", "where", "search", "lasso", "fold", "sort", "show", "descending", "seed"]),
    anything, max_size=4,
)  # fmt: skip
axes = st.one_of(names, st.sampled_from(["map_x", "map_y", "duration_s", "motion_score"]))
boxes = st.lists(st.floats(-20, 20), min_size=4, max_size=4)
bodies = st.one_of(
    anything,
    st.dictionaries(fields, anything, max_size=5),
    st.fixed_dictionaries({"view": views}),
    st.fixed_dictionaries({"x": axes, "y": axes}, optional={"colour": names, "weights": names, "box": boxes}),
    st.fixed_dictionaries({"facets": st.lists(names, max_size=3), "columns": st.lists(names, max_size=3)}),
)


evil = st.sampled_from([HOSTILE[:60], "../x", "/etc/passwd", "a'b", "<b>", "", "n"])
real = st.sampled_from(["blur_score", "duration_s", "width", "motion_score"])
number = st.one_of(st.none(), st.floats(-5, 200))
good_views = st.fixed_dictionaries({}, optional={
    "ranges": st.dictionaries(real, st.tuples(number, number), max_size=2),
    "values": st.fixed_dictionaries({"camera_motion": st.lists(st.one_of(st.none(), evil), max_size=2)}),
    "where": st.sampled_from(["", "duration_s > 2", "copy clips to 'stolen.csv'", "1) or (1", "review_tags is null"]),
    "search": st.fixed_dictionaries({"like": st.just(clip_id(1))}), "fold": st.booleans(),
    "lasso": st.just({"x": "map_x", "y": "map_y", "points": [[0, 0], [9, 0], [0, 9]]}),
    "sort": st.sampled_from(["", "random", "near_bound", "duration_s", "camera_motion", "review_at"]),
    "show": st.sampled_from(["kept", "removed", "where"]), "descending": st.booleans(),
})  # fmt: skip
place = st.integers(0, 50)
good = {
    "page": st.fixed_dictionaries({"view": good_views, "facets": st.lists(real, max_size=2), "offset": place}),
    "step": st.fixed_dictionaries({"view": good_views, "of": st.sampled_from([clip_id(3), "", "gone"]),
                                   "back": st.booleans(), "undecided": st.booleans()}),
    "between": st.fixed_dictionaries({"view": good_views, "offset": place, "count": st.integers(1, 60_000)}),
    "map": st.fixed_dictionaries({"view": good_views, "colour": real, "weights": evil}),
    "clip": st.fixed_dictionaries({"clip_id": st.one_of(st.just(clip_id(2)), evil)}),
    "sql": st.fixed_dictionaries({"query": st.sampled_from(["from clips", "drop table clips", "from '/etc/passwd'"])}),
    "decide": st.fixed_dictionaries({
        "action": st.sampled_from(["keep", "drop", "tag", "untag", "flip_star", "caption", "clear"]), "text": evil,
        "reviewer": evil, "clip_ids": st.lists(st.sampled_from([clip_id(8), clip_id(9), "gone"]), max_size=2),
    }),
    "undo": st.fixed_dictionaries({"reviewer": evil}), "redo": st.fixed_dictionaries({"reviewer": evil}),
    "freeze": st.fixed_dictionaries({"name": evil, "view": good_views, "weights": st.one_of(evil, real)}),
    "freeze_arguments": st.fixed_dictionaries({"name": evil, "view": good_views}),
    "compare": st.fixed_dictionaries({"a": evil, "b": evil, "columns": st.lists(real, max_size=2)}),
}  # fmt: skip
WRITES = {"decide": {"reviews"}, "undo": {"reviews"}, "redo": {"reviews"}, "freeze": {"snapshots", "snapshot_rows"}}
"""Addresses that write -> their tables; decisions reach the columns review_* of clips a moment after."""
asked = st.sampled_from(sorted(API)).flatmap(
    lambda name: st.tuples(st.just(name), st.one_of(bodies, good[name]) if name in good else bodies)
)


def content(path: Path) -> tuple[dict[str, int], Any]:
    """Return the version of each table but clips, and the columns of clips that no decision is in."""
    store = Store.open(path)
    own = [one for one in store.schema("clips").names if not one.startswith("review_") and one != "composed_caption"]
    versions = {table: store.dataset(table).version for table in schemas() if table != "clips"}
    return versions, store.read("clips", own).sort_by("clip_id").to_pylist()


def files(path: Path) -> set[Path]:
    """Return what lies beside the store, where the server runs, and in it, but for the tables' own files."""
    return {one for one in path.parent.rglob("*") if one.parent == path or path not in one.parents}


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(request=asked)
def test_no_request_gets_a_traceback_or_changes_what_is_not_its_own(app, path, request):
    name, body = request
    (versions, clips), there = content(path), files(path)
    status, _, answer = app.ask(f"/api/{name}", raw=json.dumps(body).encode())
    assert status in (200, 400, 413), answer
    found: Any = json.loads(answer)
    assert status == 200 or set(found) == {"error"}
    assert b"Traceback" not in answer
    assert b"root:" not in answer
    after, now = content(path)
    assert {table for table in after if after[table] != versions[table]} <= WRITES.get(name, set())
    assert repr(now) == repr(clips)  # NaN among them
    assert files(path) == there
