"""README and docs: their commands are commands, their SQL names real columns, and what needs no GPU, hub or cluster
runs as it is printed."""

import os
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.documents import DOCUMENTS, NEEDS, Block, blocks, reel_commands
from tests.pipelines.object_store import ObjectStore, environment

SHELL = blocks("sh", "bash")
COMMANDS = [(block, command) for block in SHELL for command in reel_commands(block.text)]
AFTER = ("curation", "store", "annotators", "training", "posttraining", "cluster")
WHOLE = [ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in AFTER)]
"""Documents whose blocks run in this order in one folder, as one reads them."""
COMMAND_S = 900
"""A command that takes longer waits for a person: its block needs a terminal."""


def test_every_mark_is_one_that_is_explained() -> None:
    marks = [one for path in DOCUMENTS for one in re.findall(r"<!-- needs: (.*?) -->", path.read_text("utf-8"))]
    assert set(marks) <= set(NEEDS)
    marked = [block for block in blocks("sh", "python", "sql") if block.needs]
    assert len(marked) == len(marks), "a mark does not stand right before a block"
    assert not [b.name for b in SHELL if not b.needs and b.document not in WHOLE], "no test runs these"


@pytest.mark.parametrize(("block", "command"), COMMANDS, ids=[f"{b.name} {c[0]}" for b, c in COMMANDS])
def test_every_command_is_one_that_reel_takes(
    block: Block, command: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its options are there, and its values of the right kind; it is not run."""
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://HEAD:8265")  # those that a page exports before
    import typer

    from reelwright.pipelines.cli.app import app
    from reelwright.pipelines.cli.main import load_commands

    load_commands()
    found, words = typer.main.get_command(app), list(command)
    if words == ["--version"]:
        return
    while hasattr(found, "commands") and words:
        assert words[0] in found.commands, f"{block.name}: reel {' '.join(command)}"
        found = found.commands[words.pop(0)]
    found.make_context("reel", words)


@pytest.fixture(scope="module")
def columns(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the store `store`, of no clips, which has the columns of all annotators of both profiles."""
    from reelwright.curation.store import Store
    from reelwright.curation.store.schema import field
    from reelwright.pipelines.annotate.load import load_annotators, prepare_columns
    from reelwright.pipelines.recipes.curation import CurateRecipe

    folder = tmp_path_factory.mktemp("documents")
    store = Store.open(folder / "store", create=True)
    prepare_columns(store, load_annotators(CurateRecipe(profile="full")))
    import pyarrow as pa

    for name, kind in (("edge_share", pa.float32()), ("edges_fingerprint", pa.string())):  # docs/annotators.md makes it
        store.ensure_columns("clips", [field(name, kind, "", computed_by="edges")])
    from reelwright.curation.store.tables.reviews import review_columns
    from reelwright.evaluation.measures import registry
    from reelwright.pipelines.evaluate import measures, nearest

    store.ensure_columns("clips", review_columns())  # from the first review on

    for measure in registry.load_all({name: {} for name in registry.defaults()}):
        store.ensure_columns("generations", measures._fields(measure))
    store.ensure_columns("generations", nearest._fields())
    return folder


def queries() -> list[tuple[str, str]]:
    found = [(block.name, block.text) for block in blocks("sql")]
    for block, command in COMMANDS:
        if command[0] == "sql" and not command[1].startswith("-"):
            found.append((block.name, command[1]))
        found += [(block.name, command[i + 1]) for i, word in enumerate(command) if word == "--sql"]
    return found


@pytest.mark.parametrize(("place", "query"), queries(), ids=[place for place, _ in queries()])
def test_every_query_names_what_is_there(columns: Path, place: str, query: str) -> None:
    from reelwright.curation.store import Store

    assert Store.open(columns / "store").sql(query).column_names


PYTHON = [block for block in blocks("python") if not block.needs and block.document.stem != "python"]
"""docs/python.md has tests of its own, over a store with clips."""


def test_python_runs_as_printed_and_in_order(columns: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a document share their names, as they would in one session."""
    monkeypatch.chdir(columns)
    names: dict[Path, dict[str, object]] = {}
    for block in PYTHON:
        space = names.setdefault(block.document, {"__name__": "__main__"})
        exec(compile(block.text, block.name, "exec"), space)
        if "Edges" in space and "reel_edges" not in sys.modules:  # that block is a package's file
            module = types.ModuleType("reel_edges")
            module.__dict__.update(space)
            monkeypatch.setitem(sys.modules, "reel_edges", module)
    assert len(PYTHON) >= 4


# --- whole documents, run --------------------------------------------------------------------------------------------

GOES_ON = {"annotators": "README", "store": "curation", "posttraining": "training"}
"""A document -> the one whose store or networks its commands use."""
DEMO = ("curate", "FOOTAGE", "--store", "demo/store")
REEL = """#!/bin/sh
# As `reel`, but training and sampling take few steps: what is tested is that the commands go together.
case "$1 $*" in
  *--plan*) ;;
  train\\ *|generate\\ *) exec "{python}" -m reelwright.pipelines.cli "$@" --steps 2 ;;
