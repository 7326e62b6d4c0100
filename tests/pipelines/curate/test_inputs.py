"""What was named, row by row, in the store: spans, captions, ids that repeat, rows that fail, files without a clip."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.records.history import History
from reelwright.curation.store import Store
from reelwright.pipelines.curate.driver import Curation
from reelwright.pipelines.runtime.progress import Progress
from tests.footage import footage, frames, shots, write
from tests.pipelines.helpers import check_whole, curate, recipe_of

pytestmark = pytest.mark.usefixtures("ray_local")


@pytest.fixture(scope="module")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    footage(folder, 4, lengths=(50, 50))
    write(folder / "one frame.mp4", frames(1))
    write(folder / "short.mp4", shots((10, 10), seed=9))
    return folder


TOLD = recipe_of(annotators=["flaky", "loud"])


def rows_of(store: Path, table: str, *columns: str) -> list[tuple]:
    return [tuple(r[c] for c in columns) for r in Store.open(store).read(table, list(columns)).to_pylist()]


def test_new_captions_of_a_manifest_reach_sources_clips_and_what_annotators_made_of_them(films, tmp_path):
    manifest, store, recipe = films / "told.jsonl", tmp_path / "store", recipe_of(annotators=["captions"])

    def run(whole: list[str] | None, part: str) -> tuple[int, int]:
        rows = [
            {"uri": "film00.mp4", "caption": whole},
            {"uri": "film01.mp4", "start": 0.0, "end": 2.0, "caption": part},
            {"uri": "film01.mp4", "start": 2.0, "end": 4.0, "caption": "stays"},
            {"uri": "film02.mp4", "caption": "as it was"},
        ]
        manifest.write_text("\n".join(map(json.dumps, rows)))
        summary = curate(store, [manifest], recipe)
        return summary.clips, summary.recaptioned

    def texts() -> dict[str, set[str]]:
        name_of = dict(rows_of(store, "sources", "md5", "uri"))
        found: dict[str, set[str]] = {}
        for md5, captions in rows_of(store, "clips", "source_md5", "captions"):
            told = {c["text"] for c in captions if c["kind"] == "source"}
            found.setdefault(Path(name_of[md5]).name, set()).update(told)
        return found

    def cut() -> tuple[set[tuple], int]:
        return set(rows_of(store, "clips", "clip_id", "clips_fingerprint")), Store.open(store).dataset("media").version

    first, told = run(["old"], "early")
    assert (first, told) == (6, 0)
    before = cut()
    assert run(["new", "newer"], "earlier") == (0, 2)
    assert texts() == {"film00.mp4": {"new"}, "film01.mp4": {"earlier", "stays"}, "film02.mp4": {"as it was"}}
    assert cut() == before
    sources = {Path(uri).name: rest for uri, *rest in rows_of(store, "sources", "uri", "caption", "captions", "spans")}
    assert sources["film00.mp4"] == ["new", ["new", "newer"], None]
    assert json.loads(sources["film01.mp4"][2]) == [[0.0, 2.0, ["earlier"]], [2.0, 4.0, ["stays"]]]
    assert run(["new", "newer"], "earlier") == (0, 0)
    assert run(None, "earlier") == (0, 0)  # a manifest that says nothing takes nothing away
    assert texts()["film00.mp4"] == {"new"}


def test_a_manifest_s_rows_are_accounted_for_one_by_one(films, tmp_path):
    rows = [
        {"uri": "film00.mp4", "start": 0.4, "end": "0:01.2", "caption": "first"},
        {"uri": "film00.mp4", "start": 1.2, "end": 3.2, "caption": ["across", "the cut"]},
        {"uri": "film01.mp4", "id": "x1", "caption": ["a", "b"]},
        {"uri": "film02.mp4", "id": "x1", "caption": float("nan")},
        {"caption": "no file"},
        {"uri": "gone.mp4"},
        {"uri": "one frame.mp4"},
        {"uri": "short.mp4"},
    ]
    manifest = films / "list.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    store = tmp_path / "store"
    summary = curate(store, [manifest], TOLD)
    assert (summary.inputs, summary.ok, summary.duplicate, summary.failed) == (7, 4, 1, 2)
    assert summary.no_clip == {"one frame": 1, "shots under 1 s": 1}
    assert summary.same_id == {"x1": 1}
    columns = ("state", "caption", "captions", "spans", "no_clip_reason", "num_clips")
    sources = {Path(uri).name: rest for uri, *rest in rows_of(store, "sources", "uri", *columns)}
    spans = [[0.4, 1.2, ["first"]], [1.2, 3.2, ["across", "the cut"]]]
    assert json.loads(sources["film00.mp4"][3]) == spans
    assert sources["film01.mp4"][:3] == ["ok", "a", ["a", "b"]]
    assert sources["film02.mp4"][:2] == ["duplicate", None]
    assert sources["one frame.mp4"][4:] == ["one frame", 0]
    assert sources["short.mp4"][4:] == ["shots under 1 s", 0]
    assert sources["list.jsonl#row 5"][0] == "failed"
    failures = {Path(uri).name: rest for uri, *rest in rows_of(store, "failures", "uri", "stage", "error")}
    stage, error = failures.pop("list.jsonl#row 5")
    assert stage == "ingest"
    assert error.startswith("manifest: row 5 (line 5) of list.jsonl: no value in a column named uri")
    assert failures["gone.mp4"] == ["probe", f"io: {films / 'gone.mp4'} does not exist"]
    md5 = rows_of(store, "sources", "md5", "uri")
    (of_first,) = [m for m, uri in md5 if uri.endswith("film00.mp4")]
    columns = ("start_frame", "end_frame", "span_caption", "span_captions", "source_md5")
    clips = [c for c in rows_of(store, "clips", *columns) if c[4] == of_first]
    assert sorted(c[:4] for c in clips) == [
        (10, 30, "first", ["first"]), (50, 80, "across", ["across", "the cut"]),
    ]  # fmt: skip
    check_whole(store)
    words = {c[0]: c[1].partition("! ")[2] for c in rows_of(store, "clips", "start_frame", "loud_words", "source_md5")
             if c[2] == of_first}  # fmt: skip
    assert words == {10: "first", 50: "across"}  # an annotator is told the caption of the clip's part
    assert {w.partition("! ")[2] for (w,) in rows_of(store, "clips", "loud_words")} == {"first", "across", "a"}

    again = curate(store, [manifest], TOLD)
    assert (again.inputs, again.done_before, again.no_clip) == (7, 7, summary.no_clip)

    keep = recipe_of(manifests__repeated_ids="keep")
    kept = curate(store, [manifest], keep)
    assert (kept.ok, kept.duplicate, kept.clips) == (5, 0, 2)

    rows[1]["end"], rows[4]["uri"] = 2.8, "film03.mp4"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    mended = curate(store, [manifest], keep)
    assert (mended.ok, mended.failed, mended.cut_otherwise) == (6, 1, 1)
    assert not any("#row" in uri for (uri,) in rows_of(store, "sources", "uri"))
    check_whole(store)


def test_what_is_passed_over_is_listed(call, films, tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "list.csv").write_text("uri\na.mp4\n")
    (tmp_path / "in" / "new\nline.dat").write_bytes((films / "film00.mp4").read_bytes())
    listed = call("curate", "in", "--store", "store", "--plan", "--list-skipped")
    assert listed.returncode == 1
    assert listed.stdout.splitlines() == [
        f"{tmp_path}/in/list.csv\ta list, read where it is named itself (.csv)",
        f"{tmp_path}/in/new\\nline.dat\tlooks like mp4, read where it is named itself (.dat)",
    ]
    assert "no video files in in; skipped: 1 × a list" in listed.stderr


def test_rows_that_were_mended_are_no_failures_any_more(call, films, tmp_path):
    rows = "path\n{}\n{}/film00.mp4\n"
    (tmp_path / "m.csv").write_text(rows.format("webhdfs://host/a.mp4", films))
    store, options = tmp_path / "store", ("--set", "annotators=[light]", "--set", "encode.preset=ultrafast")
    made = call("curate", "m.csv", "-s", store, *options)
    assert "2 inputs = 1 ok + 0 duplicate + 1 failed" in made.stdout
    assert "1 rows of lists cannot be used" in made.stdout
    assert "m.csv#row 1" in call("failures", "-s", store).stdout
    (tmp_path / "m.csv").write_text(rows.format(f"{films}/film01.mp4", films))
    assert "2 inputs = 2 ok" in call("curate", "m.csv", "-s", store, *options).stdout
    assert "nothing failed" in call("failures", "-s", store).stdout


@pytest.fixture
def fading_server(films) -> Iterator[tuple[str, dict]]:
    """Serves a film until it is asked to stop: then the file is not there."""
    state = {"gone": False, "size": (films / "film03.mp4").stat().st_size}
    data = (films / "film03.mp4").read_bytes()

    class Fading(http.server.BaseHTTPRequestHandler):
        def do_GET(self, body: bool = True):
            if state["gone"]:
                self.send_error(404)
                return
            asked = self.headers.get("Range", "").removeprefix("bytes=").partition("-")
            first, last = int(asked[0] or 0), int(asked[2] or len(data) - 1)
            part = data[first : last + 1]
            self.send_response(206 if asked[0] else 200)
            self.send_header("Content-Length", str(len(part)))
            self.send_header("Accept-Ranges", "bytes")
            if asked[0]:
                self.send_header("Content-Range", f"bytes {first}-{first + len(part) - 1}/{len(data)}")
            self.end_headers()
            if body:
                self.wfile.write(part)

        def do_HEAD(self):
            self.do_GET(body=False)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Fading) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/film.mp4", state
        server.shutdown()


class LosingItsFile(Curation):
    """A run whose file goes away between the scan and the cut, which are two tasks where they need other resources."""

    state_of_server: dict

    def _scanned(self, source, found, payload) -> None:
        assert not found.cut
        self.state_of_server["gone"] = True
        super()._scanned(source, found, payload)


def test_a_source_whose_every_clip_failed_has_failed_and_is_tried_again(fading_server, tmp_path):
    uri, state = fading_server
    recipe = recipe_of(allow_http=True, resources__cut={"cpus": 2})
    store, inputs = Store.open(tmp_path / "store", create=True), list_inputs([uri], allow_http=True)
    history = History(store, inputs.files, recipe.cutting_fingerprint)
    with store.committing(), Progress("curate", quiet=True) as progress:
        run = LosingItsFile(store, recipe, inputs, history, [])
        run.state_of_server = state
        summary = run.run(progress)
    assert (summary.ok, summary.failed, summary.clips, summary.clips_failed) == (0, 1, 0, 2)
    failures = {(clip is None, error) for clip, error in rows_of(tmp_path / "store", "failures", "clip_id", "error")}
    (whole,) = [error for is_whole, error in failures if is_whole]
    assert whole.endswith("(none of its 2 clips could be cut)")
    check_whole(store)
    state["gone"] = False
    mended = curate(store, [uri], recipe, allow_http=True, retry_failed=True)
    assert (mended.ok, mended.failed, mended.clips) == (1, 0, 2)
    check_whole(store)
