"""Paths that developers' pages name exist, and the table of questions names functions that are there."""

import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
OTHERS = [(ROOT / name).read_text("utf-8") for name in ("README.md", "CONTRIBUTING.md", "docs/glossary.md")]
PACKAGES = "annotate|benchmarks|configs|curation|deploy|evaluation|kernels|model|pipelines|training"
PATHS = set(re.findall(rf"`((?:{PACKAGES})(?:/[\w.]+)*/?)`", "\n".join([PAGE, *OTHERS])))
PATHS = {path for path in PATHS if "NAME" not in path}  # of a file to be written
ROWS = dict(re.findall(r"^\| ([^|]+?) \| ([^|]+?) \|$", PAGE.split("**Where to look**")[1].split("\n\n**")[0], re.M))
NAMED = {question: re.findall(r"`(\w+)` in `([\w/]+\.py)`", answer) for question, answer in ROWS.items()}


@pytest.mark.parametrize("path", sorted(PATHS))
def test_each_path_that_the_page_names_exists(path: str) -> None:
    assert (ROOT / path).exists()


@pytest.mark.parametrize("words", ["cut is", "caption is", "loss is", "checkpoint is", "inner loop", "snapshot pins"])
def test_the_table_leads_to_a_function_that_is_there(words: str) -> None:
    (question,) = [question for question in NAMED if words in question]
    assert NAMED[question], "the row names a function or class in a file"
    for name, file in NAMED[question]:
        assert re.search(rf"^(def|class) {name}\b", (ROOT / file).read_text("utf-8"), re.M), f"{name} in {file}"
