"""docs/python.md: its blocks run as printed and in order, in one session over a store of real clips."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from reelwright import Store
from tests import footage
from tests.conftest import ROOT
from tests.documents import Block, blocks

BLOCKS = blocks("python", document=ROOT / "docs" / "python.md")
NOT_OURS = {"pandas", "polars"}
"""Libraries that reelwright itself does not depend on; a block without its library is skipped."""
LAZY = ["reelwright", "reelwright.curation.store", "reelwright.kernels", "reelwright.model", "reelwright.training"]


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the configs and the store `store`: four clips with scores, captions, latents and text states.

    Files that the page names become modules there, for spawned workers too.
    """
    import torch

    threads = torch.get_num_threads()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    store = Store.open("store", create=True)
    fill(store, tmp_path)
    precompute(store)
    before = set(sys.modules)
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(threads)
    for name in set(sys.modules) - before:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


def fill(store: Store, folder: Path) -> None:
    """Store four clips of two seconds, each of a source of its own, and what two annotators measure of them."""
    import pyarrow as pa

    from reelwright.annotate import annotate_clip, load, schema_of

    ids = [f"clip{i}" for i in range(4)]
    files = [footage.write(folder / f"{i}.mp4", footage.frames(48, 160, 96, seed=n), fps=24) for n, i in enumerate(ids)]
    mp4s = [file.read_bytes() for file in files]
    store.commit_media([store.write_media(ids, mp4s)])
    store.append("sources", [
        {"uri": str(file), "md5": f"md5{i}", "state": "ok", "caption": f"texture number {i}"}
        for i, file in enumerate(files)
    ])  # fmt: skip
    store.append("clips", [
        {"clip_id": one, "source_md5": f"md5{i}", "width": 160, "height": 96, "fps": 24.0, "num_frames": 48,
         "duration_s": 2.0}
        for i, one in enumerate(ids)
    ])  # fmt: skip
    annotators = [load("technical"), load("blur")]
    schema = pa.schema([pa.field("clip_id", pa.string()), *(f for a in annotators for f in schema_of(a))])
    rows = [{"clip_id": one, **annotate_clip(mp4, annotators)[0]} for one, mp4 in zip(ids, mp4s, strict=True)]
    store.merge("clips", pa.Table.from_pylist(rows, schema=schema), on="clip_id")


def precompute(store: Store) -> None:
    """Encode what the page's training recipe draws, as `reel precompute` does, in this process."""
    from reelwright.model import load_codec, load_text_encoder
    from reelwright.training import load_recipe, make_schedule
    from reelwright.training.data.encode import fingerprints_of, latents_row, text_rows
    from reelwright.training.data.sandbox_decoder import SandboxDecoder

    recipe = load_recipe("configs/train/mini/demo.yaml")
    store.snapshots.create("all", "select clip_id from clips")
    plan, prints, dtype = make_schedule(store, "all", recipe), fingerprints_of(recipe), recipe.data.store_dtype
    codec, encoder = load_codec(recipe.codec), load_text_encoder(recipe.text)
    states = text_rows(plan.captions(), encoder, dtype=dtype, fingerprint=prints.texts)
    store.commit_encoded("texts", [store.write_encoded("texts", states)])
    decode = SandboxDecoder(recipe.data.fps)
    try:
        for bucket, rows in plan.wanted():
            latents = [
                latents_row(one, mp4, bucket, codec, decode, dtype=dtype, fingerprint=prints.latents)
                for one, mp4 in store.read_media(plan.clip_ids.take(rows).to_pylist())
            ]
            store.commit_encoded("latents", [store.write_encoded("latents", latents)])
    finally:
        decode.close()


def test_the_page_runs_as_printed_and_in_order(session: Path, subtests: pytest.Subtests) -> None:
    """A block that begins with the name of a file is that file; the others share their names, as in one session."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in BLOCKS:
        with subtests.test(block.name):
            missing = [library for library in NOT_OURS & imports_of(block) if find_spec(library) is None]
            if missing:
                pytest.skip(f"{missing[0]} is not installed")
            file = file_of(block)
            if file:
                (session / file).write_text(block.text, encoding="utf-8")
            else:
                exec(compile(block.text, block.name, "exec"), names)
    assert len(BLOCKS) >= 15
    velocity, batch = names["velocity"], names["batch"]
    assert velocity.shape == batch.latents.shape  # type: ignore[attr-defined]
    assert names["failures"] == []


def listed() -> dict[str, list[str]]:
    """Names by module, as the page's table lists them."""
    page = (ROOT / "docs" / "python.md").read_text("utf-8")
    rows = re.findall(r"^\| `(reelwright[.\w]*)` \| (.*) \|$", page, re.MULTILINE)
    return {module: re.findall(r"`(\w+)`", names) for module, names in rows}


def test_every_public_name_of_the_page_is_exported_where_it_says() -> None:
    assert len(listed()) >= 5
    for module, public in listed().items():
        exported = import_module(module)
        assert not [name for name in public if name not in exported.__all__ or not hasattr(exported, name)], module


def test_the_page_imports_from_the_listed_modules_alone() -> None:
    used: dict[str, set[str]] = {}
    for block in BLOCKS:
        for node in ast.walk(ast.parse(block.text)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("reelwright"):
                used.setdefault(str(node.module), set()).update(alias.name for alias in node.names)
    assert len(used) >= 5
    assert not [(module, name) for module, names in used.items() for name in names - set(listed().get(module, ()))]


@pytest.mark.parametrize("package", LAZY)
def test_a_lazy_package_says_the_same_to_a_checker_as_to_a_program(package: str) -> None:
    """Each export resolves to what its import for the type checker names; another name is refused."""
    module = import_module(package)
    for name, home in checked_imports(Path(str(module.__file__))).items():
        assert getattr(module, name) is getattr(import_module(home), name)
    assert set(checked_imports(Path(str(module.__file__)))) == set(module.__all__) <= set(dir(module))
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'nothing'"):
        module.nothing


def test_importing_the_packages_loads_no_heavy_library() -> None:
    heavy = ("torch", "lance", "lancedb", "duckdb", "ray", "triton", "transformers")
    packages = ", ".join({*listed(), *LAZY})
    code = f"import sys, {packages}; print([m for m in {heavy} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def checked_imports(file: Path) -> dict[str, str]:
    """The names that a package imports under TYPE_CHECKING, and where from."""
    for node in ast.parse(file.read_text("utf-8")).body:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            froms = [one for one in node.body if isinstance(one, ast.ImportFrom)]
            return {alias.name: str(one.module) for one in froms for alias in one.names}
    return {}


def imports_of(block: Block) -> set[str]:
    """Top-level packages that a block imports."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


def file_of(block: Block) -> str | None:
    """The file that a block is, by its first line (`# clip_dataset.py`); None: lines of the session."""
    first = block.text.partition("\n")[0]
    return first.removeprefix("# ") if first.startswith("# ") and first.endswith(".py") else None
