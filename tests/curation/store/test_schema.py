"""The registry of tables: a table from outside is created, written, asked and cleaned up as the store's own."""

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta

import pyarrow as pa
import pytest

from reelwright.curation.store import Store, StoreError, schema, sql_untrusted
from reelwright.curation.store.schema import MARKER, Table, field, register, tables


@pytest.fixture
def opinions() -> Iterator[Table]:
    table = register(
        Table(
            "opinions",
            lambda: [
                field("clip_id", pa.string(), "the clip: clips.clip_id", computed_by="people"),
                field("stars", pa.int32(), "how good it is", unit="star", computed_by="people"),
            ],
            key="clip_id",
            has_id_index=True,
            has_small_appends=True,
        )
    )
    yield table
    del schema._registered["opinions"]


def test_a_table_from_outside_is_one_entry(store: Store, opinions: Table) -> None:
    """`store` was made before: as an older store, it gets the table when it is first asked for."""
    store.append("opinions", [{"clip_id": "a", "stars": 3}, {"clip_id": "b", "stars": 5}])
    assert store.merge("opinions", pa.table({"clip_id": ["a"], "stars": pa.array([4], pa.int32())}), on="clip_id") == 1
    assert store.sql("select clip_id from opinions where stars > 4").to_pylist() == [{"clip_id": "b"}]
    assert sql_untrusted(store, "select count(*) as n from opinions").rows.to_pylist() == [{"n": 2}]
    assert {c.name: c.unit for c in store.describe("opinions")} == {"clip_id": "", "stars": "star"}
    assert {t.name: t.rows for t in store.tables()}["opinions"] == 2
    assert "opinions" in {report.table for report in store.cleanup(timedelta(0))}
    with pytest.raises(StoreError, match="rating"):
        store.read("ratngs")
    with pytest.raises(StoreError, match="clip_id"):
        store.append("opinions", [{"stars": 1}])


def test_a_new_store_has_it_too_and_the_marker_last(tmp_path, opinions: Table) -> None:
    assert list(tables())[-1] == MARKER
    store = Store.open(tmp_path / "new", create=True)
    assert store.count("opinions") == 0


def test_two_tables_of_one_name_are_refused(opinions: Table) -> None:
    with pytest.raises(ValueError, match="two tables are called 'opinions'"):
        register(Table("opinions", list))


def test_a_file_among_the_tables_is_a_table(tmp_path) -> None:
    """The folder is longer by one file; nothing else is told of it."""
    program = (
        "import sys; from reelwright.curation.store import tables as folder; folder.__path__.append(sys.argv[1])\n"
        "from reelwright.curation.store.schema import tables; print('rollouts' in tables())"
    )
    (tmp_path / "rollouts.py").write_text(
        "import pyarrow as pa\n"
        "from reelwright.curation.store.schema import Table, field, register\n"
        "TABLE = register(Table('rollouts', lambda: [field('step', pa.int64(), 'of training')]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
