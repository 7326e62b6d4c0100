"""What a curation costs: the table by stage, in all and per 1,000 hours, at the rates of a user's file."""

import re
from collections import Counter
from dataclasses import fields
from pathlib import Path

import pytest

from reelwright.curation.ingest.resolve import list_inputs
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.load import load_annotators
from reelwright.pipelines.curate.account import Account, Footage, Work, expected, measured, stored_footage
from reelwright.pipelines.curate.plan import make_plan
from reelwright.pipelines.curate.price import price_lines, usd_of
from reelwright.pipelines.recipes.curation import CurateRecipe
from reelwright.pipelines.recipes.prices import Prices, load_prices
from reelwright.recipe_files import RecipeError
from tests.conftest import ROOT
from tests.footage import footage
from tests.pipelines.helpers import curate, recipe_of

DAY = {"uri": "s3://b/a.mp4", "bytes": 40 * 10**9, "duration_s": 86_400.0, "fps": 25.0, "width": 1920, "height": 1080}


def rows_of(lines: list[str], title: str) -> dict[str, list[float | None]]:
    """The numbers of the table below a line that begins with `title`, by stage."""
    begin = next(i for i, line in enumerate(lines) if line.startswith(title)) + 2
    found: dict[str, list[float | None]] = {}
    for line in lines[begin:]:
        name, *cells = line.split()
        found[name] = [float(cell.replace(",", "")) for cell in cells]
        if name == "total":
            return found
    raise AssertionError("no total")


def test_a_price_is_the_sum_of_what_is_paid_for() -> None:
    work = Work(
        cpu_s=7200, gpu_s=Counter(caption=3600, visual_embedding=1800), bytes_read=9e9, paid_read=2e9, paid_sent=3e9,
        reads=2000, writes=500, tokens_in=2e6, tokens_out=1e6, usd=100,
    )  # fmt: skip
    assert usd_of(work, Prices()) == 100  # the recipe's own prices of its chat models
    prices = Prices(
        usd_per_cpu_core_hour=0.1, cpu_busy=0.5, usd_per_gpu_hour=2, usd_per_gpu_hour_of={"caption": 5},
        usd_per_gb_read=0.01, usd_per_gb_sent=0.02, usd_per_1000_reads=1, usd_per_1000_writes=10,
        usd_per_million_input_tokens=3, usd_per_million_output_tokens=7,
    )  # fmt: skip
    assert usd_of(work, prices) == pytest.approx(2 * 0.1 / 0.5 + 5 + 1 + 0.02 + 0.06 + 2 + 5 + 6 + 7)


def test_the_table_adds_up_and_scales_to_a_thousand_hours() -> None:
    prices = Prices(usd_per_cpu_core_hour=0.36, usd_per_gb_month=0.5, months=2)
    stages = {"scan": Work(cpu_s=1000), "write": Work(cpu_s=500, bytes_written=3e9, writes=7)}
    lines = list(price_lines(Account(Footage(files=1, hours=10), stages, "as said"), prices))
    whole, thousand = rows_of(lines, "cost of 10.00 hours (1 files), as said:"), rows_of(lines, "the same per 1,000")
    assert whole == {
        "scan": [1000, 0, 0, 0, 0, 0, 0.1], "write": [500, 0, 0, 3, 0, 7, 0.05], "stored": [3],
        "total": [1500, 0, 0, 3, 0, 7, 3.15],
    }  # fmt: skip
    assert thousand["total"] == [150_000, 0, 0, 300, 0, 700, 315]


