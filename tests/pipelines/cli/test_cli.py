"""The `reel` command: what it imports, what it prints, and how it fails."""

import functools
import importlib.metadata
import io
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
import yaml

from tests.conftest import REEL, ROOT, Reel
from tests.footage import footage
from tests.pipelines.helpers import CHEAP_ARGUMENTS, curate

HEAVY = ("ray", "torch", "cv2", "lance", "lancedb", "av", "pyarrow", "numpy", "duckdb", "pandas", "onnxruntime")


@pytest.fixture(scope="module")
def store(tmp_path_factory, ray_local) -> Path:
    """Two films and a broken file."""
    folder = tmp_path_factory.mktemp("cli")
    footage(folder / "in", 2, lengths=(40, 40))
    (folder / "in" / "broken.mp4").write_bytes(b"x" * 100)
    curate(folder / "store", [folder / "in"])
    return folder / "store"


def test_the_command_imports_nothing_heavy():
    begin = "from reelwright.pipelines.cli.main import load_commands; load_commands()"
    program = f"import sys; {begin}\nprint([m for m in {HEAVY!r} if m in sys.modules])"
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert made.stdout.strip() == "[]", made.stderr


def commands() -> list[tuple[str, ...]]:
    import typer

    from reelwright.pipelines.cli.app import app
    from reelwright.pipelines.cli.main import load_commands

    load_commands()

    def below(command, path: tuple[str, ...]):
        for name, one in getattr(command, "commands", {}).items():
            if getattr(one, "commands", None):
                yield from below(one, (*path, name))
            else:
                yield (*path, name)

    return sorted(below(typer.main.get_command(app), ()))


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_every_command_shows_an_example(command):
    from typer.testing import CliRunner

    from reelwright.pipelines.cli.app import app

    shown = CliRunner().invoke(app, [*command, "--help"])
    assert shown.exit_code == 0
    assert "Example:" in shown.output
    assert f"reel {' '.join(command)}" in shown.output


def test_only_the_command_that_was_asked_for_has_options_and_the_help_is_the_same():
    import typer
    from typer.testing import CliRunner

    from reelwright.pipelines.cli.app import app
    from reelwright.pipelines.cli.asked import only_asked

    commands()  # loads them
    for words in ([], ["--help"], ["checkpoint", "--help"], ["checkpoint", "export", "--help"], ["sql", "-h"], ["sqk"]):
        shown, whole = (CliRunner().invoke(a, words) for a in (only_asked(app, words), app))
        assert (shown.output, shown.exit_code) == (whole.output, whole.exit_code)
    asked = typer.main.get_command(only_asked(app, ["sql", "select 1"]))
    assert {name for name, one in asked.commands.items() if len(one.params) > 0} == {"sql"}


def test_reel_alone_shows_what_there_is(reel):
    shown = reel()
    assert shown.returncode in (0, 2)
    for command in {names[0] for names in commands()}:
        assert f"\n  {command} " in shown.stdout + shown.stderr


def test_versions_are_told(call):
    said = call("--version")
    assert said.returncode == 0, said.stderr
    first, *others = said.stdout.splitlines()
    assert first == f"reelwright {importlib.metadata.version('reelwright')}"
    assert f"  ray {importlib.metadata.version('ray')}" in others


def refused(reel: Reel, *arguments: str | Path, code: int = 1) -> str:
    """The one line on standard error."""
    made = reel(*arguments)
    assert made.returncode == code, made.stdout + made.stderr
    lines = made.stderr.strip().splitlines()
    assert len(lines) == 1, made.stderr
    assert "Traceback" not in made.stderr
    return lines[0]


def test_an_error_is_one_line_of_a_real_process_too(reel, tmp_path):
    assert "reel curate" in refused(reel, "tables", "--store", tmp_path / "nowhere")


