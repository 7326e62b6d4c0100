"""Every recipe of configs/train fits where its header says, with a tenth of the memory to spare."""

import re
import shlex
from pathlib import Path

import pytest

from reelwright.recipe_files import load, parse_overrides
from reelwright.training.budget.memory import plan_memory
from reelwright.training.recipe import TrainRecipe

RECIPES = sorted((Path(__file__).parents[3] / "configs/train").glob("*.yaml"))
SPARE = 0.9


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
@pytest.mark.every(4)
def test_a_recipe_runs_where_its_header_says(path: Path) -> None:
    """The GPUs and memory of "Runs on 8 GPUs of 80 GB", and those of "On 64 GPUs[, …]: --set …" beside it."""
    text = path.read_text(encoding="utf-8")
    runs_on = re.search(r"^# Runs on (\d+) GPUs of (\d+) GB", text, re.MULTILINE)
    assert runs_on, f"{path.name} does not say what it runs on"
    gpus, memory = map(int, runs_on.groups())
    layouts = {gpus: ""} | {int(n): said for n, said in re.findall(r"^# On (\d+) GPUs[^:]*: (.*)$", text, re.MULTILINE)}
    assert 64 in layouts
    for ranks, settings in layouts.items():
        overrides = parse_overrides([word for word in shlex.split(settings) if word != "--set"])
        recipe = load(TrainRecipe, path, overrides)
        plan = plan_memory(recipe, ranks=ranks)
        assert plan.total < SPARE * memory * 2**30, f"{ranks} GPUs: {plan.total / 2**30:.1f} GiB"
        if ranks > 8:
            assert recipe.model.num_heads % recipe.parallel.context == 0
            assert plan.layout[1] * plan.layout[2] == 8, "weights are gathered between nodes"


def test_recipes_are_there() -> None:
    assert len(RECIPES) >= 8
