"""What a real run says of its time: annotating after the cutting counts in it, as earlier runs took it."""

from typing import Any

import pytest

from reelwright.annotate import typical_s
from reelwright.curation.records import status
from reelwright.curation.store import Store
from reelwright.pipelines.annotate import looking_ahead
from reelwright.pipelines.annotate.plan import measured_seconds
from reelwright.pipelines.cli.commands.status import lines
from tests.footage import footage
from tests.pipelines.helpers import curate, recipe_of

pytestmark = pytest.mark.usefixtures("ray_local")


def test_annotating_after_the_cutting_counts_as_it_took_before(tmp_path, monkeypatch):
    recipe = recipe_of(annotators=["light", "frame_hash", "near_duplicates"])
    footage(tmp_path / "first", 3)
    store = Store.open(tmp_path / "store", create=True)
    assert curate(store, [tmp_path / "first"], recipe).clips == 6
    first, stated_s = told(store)[0], typical_s("near_duplicates")
    assert stated_s
    assert first["eta_s"] == first["eta_annotate_s"] == pytest.approx(6 * stated_s)

    monkeypatch.setattr(looking_ahead, "LEAST_CLIPS", 6)
    footage(tmp_path / "second", 4, seed=20)
    each_s = measured_seconds(store)["near_duplicates"]
    assert curate(store, [tmp_path / "first", tmp_path / "second"], recipe).clips == 8
    second = told(store)[1]
    assert second["eta_s"] == second["eta_annotate_s"] == pytest.approx((6 + 8) * each_s), "a set is done as a whole"
    assert second["eta_without"] == []
    shown = "\n".join(lines(second | {"state": status.RUNNING, "eta_s": 500.0, "eta_annotate_s": 300.0}))
    assert "  about 8 min left (5 min of it to annotate) at this pace, films weighed by their length and size" in shown

    after = told(store, "annotate")[1]
    assert (after["what"], after["eta_s"], after["eta_without"]) == ("annotate 2/2 near_duplicates", 0.0, [])
    shown = "\n".join(lines(after | {"state": status.RUNNING, "eta_s": 500.0}))
    assert "  about 8 min left at this pace" in shown.split("\n")


def told(store: Store, command: str = "curate") -> list[dict[str, Any]]:
    """What the store's runs of a command said last, in order."""
    found = [facts for facts in status.read(store.uri) if facts["command"] == command]
    return sorted(found, key=lambda facts: facts["began"])