def test_errors_are_one_line_that_says_what_to_do(call, store, tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("inputs: [x]\nclip: {max_s: 3}\n")
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    footage(tmp_path / "in", 1, lengths=(10,))
    target = ("--store", tmp_path / "new")
    assert "reel curate" in refused(call, "tables", "--store", tmp_path / "nowhere")
    assert "blur_score" in refused(call, "sql", "select blur_scor from clips", "-s", store)
    assert "clips" in refused(call, "describe", "clip", "-s", store)
    assert "only SELECT" in refused(call, "sql", "drop table clips", "-s", store)
    assert "no store was named" in refused(call, "curate", tmp_path / "in")
    assert "does not exist" in refused(call, "curate", tmp_path / "missing", *target)
    assert "no video files" in refused(call, "curate", tmp_path / "empty", *target)
    assert "--allow-http" in refused(call, "curate", "http://127.0.0.1:1/x.mp4", *target)
    assert "'clips.max' is not a setting" in refused(call, "curate", tmp_path / "in", *target, "--set", "clips.max=3")
    assert "KEY=VALUE" in refused(call, "curate", tmp_path / "in", *target, "--set", "clips.max_s")
    assert "clips.max_s" in refused(call, "curate", tmp_path / "in", *target, "--set", "clips.max_s=soon")
    assert "--set" in refused(call, "curate", tmp_path / "in", *target, "--set", "clips.max_s=[1")
    assert "'clip' is not a setting" in refused(call, "curate", tmp_path / "bad.yaml", *target)
    assert "is not a recipe" in refused(call, "curate", tmp_path / "list.yaml", *target)
    assert "missing.yaml" in refused(call, "curate", tmp_path / "missing.yaml", *target)
    assert "look-alikes: blur" in refused(call, "curate", tmp_path / "in", *target, "--set", "annotators=[blurr]")
    assert "no parameter" in refused(
        call, "curate", tmp_path / "in", *target, "--set", "annotators=[{blur: {heigth: 1}}]"
    )
    assert "add --out" in refused(call, "sql", "select 1", "-s", store, "-f", "parquet")
    assert "choose one of" in refused(call, "sql", "select 1", "-s", store, "-f", "xml")
    assert "other files" in refused(call, "curate", tmp_path / "in", "--store", tmp_path / "in")
    assert not (tmp_path / "new").exists(), "a run that was refused made a store"


@pytest.mark.parametrize("arguments", [
    ("report", "-s", "STORE", "--out", "s3://bucket/report.html"),
    ("train", "recipe.yaml", "--snapshot", "all", "-s", "STORE", "--out", "s3://bucket/runs"),
    ("train", "s3://bucket/recipe.yaml", "--snapshot", "all", "-s", "STORE"),
    ("generate", "runs/a", "--prompt", "x", "--out", "gs://bucket/a.mp4"),
    ("checkpoint", "export", "runs/a", "s3://bucket/weights"),
    ("checkpoint", "import", "https://host/weights", "here"),
    ("sql", "select 1", "-s", "STORE", "-f", "parquet", "--out", "s3://bucket/a.parquet"),
], ids=lambda a: " ".join(a[:2]))  # fmt: skip
def test_a_uri_where_a_path_is_meant_is_refused_and_makes_no_folder(call, store, tmp_path, arguments):
    made = call(*(str(store) if one == "STORE" else one for one in arguments))
    assert made.returncode == 2, made.stderr
    assert "is a URI, and here a path of this machine is meant" in made.stderr
    assert not list(tmp_path.glob("*:"))


def test_sql_in_every_format(call, store, tmp_path, monkeypatch):
    query = "select clip_id, num_frames from clips order by clip_id"
    shown = call("sql", query, "-s", store)
    assert "num_frames" in shown.stdout
    assert "(4 rows)" in shown.stdout
    lines = [json.loads(line) for line in call("sql", query, "-s", store, "-f", "jsonl").stdout.splitlines()]
    assert [r["num_frames"] for r in lines] == [40] * 4
    assert json.loads(call("sql", query, "-s", store, "-f", "json").stdout) == lines
    assert call("sql", query, "-s", store, "-f", "csv").stdout.splitlines()[0] == "clip_id,num_frames"
    monkeypatch.setenv("REEL_STORE", str(store))
    made = call("sql", query, "-f", "parquet", "-o", tmp_path / "x.parquet")
    assert "wrote 4 rows" in made.stdout
    import pyarrow.parquet as pq

    assert pq.read_table(tmp_path / "x.parquet").num_rows == 4


def test_a_query_comes_in_words_from_a_file_or_from_standard_input(call, store, tmp_path, monkeypatch):
    text = "-- how many?\nselect count(*) as n\nfrom clips;\n"
    (tmp_path / "q.sql").write_text(text, encoding="utf-8-sig")
    shown = [call("sql", text, "-s", store).stdout, call("sql", "--file", "q.sql", "-s", store).stdout]
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    shown.append(call("sql", "-", "-s", store).stdout)
    assert shown == ["n\n-\n4\n(1 row)\n"] * 3
    assert "no query was given" in refused(call, "sql", "-s", store)
    assert "two queries" in refused(call, "sql", "select 1", "--file", "q.sql", "-s", store)
    assert "none.sql does not exist" in refused(call, "sql", "--file", "none.sql", "-s", store)
    assert call("sql", "--fromat", "csv", "select 1", "-s", store).returncode == 2


def test_whole_cells_on_request(call, store):
    query = "select repeat('x', 100) as x"
    widths = {(): 60, ("--width", 20): 20, ("--full",): 100}
    for options, wide in widths.items():
        assert len(call("sql", query, "-s", store, *options).stdout.splitlines()[2]) == wide


def test_show_writes_a_picture_or_the_clip_and_shortens_vectors(call, store, tmp_path):
    from reelwright.curation.store import Store

    opened = Store.open(store)
    clip_id, mp4 = next(opened.read_media(opened.read("clips", ["clip_id"])["clip_id"].to_pylist()))
    assert call("show", clip_id[:8], "-s", store).stdout.endswith(f"wrote {clip_id}.png\n")
    assert [p.name for p in tmp_path.iterdir()] == [f"{clip_id}.png"]
    call("show", clip_id, "-s", store, "--video", "clip.mp4")
    assert (tmp_path / "clip.mp4").read_bytes() == mp4
    assert call("show", clip_id, "-s", store, "--video", "a.mp4", "--out", "a.png").stdout.count("wrote") == 2
    assert "name a file ending in .mp4" in refused(call, "show", clip_id, "-s", store, "--video", "clip.mov")
    from reelwright.pipelines.cli.commands.query import _shown

    assert _shown([0.25] * 384, full=False) == "[0.25, 0.25, 0.25, 0.25, … 384 numbers; --full prints them]"
    assert _shown([0.25] * 384, full=True).count("0.25") == 384
    assert _shown("a caption of any length " * 20, full=False) == "a caption of any length " * 20


def test_a_pipe_that_closes_is_no_error(store):
    line = f"{' '.join(REEL)} sql 'select * from range(1000000)' -f csv -s {store} | head -1"
    made = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT)
    assert "Traceback" not in made.stderr
    assert made.stdout.strip() == "range"


