"""What is noted of a base model: its files that decide, by their hashes."""

from reelwright.training.tuning.lineage import describe_base
from reelwright.training.tuning.recipe import BaseConfig


def test_the_files_that_decide_are_hashed_and_nothing_else(tmp_path):
    for name, text in (("config.json", "{}"), ("README.md", "words"), ("picture.png", "p"), ("more/vocab.json", "[]")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    (tmp_path / "folder.json").mkdir()
    found = describe_base(BaseConfig(model=str(tmp_path)))
    assert set(found["files"]) == {"config.json", "more/vocab.json"}
    (tmp_path / "config.json").write_text("{ }")
    again = describe_base(BaseConfig(model=str(tmp_path)))
    assert again["files"]["config.json"] != found["files"]["config.json"]
    assert again["files"]["more/vocab.json"] == found["files"]["more/vocab.json"]
