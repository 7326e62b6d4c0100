"""The report: its numbers are the store's, hostile names stay text, and it asks no server for anything."""

from __future__ import annotations

import base64
import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pytest

from reelwright.curation.store import Store, StoreError
from reelwright.curation.store.schema import field
from reelwright.pipelines.browse.report import write_report
from reelwright.pipelines.browse.report.facts import runs
from reelwright.pipelines.browse.report.page import gather, render, short, size, span
from reelwright.pipelines.browse.report.picks import sheets
from reelwright.pipelines.browse.report.scores import BUCKETS, scores
from tests.annotate.synth import encode

HOSTILE = "<script>alert('1')</script> & \"<img src=http://evil.example/x onerror=y>\" \u202egpj.mp4"
ERROR = "</td><style>@import url(https://evil.example)</style> {{ x }} packet 12"
COUNT = 9
SHARPNESS = [40.0, 10.0, 90.0, float("nan"), 70.0, None, 20.0, 60.0, 50.0]


def score_field(name: str, unit: str = "", type: pa.DataType = pa.float32()) -> pa.Field:
    return field(name, type, f"meaning of {name} <b>", unit=unit, computed_by="tester")


def clip_rows() -> list[dict[str, Any]]:
    return [
        {"clip_id": f"{i:x}" * 24, "source_md5": f"m{i % 3}", "shot_index": i, "start_s": 2.0 * i, "end_s": 2.0 * i + 2,
         "crop_w": 64, "crop_h": 48 if i else 36, "width": 64, "height": 48 if i else 36, "fps": 24.0, "num_frames": 48,
         "duration_s": 2.0, "bitrate_bps": 1000 * i, "blur_score": SHARPNESS[i], "camera_motion": "pan <left>",
         "caption": f"caption {i} {HOSTILE}"}
        for i in range(COUNT)
    ]  # fmt: skip


def source_rows() -> list[dict[str, Any]]:
    at = {"display_width": 64, "display_height": 48, "duration_s": 6.0, "codec": "h264", "container": "mp4"}
    ok = [
        {"source_id": str(i), "md5": f"m{i}", "uri": f"/f/{i} {HOSTILE}", "state": "ok", "bytes": 5, **at}
        for i in range(3)
    ]
    for row, clips, why in zip(ok, (5, 4, 0), (None, None, "all in transitions"), strict=True):
        row |= {"num_clips": clips, "no_clip_reason": why}
    copies = [{"source_id": f"d{i}", "md5": "m0", "uri": f"/f/copy {i}", "state": "duplicate", "duplicate_of": "0",
               "bytes": 1_500_000, **at} for i in range(2)]  # fmt: skip
    return [*ok, *copies, {"source_id": "x", "uri": f"/f/broken {HOSTILE}", "state": "failed"}]


def failure_rows() -> list[dict[str, Any]]:
    at = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    rows = [
        {"uri": f"/f/broken {i} {HOSTILE}", "stage": "probe", "error": f"{ERROR} of {i}", "at": at} for i in range(7)
    ]
    again = rows[0] | {"at": at + timedelta(hours=1), "attempts": 2}
    return [*rows, again, {"clip_id": "0" * 24, "stage": "blur", "error": "once", "at": at}]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = Store.open(tmp_path_factory.mktemp("report") / "store", create=True)
    columns = [score_field("blur_score", "level²"), score_field("camera_motion", type=pa.string())]
    store.ensure_columns("clips", [*columns, score_field("caption", type=pa.string())])
    rows = clip_rows()
    ids = [row["clip_id"] for row in rows][:-1]  # the last clip's media is lost
    mp4s = [encode([np.full((48, 64, 3), 20 * i + 20, np.uint8)] * 3) for i in range(len(ids))]
    store.commit_media([store.write_media(ids, mp4s)])
    store.append("clips", rows)
    store.append("shots", [{"source_md5": "m0", "start_s": 0.0, "end_s": 5.0, "transition": "cut"}] * 4)
    store.append("failures", failure_rows())
    store.append("runs", [run_row("good", '{"probe": 1.5, "cut": 4.5}'), run_row("bad", "{not json")])
    store.append("sources", source_rows())
    return store


