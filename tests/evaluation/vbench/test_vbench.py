"""VBench and VBench-2.0: prompts in, names as they look for them, scores as published, no total with a hole."""

import json
from pathlib import Path

import pytest

from reelwright.evaluation.errors import EvaluationError
from reelwright.evaluation.suites.files import load_suite
from reelwright.evaluation.vbench.benchmarks import VBENCH, VBENCH2
from reelwright.evaluation.vbench.layout import places
from reelwright.evaluation.vbench.scores import aggregate, read_results


def full_info(folder: Path, rows: list[dict]) -> Path:
    path = folder / "VBench2_full_info.json"
    path.write_text(json.dumps(rows))
    return path


def test_the_facts_add_up() -> None:
    assert (len(VBENCH2.dimensions), len(VBENCH.dimensions)) == (18, 16)
    assert sum(VBENCH2.weights.values()) == pytest.approx(1)
    assert sum(VBENCH.weights.values()) == pytest.approx(1)


def test_full_info_is_a_suite(tmp_path: Path) -> None:
    suite = load_suite(full_info(tmp_path, [
        {"prompt_en": "a red cube", "dimension": ["Diversity"], "auxiliary_info": "[1, 2]"},
        {"prompt_en": "a man jumps", "dimension": ["Human_Anatomy"], "auxiliary_info": {"x": 1}},
        {"prompt_en": "a man jumps", "dimension": ["Human_Clothes"]},
        {"prompt_en": "ice melts", "prompt_long": "A block of ice melts on a stove …", "dimension": ["Thermotics"]},
    ]))  # fmt: skip
    assert suite.benchmark == "vbench2"
    assert [(p.samples, p.dimensions, p.category) for p in suite.prompts] == [
        (20, ("Diversity",), "Creativity"),
        (3, ("Human_Anatomy", "Human_Clothes"), "Human_Fidelity"),
        (3, ("Thermotics",), "Physics"),
    ]
    assert suite.prompts[2].text.startswith("A block of ice")
    assert suite.prompts[2].short == "ice melts"
    path = full_info(tmp_path, [{"prompt_en": "x", "dimension": ["subject_consistency", "temporal_flickering"]}])
    assert (load_suite(path).benchmark, load_suite(path).prompts[0].samples) == ("vbench", 25)
    with pytest.raises(EvaluationError, match="Taste"):
        load_suite(full_info(tmp_path, [{"prompt_en": "x", "dimension": ["Taste"]}]))


def row(prompt: str, sample: int, dimensions: list[str], short: str | None = None) -> dict:
    return {"generation_id": f"{prompt[:9]}{sample}", "prompt_id": prompt[:9], "prompt": prompt, "short_prompt": short,
            "sample": sample, "dimensions": dimensions, "state": "ok"}  # fmt: skip


def test_files_are_named_by_the_short_prompt_cut_at_180_in_a_folder_per_dimension() -> None:
    long = "x" * 300
    found = places([row(long, 2, ["Mechanics", "Material"]), row("A long rewrite", 0, ["Mechanics"], "ice melts")])
    assert list(map(str, found["xxxxxxxxx2"])) == [f"Mechanics/{'x' * 180}-2.mp4", f"Material/{'x' * 180}-2.mp4"]
    assert list(map(str, found["A long re0"])) == ["Mechanics/ice melts-0.mp4"]
    flat = places([row("a bear", 4, ["subject_consistency", "color"])])
    assert list(map(str, flat["a bear4"])) == ["a bear-4.mp4"]


def test_names_that_cannot_be_and_names_that_clash_are_refused() -> None:
    with pytest.raises(EvaluationError, match="cannot be a file's name"):
        places([row("either/or", 0, ["Mechanics"])])
    one, two = row("y" * 200, 0, ["Mechanics"]), row("y" * 180 + "z", 0, ["Mechanics"])
    with pytest.raises(EvaluationError, match="share the file"):
        places([one | {"prompt_id": "a"}, two | {"prompt_id": "b"}])


def test_vbench2_is_the_mean_of_its_five_categories() -> None:
    scores = dict.fromkeys(VBENCH2.dimensions, 0.5) | {"Diversity": 0.9, "Thermotics": 0.1, "Human_Identity": 0.8}
    found = aggregate(scores)
    assert found.categories["Creativity"] == pytest.approx((0.5 + 0.9) / 2)
    assert found.categories["Physics"] == pytest.approx((3 * 0.5 + 0.1) / 4)
    assert found.categories["Human_Fidelity"] == pytest.approx((2 * 0.5 + 0.8) / 3)
    assert found.require_total() == pytest.approx((0.7 + 0.5 + 0.5 + 0.6 + 0.4) / 5)


def test_vbench_scales_each_dimension_and_weighs_dynamics_half() -> None:
    scores = dict.fromkeys(VBENCH.dimensions, 0.6293)
    quality = [(0.6293 - 0.1462) / 0.8538, (0.6293 - 0.2615) / 0.7385, 0, (0.6293 - 0.706) / 0.2915, 0.6293, 0.6293]
    semantic = [*[0.6293] * 5, 0.6293 / 0.8222, (0.6293 - 0.0009) / 0.2846, 0.6293 / 0.364, 0.6293 / 0.364]
    found = aggregate(scores)
    assert found.categories["quality"] == pytest.approx((sum(quality) + 0.5 * 0.6293) / 6.5)
    assert found.categories["semantic"] == pytest.approx(sum(semantic) / 9)
    assert found.require_total() == pytest.approx((4 * found.categories["quality"] + found.categories["semantic"]) / 5)


def test_no_total_with_a_hole(tmp_path: Path) -> None:
    (tmp_path / "a_eval_results.json").write_text(json.dumps({"Composition": [0.5, [{"video": "x"}]]}))
    (tmp_path / "b_eval_results.json").write_text(json.dumps({"Diversity": [0.7, []], "Thermotics": [0.2, []]}))
    found = aggregate(read_results([tmp_path]))
    assert found.categories == {"Creativity": pytest.approx(0.6)}
    assert found.total is None
    assert len(found.missing) == 15
    with pytest.raises(EvaluationError, match="Instance_Preservation") as refused:
        found.require_total()
    assert "15 of 18" in str(refused.value)
    (tmp_path / "c_eval_results.json").write_text(json.dumps({"Diversity": [0.8, []]}))
    with pytest.raises(EvaluationError, match="another file"):
        read_results([tmp_path])


@pytest.mark.parametrize("score", [1.2, -0.1, float("nan")])
def test_scores_outside_0_to_1_are_refused(score: float) -> None:
    with pytest.raises(EvaluationError, match="between 0 and 1"):
        aggregate({"Diversity": score})