def test_expected_work_follows_the_footage_and_the_recipe() -> None:
    """Twice the footage is twice the work; six more of crf are half the bytes; a disk asks nothing."""
    recipe = CurateRecipe(store="s3://b/store")
    annotators = load_annotators(recipe)
    once, twice = (Footage.of([DAY] * n) for n in (1, 2))
    assert (once.hours, once.megapixels) == (24, pytest.approx(86_400 * 25 * 2.0736))
    one, two = (expected(f, recipe, annotators, Prices(), None).stages for f in (once, twice))
    for name, work in one.items():
        assert two[name].cpu_s == pytest.approx(2 * work.cpu_s)
        assert two[name].bytes_written == pytest.approx(2 * work.bytes_written)
        assert two[name].writes == pytest.approx(2 * work.writes, rel=0.05)
    assert one["probe"].paid_read == DAY["bytes"]
    assert one["probe"].reads > DAY["bytes"] / (4 << 20)
    assert one["write"].writes > one["write"].bytes_written / (5 << 20) > 0
    coarser = recipe.model_copy(update={"encode": recipe.encode.model_copy(update={"crf": 24})})
    halved = expected(once, coarser, annotators, Prices(), None).stages["write"]
    assert halved.bytes_written == pytest.approx(one["write"].bytes_written / 2)
    here = expected(Footage.of([DAY | {"uri": "/a.mp4"}]), CurateRecipe(store="/s"), annotators, Prices(), None).stages
    assert [w.paid_read + w.paid_sent + w.reads + w.writes for w in here.values()] == [0] * len(here)
    assert here["probe"].bytes_read == DAY["bytes"]


def test_seconds_on_gpus_are_stated_and_those_unstated_are_named() -> None:
    """A model of the full profile has no core's seconds of its own: they are its GPU's, or its server's."""
    chat = {"model": "m", "url": "http://127.0.0.1:9/v1", "usd_per_million_input": 1.0}
    recipe = CurateRecipe(
        annotators=("blur", {"visual_embedding": {"gpus": 1}}, {"aesthetics": {"gpus": 1}}, {"caption": {"chat": chat}})
    )
    prices = Prices(gpu_s_per_clip={"visual_embedding": 0.5, "caption_embedding": 9}, usd_per_gpu_hour=3.6)
    day = Footage.of([DAY])
    account = expected(day, recipe, load_annotators(recipe), prices, None)
    assert account.stages["annotate"].gpu_s == {"visual_embedding": 0.5 * day.clips}
    assert account.stages["annotate"].cpu_s == pytest.approx(0.02 * day.clips)  # `blur`
    assert account.unstated == ("aesthetics",)
    text = "\n".join(price_lines(account, prices))
    assert "as the prices state them, not measured: visual_embedding 0.5 s per clip" in text
    assert "GPU seconds not counted, as gpu_s_per_clip does not state them: aesthetics" in text
    asked = account.stages["annotate"]
    assert asked.tokens_in > asked.tokens_out > 0
    assert usd_of(asked, prices) == pytest.approx(asked.tokens_in / 1e6 + 0.5 * day.clips / 1000)


@pytest.mark.usefixtures("ray_local")
def test_a_store_that_ran_is_priced_by_what_its_runs_took(tmp_path: Path) -> None:
    footage(tmp_path / "in", 2, lengths=(40,))
    recipe, prices = recipe_of(store=str(tmp_path / "store")), Prices(usd_per_cpu_core_hour=3600)
    inputs = list_inputs([str(tmp_path / "in")])
    before = make_plan(recipe, inputs, quiet=True, prices=prices)
    assert "by rates of the development corpus" in before
    assert "of this store took" not in before
    assert not (tmp_path / "store").exists()
    curate(tmp_path / "store", [tmp_path / "in"], recipe)
    store = Store.open(tmp_path / "store")
    account = measured(store, load_annotators(recipe), prices)
    assert account is not None
    assert account.footage.hours == pytest.approx(2 * 40 / 25 / 3600, rel=0.01)
    for stage in ("probe", "scan", "cut", "write"):
        assert account.stages[stage].cpu_s > 0, stage
    clips = sum(len(mp4) for _, mp4 in store.read_media(store.read("clips", ["clip_id"])["clip_id"].to_pylist()))
    assert account.stages["write"].bytes_written == clips
    assert account.stages["probe"].bytes_read == sum(f.stat().st_size for f in (tmp_path / "in").iterdir())
    after = make_plan(recipe, inputs, quiet=True, prices=prices)
    assert "by rates of the development corpus" not in after, "nothing is new"
    total = rows_of(after.splitlines(), "cost of 0.00 hours (2 files), as 1 run of this store took")["total"]
    assert total[0] == pytest.approx(sum(w.cpu_s for w in account.stages.values()), abs=0.1)
    assert total[-1] == pytest.approx(total[0], abs=0.1), "a second for a dollar"