def run_row(run_id: str, stage_seconds: str) -> dict[str, Any]:
    began = datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    return {"run_id": run_id, "command": "curate", "state": "finished", "started_at": began, "counts": '{"clips": 9}',
            "ended_at": began + timedelta(seconds=75), "stage_seconds": stage_seconds,
            "stage_bytes": '{"clips": 4500000, "inputs": 8000000}',
            "stages": json.dumps({"probe": {"tasks": 2, "cpu_s": 1.0, "wait_s": 0.0, "peak_bytes": 1 << 20},
                                  "cut": {"tasks": 3, "cpu_s": 4.25, "wait_s": 1.5, "peak_bytes": 3 << 28,
                                          "requests": 7, "bytes_in": 2_500_000},
                                  "write": {"tasks": 1, "cpu_s": 2.0, "wait_s": 0.0, "peak_bytes": 1 << 20,
                                            "requests": 9, "bytes_in": 1000, "write_requests": 7, "bytes_out": 3e7},
                                  "list": {"tasks": 0, "seconds": 0.0, "requests": 3, "bytes_in": 0},
                                  "store": {"requests": 1234, "bytes_read": 5e6, "bytes_written": 7e6}})}  # fmt: skip


@pytest.fixture(scope="module")
def page(store: Store) -> str:
    return render(store)


@pytest.fixture(scope="module")
def facts(store: Store) -> dict[str, Any]:
    return gather(store, None)