def test_show_has_written_its_file_before_its_reader_goes(store, tmp_path):
    from reelwright.curation.store import Store

    opened = Store.open(store)
    clip_id, mp4 = next(opened.read_media(opened.read("clips", ["clip_id"])["clip_id"].to_pylist()))
    line = f"{' '.join(REEL)} show {clip_id} -s {store} --video {tmp_path}/clip.mp4 | true"
    made = subprocess.run(["bash", "-c", line], capture_output=True, text=True, cwd=ROOT)
    assert made.stderr == ""
    assert (tmp_path / "clip.mp4").read_bytes() == mp4


def test_failures_are_listed_until_they_are_mended(call, store, tmp_path, ray_local):
    shown = call("failures", "--store", store, "--detail")
    assert "broken.mp4" in shown.stdout
    assert "text: it is text, not a video" in shown.stdout
    assert "--retry-failed" in shown.stdout
    assert "broken" not in call("failures", "--store", store, "--stage", "scan").stdout
    (good,) = footage(tmp_path / "in", 1, lengths=(40,))
    whole = good.read_bytes()
    good.write_bytes(whole[:500])
    assert curate(tmp_path / "store", [good]).failed == 1
    assert "film00" in call("failures", "--store", tmp_path / "store").stdout
    good.write_bytes(whole)
    assert curate(tmp_path / "store", [good]).ok == 1
    assert "film00" not in call("failures", "--store", tmp_path / "store").stdout


def test_a_recipe_goes_round(call, tmp_path):
    first = call("recipe", "--set", "clips.max_s=7")
    (tmp_path / "my.yaml").write_text(first.stdout)
    assert yaml.safe_load(first.stdout)["clips"]["max_s"] == 7
    assert call("recipe", tmp_path / "my.yaml").stdout == first.stdout
    assert call("recipe", "curate", tmp_path / "my.yaml").stdout == first.stdout
    training = call("recipe", "train", "--set", "optim.lr=0.01").stdout
    (tmp_path / "train.yaml").write_text(training)
    assert yaml.safe_load(training)["optim"]["lr"] == 0.01
    assert call("recipe", "train", tmp_path / "train.yaml").stdout == training
    assert "'lr' is not a setting" in refused(call, "recipe", "train", "--set", "lr=1")
    assert "one recipe at a time" in refused(call, "recipe", "my.yaml", "train.yaml")