def test_footage_of_a_store_is_the_sum_of_its_sources(tmp_path: Path) -> None:
    store, md5s = Store.open(tmp_path / "store", create=True), [f"{n:032x}" for n in range(5)]
    assert stored_footage(store, 0) == Footage(clips=0)
    rows = [
        {**DAY, "md5": md5s[0], "state": "ok"},
        {**DAY, "md5": md5s[1], "state": "ok", "uri": "/films/a.mp4", "bytes": 3 << 40, "fps": 29.97},
        {**DAY, "md5": md5s[2], "state": "ok", "uri": "gs://b/c.mp4", "duration_s": None},
        {**DAY, "md5": md5s[3], "state": "failed", "uri": "s3://b/failed.mp4"},
        {**DAY, "md5": md5s[4], "state": "ok", "uri": "s3://b/d.mp4", "fps": None, "bytes": None},
    ]
    store.append("sources", rows)
    expected = Footage.of([row for row in rows if row["state"] == "ok"], 7)
    found = stored_footage(store, 7)
    assert (found.files, found.remote_files, found.clips) == (4, 3, 7)
    for field in fields(Footage):
        assert getattr(found, field.name) == pytest.approx(getattr(expected, field.name), rel=1e-6), field.name


def test_the_prices_that_come_with_the_code_load() -> None:
    assert load_prices(ROOT / "configs" / "prices.yaml").usd_per_cpu_core_hour > 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("usd_per_cpu_hour: 1", "'usd_per_cpu_hour' is not a setting; settings there are usd_per_cpu_core_hour, "),
        ("usd_per_gpu_hour: -1", "'usd_per_gpu_hour': input should be greater than or equal to 0, got -1"),
        ("usd_per_gb_month: .nan", "'usd_per_gb_month': input should be a finite number, got nan"),
        ("usd_per_gb_read: .inf", "'usd_per_gb_read': input should be a finite number, got inf"),
        ("gpu_s_per_clip: {caption: -2}", "'gpu_s_per_clip.caption': input should be greater than or equal to 0"),
        ("gpu_s_per_clip: {captoin: 2}", "'gpu_s_per_clip.captoin': there is no annotator of that name; there are "),
        ("cpu_busy: 0", "'cpu_busy': input should be greater than 0, got 0"),
        ("usd_per_gpu_hour: cheap", "'usd_per_gpu_hour': input should be a valid number"),
        ("- 1", "is not a recipe: it must be a mapping such as 'usd_per_cpu_core_hour: 0.04'"),
    ],
)
def test_a_wrong_rate_is_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    file = tmp_path / "prices.yaml"
    file.write_text(text)
    with pytest.raises(RecipeError) as error:
        load_prices(file)
    assert says in str(error.value)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)


def test_prices_without_a_plan_are_refused(call, tmp_path: Path) -> None:
    refused = call("curate", "in", "--store", "store", "--prices", "prices.yaml")
    assert refused.returncode == 1
    assert re.search(r"--prices only prices a plan: add --plan", refused.stderr)
    missing = call("curate", "in", "--store", "store", "--plan", "--prices", "gone.yaml")
    assert missing.returncode == 1
    assert "gone.yaml is not a readable YAML recipe" in missing.stderr