class Reader(HTMLParser):
    """Tags, what they point at, and the text between them."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.words: list[str] = []
        self.feed(page)
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] != ["style"]:
            self.words.append(data)


def test_a_run_s_stages_say_what_they_took(page: str) -> None:
    text = Reader(page).text
    assert "3 tasks · 4.2 s of CPU · 1.5 s waited · peak 768 MiB · 2.5 MB read by 7 requests" in text
    assert "by 7 requests · 2.00 clips per second of a worker" in text, "9 clips in 4.5 s"
    assert "probe 1.5 s 2 tasks · 1.0 s of CPU · 0.0 s waited · peak 1 MiB" in text
    assert "6.00 clips per second of a worker · 8.0 MB read" in text, "of a disk, where no requests are counted"
    assert "4.5 MB written" not in text, "they are told with their requests"
    assert "store 1,234 requests · 5.0 MB read · 7.0 MB written" in text, "no time stands where none is known"
    assert "0.0 MB read by 2 requests · 30.0 MB written by 7 requests" in text
    assert "list 0.0 MB read by 3 requests" in text
    assert "clips per second 0.12" in text


def test_a_run_on_a_disk_says_the_bytes_that_it_read_and_wrote(tmp_path: Path) -> None:
    task = {"tasks": 2, "cpu_s": 1.0, "wait_s": 0.0, "peak_bytes": 1 << 20}
    stages = {"probe": task, "write": task | {"seconds": 3.0}}
    store = Store.open(tmp_path / "store", create=True)
    store.append("runs", [run_row("disk", '{"probe": 1.5}') | {"stages": json.dumps(stages)}])
    (run,) = runs(store)
    said = {stage.label: stage.more.split(" · ")[4:] for stage in run.stages}
    assert said == {
        "probe": ["6.00 clips per second of a worker", "8.0 MB read"],
        "write": ["3.00 clips per second of a worker", "4.5 MB written"],
    }


def test_the_counts_are_the_store_s_and_add_up(store: Store, facts: dict[str, Any], page: str) -> None:
    text = Reader(page).text
    assert "6 files = 3 ok + 2 duplicate + 1 failed" in text
    assert "no known state" not in text
    stages = {stage.name: (stage.count, round(stage.hours * 3600)) for stage in facts["funnel"]}
    assert stages == {
        "files found": (6, 30),
        "readable": (5, 30),
        "unique": (3, 18),
        "with clips": (2, 12),
        "shots": (4, 20),
        "clips": (9, 18),
    }
    assert stages["clips"][0] == store.count("clips")
    assert "Why files gave no clip" in text
    assert "all in transitions" in text


def test_a_source_in_no_known_state_is_seen(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    store.append("sources", [{"source_id": "a", "uri": "a", "state": "lost"}])
    assert "and 1 in no known state" in Reader(render(store)).text


def test_hostile_names_errors_and_captions_stay_text(page: str) -> None:
    reader = Reader(page)
    assert not {"script", "iframe", "object", "link", "base", "form"} & set(reader.tags)
    assert reader.tags.count("style") == 1
    assert not [name for name in reader.attributes if name.startswith("on")]
    assert "<script>alert('1')</script>" in reader.text
    assert "{{ x }}" in reader.text
    assert "\u202e" not in page
    assert "\\u202egpj.mp4" in reader.text
    assert "caption 1" not in page, "captions are no category"


def test_the_page_asks_no_server_for_anything(page: str) -> None:
    links = Reader(page).links
    assert links
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in links)
    style = page[page.index("<style>") : page.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in page


def test_best_and_worst_clips_are_in_order_without_those_that_have_no_score(facts: dict[str, Any]) -> None:
    found = {sheet.title: [pick.value for pick in sheet.picks] for sheet in facts["sheets"]}
    assert found["Sharpest"] == [90, 70, 60, 50, 40, 20]
    assert found["Blurriest"] == [10, 20, 40, 50, 60, 70]
    assert len(found["A sample"]) == COUNT


def test_pictures_are_the_clips_and_a_lost_one_is_crossed_out(facts: dict[str, Any]) -> None:
    sample = facts["sheets"][0].picks
    for k in (0, COUNT - 1):
        data = base64.b64decode(sample[k].picture.partition(",")[2])
        grey = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE)
        assert abs(int(grey[10, 30]) - (20 if k == 0 else 70)) < 8


def test_failures_are_grouped_by_what_they_say_but_for_numbers(facts: dict[str, Any]) -> None:
    probe, blur = facts["failures"]
    assert (probe["stage"], probe["count"], len(probe["examples"])) == ("probe", 7, 3)
    assert probe["message"].endswith("packet … of …")
    assert (blur["message"], blur["count"], blur["examples"]) == ("once", 1, ["0" * 24])


def test_duplicates_runs_crops_and_words_are_told(page: str) -> None:
    text = Reader(page).text
    assert "0 2 3 MB /f/copy 0 /f/copy 1" in text
    took = "1 min 15 s clips 9 clips per second 0.12 probe 1.5 s 2 tasks"
    assert f"2026-01-02 03:04 UTC curate good finished {took}" in text
    assert "64×48 → 64×36 1" in text
    assert "whole picture 8" in text
    assert "pan <left> 9" in text


def test_each_section_is_in_the_navigation(page: str) -> None:
    sections = re.findall(r'<section id="([^"]+)"', page)
    assert re.findall(r'<a href="#([^"]+)"', page) == sections
    assert len(sections) >= 8
    assert f"<b>{COUNT}</b><span>clips</span>" in page


def test_scores_that_a_histogram_shows_nothing_of_are_named_instead(tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store", create=True)
    ids = [f"c{i:03d}" for i in range(40)]
    store.append("clips", [{"clip_id": i, "source_md5": "m"} for i in ids])
    values = {"spread": list(range(40)), "same": [0.5] * 40, "rare": [1.0] + [None] * 39}
    fields = [pa.field("clip_id", pa.string()), *(score_field(name) for name in values)]
    columns = [pa.array(ids), *(pa.array(v, pa.float32()) for v in values.values())]
    words = pa.array(["wide" if i % 2 else "close" for i in range(40)])
    fields += [score_field("shot", type=pa.string()), score_field("group", type=pa.string())]
    rows = pa.Table.from_arrays([*columns, words, pa.array(ids)], schema=pa.schema(fields))
    store.merge("clips", rows, "clip_id")
    store.append("snapshots", [{"name": "s", "num_clips": 40, "created_at": datetime.now(UTC)}])
    facts = gather(store, None)
    assert [score.name for score in facts["scores"]] == ["spread"]
    assert [bars.title for bars in facts["categories"]] == ["shot"]
    page = render(store)
    assert "<code>same</code> (0.5 for each clip)" in page
    assert "<code>rare</code> (1 of 40 clips have a value)" in page
    assert '<a href="#snapshots">' in page


def test_every_score_comes_with_its_meaning_unit_and_gaps(page: str) -> None:
    text = Reader(page).text
    assert "blur_score level² meaning of blur_score <b> by tester" in text
    assert "7 clips, 2 without a value" in text


def test_a_histogram_counts_what_numpy_counts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    columns = {
        "flat": rng.uniform(-3, 5, 5000),
        "tail": rng.lognormal(0, 2, 5000),
        "one": np.full(5000, 4.25),
        "whole": rng.integers(0, 9, 5000).astype(float),
        "odd \"name'": np.where(np.arange(5000) % 5, rng.normal(1e6, 1, 5000), np.inf),
        "none": np.full(5000, np.nan),
    }
    store = Store.open(tmp_path / "store", create=True)
    store.ensure_columns("clips", [score_field(name, type=pa.float64()) for name in columns])
    store.append("clips", pa.table({"clip_id": [str(i) for i in range(5000)], **columns}))
    found = {s.name: s for s in scores(store, "clips", list(columns))}
    assert list(found) == list(columns)[:-1], "a column without values has no histogram"
    for name, s in found.items():
        values = columns[name][np.isfinite(columns[name])]
        assert sum(s.buckets) == s.count == len(values)
        assert s.missing == 5000 - len(values)
        np.testing.assert_allclose(
            [s.lowest, s.p5, s.median, s.p95, s.highest], np.quantile(values, (0, 0.05, 0.5, 0.95, 1))
        )
        place = np.clip(np.floor((values - s.start) / s.step), 0, BUCKETS - 1).astype(int)
        assert s.buckets == np.bincount(place, minlength=BUCKETS).tolist()
    assert found["tail"].is_cut
    assert not found["flat"].is_cut


def test_a_condition_chooses_the_clips_of_scores_and_sheets(store: Store) -> None:
    where = "blur_score BETWEEN 50 AND 100 -- <b>"
    text = Reader(render(store, where)).text
    assert f"Clips that pass {where}" in text
    assert "chosen clips that pass the condition above 4" in text
    assert "4 clips" in text
    chosen = sheets(store, where)
    assert [p.value for p in chosen[1].picks] == [90, 70, 60, 50]
    assert len(chosen[0].picks) == 4


@pytest.mark.parametrize("where", ["blur_scor > 1", "1 = 1) or (", "true; drop table clips", "select"])
def test_a_condition_that_is_none_is_refused_in_a_sentence(store: Store, tmp_path: Path, where: str) -> None:
    with pytest.raises(StoreError, match="is not a condition over clips"):
        write_report(store, tmp_path / "r.html", where=where)
    assert not list(tmp_path.iterdir())


def test_an_empty_store_has_a_page(tmp_path: Path) -> None:
    path = write_report(Store.open(tmp_path / "store", create=True), tmp_path)
    assert path == tmp_path / "report.html"
    text = Reader(path.read_text("utf-8")).text
    for says in ("No file has been curated yet", "No clips yet", "Nothing failed", "No run has been recorded"):
        assert says in text


def test_a_place_that_cannot_be_written_is_named(store: Store, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot write"):
        write_report(store, tmp_path / "missing" / "r.html")


def test_numbers_are_written_short() -> None:
    assert [short(v) for v in (0.0, 0.01234, 12.345, -1234.5, 123_456, 1.5e6, 2e12, None)] == [
        "0", "0.012", "12.3", "-1,234", "123 k", "1.5 M", "2e+03 G", "–",
    ]  # fmt: skip
    for value in (-0.000216, 3.15e-5, -0.00476, 0.0838, -0.0805, 0.999, -39.1, 0.00382, -1e-12):
        assert len(short(value)) <= 8  # five of them fit on a card
        assert float(short(value)) == pytest.approx(value, rel=0.05)
    assert [span(v) for v in (0, 59.94, 61, 7200, None)] == ["0 s", "59.9 s", "1 min 1 s", "2.0 h", "–"]
    assert [size(v) for v in (0, 999, 1_500_000, 2e15)] == ["0 B", "999 B", "1.5 MB", "2,000.0 TB"]