esac
exec "{python}" -m reelwright.pipelines.cli "$@"
"""


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh folder with the configs, and footage under the names that the documents use."""
    from reelwright.pipelines.demo.footage import make_footage

    folder = tmp_path_factory.mktemp("reader")
    (folder / "configs").symlink_to(ROOT / "configs")
    make_footage(folder / "FOOTAGE")
    (folder / "footage").mkdir()
    names = {
        "balls in the playroom, letterboxed.mp4": "lb_top_bottom.mp4", "fishing boat at sunset.mp4": "vfr.mp4",
        "a film of the coast and the city.mp4": "g01_dissolves.mp4",
        "interrupted download.mp4": "truncated_no_moov.mp4", "sunset with a boat, downloaded twice.mp4": "again.mp4",
    }  # fmt: skip
    for of, name in names.items():
        shutil.copyfile(folder / "FOOTAGE" / of, folder / "footage" / name)
    (folder / "footage" / "notes.txt").write_text("no video")
    for block in blocks("csv", "yaml"):
        file = {"path,source_id": "manifest.csv"}.get(block.text[:14])
        if file:
            (folder / file).write_text(block.text + "\n")
    (folder / "my.yaml").write_text("clips: {max_s: 10}\n")
    (folder / "bin").mkdir()
    (folder / "bin" / "reel").write_text(REEL.format(python=sys.executable))
    (folder / "bin" / "reel").chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """One Ray that all commands join: a start of their own costs each ten seconds."""
    import ray

    from reelwright.pipelines.runtime.cluster import cluster

    with pytest.MonkeyPatch.context() as patched:
        for name, value in {"PYTHONPATH": str(ROOT), **environment()}.items():
            patched.setenv(name, value)
        with cluster():
            yield ray.get_runtime_context().gcs_address


@pytest.fixture(scope="module")
def bucket(ray_address: str) -> Iterator[str]:
    """What a reader puts for `s3://BUCKET`."""
    with ObjectStore() as server:
        yield server.bucket("reader")


def filled_in(text: str, folder: Path, bucket: str) -> str:
    """The block with what a reader puts for its placeholders: a bucket, a clip's id, the folder of the newest run."""
    from reelwright.curation.store import Store

    place = re.search(r"reel show .*?(?:-s|--store) (\S+)", text)
    if place:
        (clip_id, *_) = Store.open(folder / place[1]).read("clips", ["clip_id"])["clip_id"].to_pylist()
        text = re.sub(r"(reel show )[0-9a-f]+", rf"\g<1>{clip_id}", text)
    return text.replace("s3://BUCKET", bucket).replace("runs/…", '"$(ls -dt runs/*-*/ | sed -n 1p)"')


@pytest.mark.exhaustive
@pytest.mark.waits
@pytest.mark.parametrize(
    "document",
    [pytest.param(path, id=path.stem, marks=pytest.mark.together(GOES_ON.get(path.stem, path.stem))) for path in WHOLE],
)
def test_a_document_s_commands_run_as_printed_and_in_order(
    reader: Path, document: Path, ray_address: str, bucket: str
) -> None:
    environment = os.environ | {
        "PATH": os.pathsep.join([str(reader / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_ADDRESS": ray_address,
    }  # fmt: skip
    if document.stem == "training" and not (reader / "demo").exists():  # it goes on from `make demo`
        command = [reader / "bin" / "reel", *DEMO]
        made = subprocess.run(command, capture_output=True, text=True, cwd=reader, env=environment, timeout=COMMAND_S)
        assert made.returncode == 0, made.stderr
    for block in blocks("sh", "bash", document=document):
        for part in [] if block.needs else parts_of(block.text):
            made = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", filled_in(part, reader, bucket)],
                capture_output=True, text=True, cwd=reader, env=environment, timeout=COMMAND_S,
            )  # fmt: skip
            assert made.returncode == 0, f"{block.name}: {part}\n{made.stdout[-3000:]}\n{made.stderr[-3000:]}"


def parts_of(text: str) -> list[str]:
    """Lines that are run one by one, so that one that fails is named; a loop is one part."""
    return [text] if "\ndone" in text else [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
