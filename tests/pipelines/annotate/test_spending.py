"""What chat models use is told, remembered for plans, and limited over all processes of a run."""

import json
import shutil
from collections import Counter

import pytest

from reelwright.annotate.captions.caption import Caption
from reelwright.annotate.chat.model import ChatModel
from reelwright.annotate.chat.registry import chat_of
from reelwright.annotate.picture.blur import Blur
from reelwright.curation.store import Store
from reelwright.pipelines.annotate.context import Report
from reelwright.pipelines.annotate.load import load_annotators
from reelwright.pipelines.annotate.plan import make_plan, plan_lines
from reelwright.pipelines.annotate.run import annotate_and_record
from reelwright.pipelines.annotate.spending import Spending, format_usage, no_usage, short
from reelwright.pipelines.runtime.progress import Progress
from tests.annotate.chat_server import SIDE
from tests.pipelines.annotate.many_clips import CLIPS, server, store  # noqa: F401 - fixtures
from tests.pipelines.helpers import recipe_of

pytestmark = pytest.mark.usefixtures("ray_local")
EACH_USD = 0.002  # 1000 tokens in and 100 out, at 1 and 10 dollars a million


def recipe_for(server, actors: int = 2, run_limit: float = 0.0, **chat):  # noqa: F811
    prices = {"usd_per_million_input": 1.0, "usd_per_million_output": 10.0}
    model = {"model": "loopback/vlm", "url": server.url, "concurrency": 4, **prices, **chat}
    sampling = {"min_frames": 2, "max_frames": 2, "short_side": SIDE}
    return recipe_of(
        annotators=["caption"],
        parameters={"caption": {"chat": model, "sampling": sampling, "clips_a_call": 2}},
        resources={"annotators": {"caption": {"actors": actors, "cpus": 0.5}}},
        limits__max_cost_usd=run_limit,
    )


def annotate(opened: Store, recipe) -> Report:
    with Progress("annotate", quiet=True) as progress:
        return annotate_and_record(opened, recipe, load_annotators(recipe), progress)


@pytest.fixture
def copy(store, tmp_path) -> Store:  # noqa: F811
    shutil.copytree(store.path, tmp_path / "store")
    return Store.open(tmp_path / "store")


def test_what_was_used_is_told_and_the_next_plan_knows_it(copy, server, call):  # noqa: F811
    server.script({})
    recipe = recipe_for(server)
    (before,) = make_plan(copy, load_annotators(recipe))
    assert (before.usage["input_tokens"], before.usage_measured) == (4700 * CLIPS, False)
    report = annotate(copy, recipe)
    assert report.usage["caption"]["usd"] == pytest.approx(CLIPS * EACH_USD)
    row = copy.read("runs", ["usage"]).to_pylist()[-1]
    assert json.loads(row["usage"])["caption"]["input_tokens"] == CLIPS * 1000
    again = recipe_for(server, model="loopback/other")
    (after,) = make_plan(copy, load_annotators(again))
    assert (after.usage["output_tokens"], after.usage_measured) == (CLIPS * 100, True)
    lines = "\n".join(plan_lines([after]))
    assert "60 k tokens in, 6.0 k out, 0.12 USD" in lines
    assert "models 0.12 USD" in lines


@pytest.mark.parametrize(
    "limit",
    [{"max_cost_usd": 20 * EACH_USD}, pytest.param({"run_limit": 20 * EACH_USD}, marks=pytest.mark.exhaustive)],
)
def test_a_limit_holds_over_all_processes_and_the_rest_is_left(copy, server, limit):  # noqa: F811
    """What is under way when it is reached still comes: two batches and one ahead in each of two processes."""
    server.script({})
    report = annotate(copy, recipe_for(server, **limit))
    assert 10 <= report.done["caption"] < CLIPS
    assert report.done["caption"] + report.postponed["caption"] == CLIPS
    assert "cost limit is reached" in report.why_postponed["caption"]
    if "max_cost_usd" in limit:  # which the processes keep themselves, each its share
        assert report.usage["caption"]["usd"] <= (20 + 4) * EACH_USD
    assert not copy.count("failures")


def test_limits_count_what_each_annotator_used():
    limited = ChatModel("m", max_cost_usd=1.0, usd_per_million_input=1.0)
    annotators = {"a": Caption(limited), "b": Caption(ChatModel("m")), "c": Blur()}
    assert chat_of(annotators["a"]) == limited
    spending = Spending(annotators, 3.0, no_usage())
    spending.add({"a": {"usd": 0.6}})
    assert not spending.refusal("a")
    spending.add({"a": {"usd": 0.6}})
    assert "1.20 of 1 USD (chat.max_cost_usd)" in spending.refusal("a")
    assert not spending.refusal("b")
    spending.add({"b": {"usd": 2.0}})
    assert "3.20 of 3 USD (limits.max_cost_usd)" in spending.refusal("b")
    assert not spending.refusal("c")


def test_numbers_are_told_short():
    assert [short(n) for n in (0, 999, 1200, 54_321, 3_400_000)] == ["0", "999", "1.2 k", "54 k", "3.4 M"]
    assert format_usage(Counter()) == ""
    assert format_usage({"input_tokens": 10, "output_tokens": 2, "usd": 0.0}) == "10 tokens in, 2 out"