def test_a_snapshot_is_deleted_when_it_is_meant_and_nothing_was_made_of_it(call, store):
    from reelwright.curation.store import Store

    query = ("--sql", "select clip_id, source_md5 as film from clips")
    create = ("snapshot", "create", "-s", store, *query, "--limit-per")
    assert ": 2 clips" in call(*create, "film", "1", "one-each").stdout
    assert "look alike: start_s" in refused(call, *create, "star", "1", "x")
    assert "add --yes" in refused(call, "snapshot", "delete", "one-each", "-s", store)
    used = {"run_id": "1", "command": "train", "started_at": datetime.now(UTC),
            "counts": json.dumps({"snapshot": "one-each", "folder": "/runs/a"})}  # fmt: skip
    Store.open(store).append("runs", [used])
    said = refused(call, "snapshot", "delete", "one-each", "-s", store, "--yes")
    assert "was used by 1 run (train of" in said
    assert "in /runs/a" in said
    deleted = call("snapshot", "delete", "one-each", "-s", store, "--yes", "--force")
    assert deleted.stdout == f"deleted one-each\nfree what it alone pinned:  reel cleanup --store {store}\n"
    assert "no snapshot 'one-each'" in refused(call, "snapshot", "delete", "one-each", "-s", store, "--yes")


def test_looking_at_a_store(call, store):
    assert "clips " in call("tables", "--store", store).stdout
    about = call("describe", "clips", "--store", store).stdout
    assert "blur_score" in about
    assert "by blur" in about
    full = call("describe", "clips_full", "--store", store).stdout
    assert full.startswith(about.rstrip())
    assert "\nuri " in full
    assert call("describe", "failures_latest", "--store", store).stdout.startswith("uri ")


def test_a_run_from_a_recipe_says_what_a_person_wants_next(reel, call, ray_local, tmp_path):
    """Plan; then the whole command in its own process with its own Ray; and again."""
    footage(tmp_path / "in", 2, lengths=(40,))
    (tmp_path / "in" / "bad.mp4").write_bytes(b"x")
    (tmp_path / "in" / "notes.txt").write_text("x")
    recipe = {"inputs": ["in"], "encode": {"preset": "ultrafast"}, "shots": {"detector": "pyscenedetect"},
              "annotators": ["blur"]}  # fmt: skip
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(recipe))
    planned = call("curate", "run.yaml", "--store", "store", "--plan")
    assert planned.returncode == 0, planned.stderr
    assert "3 inputs: 2 new, 0 done before, 0 duplicates, 1 unreadable\n" in planned.stdout
    assert "skipped 1 file or folder: 1 × a list, read where it is named itself (.txt)" in planned.stdout
    assert not (tmp_path / "store").exists()
    made = reel("curate", "run.yaml", "--store", "store", "--strict")
    assert made.returncode == 3, made.stderr
    assert "3 inputs = 2 ok + 0 duplicate + 1 failed" in made.stdout
    assert "skipped 1 file or folder: " in made.stdout
    assert "2 clips added" in made.stdout
    assert "reel failures --store store" in made.stdout
    assert "curate: 3/3" in made.stderr
    again = reel("curate", "run.yaml", "--store", "store")
    assert again.returncode == 0
    assert "nothing new; 1 source failed before" in again.stdout
    assert again.stderr == ""


def test_a_rerun_with_nothing_to_do_starts_no_ray(store):
    program = f"""
import sys
sys.argv = ["reel", "curate", {str(store.parent / "in")!r}, "--store", {str(store)!r}, *{CHEAP_ARGUMENTS!r}]
from reelwright.pipelines.cli.main import main
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
assert "ray" not in sys.modules
"""
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT)
    assert made.returncode == 0, made.stderr
    assert "nothing new; 1 source failed before" in made.stdout


def test_a_command_of_another_package_is_found_by_its_entry_point(tmp_path):
    """One file, registered by its own package: `reel` shows and runs it, and nothing of ours is edited."""
    (tmp_path / "theirs.py").write_text(
        "from reelwright.pipelines.cli.app import app\n\n\n"
        "@app.command()\ndef hello(name: str) -> None:\n"
        '    """Greet somebody."""\n    print(f"hello {name}")\n'
    )
    info = tmp_path / "theirs-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[reelwright.commands]\nhello = theirs\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    call = functools.partial(subprocess.run, capture_output=True, text=True, env=environment)
    assert call([*REEL, "hello", "you"]).stdout.strip() == "hello you"
    assert "Greet somebody." in call([*REEL, "--help"]).stdout


def test_names_are_printed_on_one_line_with_bytes_that_are_no_utf8_as_escapes():
    from reelwright.pipelines.cli.app import printable

    assert printable("dir\udcff/ä\n\x1b.mp4") == r"dir\xff/ä\n\x1b.mp4"
