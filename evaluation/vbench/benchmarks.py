"""The two benchmarks in facts: dimensions, categories, ranges, videos per prompt.

Sources: Huang et al., VBench (CVPR 2024), Zheng et al., VBench-2.0 (arXiv 2503.21755), and their published scripts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from reelwright.evaluation.errors import EvaluationError


@dataclass(frozen=True)
class Benchmark:
    """A benchmark.

    Args:
        name: as in a suite.
        categories: category -> its dimensions.
        samples: videos per prompt.
        more_samples: dimension -> videos per prompt that it asks for instead.
        weights: category -> its weight in the total.
        ranges: dimension -> (least, most), that its score is scaled by; others have 0 and 1.
        dimension_weights: dimension -> its weight in its category; others have 1.
        folders: whether the videos of a dimension lie in a folder of their own.
        name_characters: of a prompt that a file's name begins with; 0: all.
    """

    name: str
    categories: Mapping[str, Sequence[str]]
    samples: int
    more_samples: Mapping[str, int]
    weights: Mapping[str, float]
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    dimension_weights: Mapping[str, float] = field(default_factory=dict)
    folders: bool = False
    name_characters: int = 0

    @property
    def dimensions(self) -> list[str]:
        """All dimensions."""
        return [dimension for some in self.categories.values() for dimension in some]

    def samples_of(self, dimensions: Sequence[str]) -> int:
        """Return the videos of a prompt that is judged in these dimensions."""
        return max([self.samples, *(self.more_samples.get(dimension, 0) for dimension in dimensions)])


VBENCH2 = Benchmark(
    "vbench2",
    {
        "Creativity": ("Composition", "Diversity"),
        "Commonsense": ("Instance_Preservation", "Motion_Rationality"),
        "Controllability": (
            "Camera_Motion", "Complex_Landscape", "Complex_Plot", "Dynamic_Attribute", "Dynamic_Spatial_Relationship",
            "Human_Interaction", "Motion_Order_Understanding",
        ),
        "Human_Fidelity": ("Human_Anatomy", "Human_Clothes", "Human_Identity"),
        "Physics": ("Material", "Mechanics", "Multi-View_Consistency", "Thermotics"),
    },
    samples=3,
    more_samples={"Diversity": 20},
    weights=dict.fromkeys(("Creativity", "Commonsense", "Controllability", "Human_Fidelity", "Physics"), 0.2),
    folders=True,
    name_characters=180,
)  # fmt: skip
VBENCH = Benchmark(
    "vbench",
    {
        "quality": (
            "subject_consistency", "background_consistency", "temporal_flickering", "motion_smoothness",
            "aesthetic_quality", "imaging_quality", "dynamic_degree",
        ),
        "semantic": (
            "object_class", "multiple_objects", "human_action", "color", "spatial_relationship", "scene",
            "appearance_style", "temporal_style", "overall_consistency",
        ),
    },
    samples=5,
    more_samples={"temporal_flickering": 25},
    weights={"quality": 0.8, "semantic": 0.2},
    ranges={
        "subject_consistency": (0.1462, 1.0),
        "background_consistency": (0.2615, 1.0),
        "temporal_flickering": (0.6293, 1.0),
        "motion_smoothness": (0.706, 0.9975),
        "scene": (0.0, 0.8222),
        "appearance_style": (0.0009, 0.2855),
        "temporal_style": (0.0, 0.364),
        "overall_consistency": (0.0, 0.364),
    },
    dimension_weights={"dynamic_degree": 0.5},
)  # fmt: skip
BENCHMARKS = {one.name: one for one in (VBENCH, VBENCH2)}


def benchmark_of(dimensions: Sequence[str]) -> Benchmark:
    """Return the benchmark that has these dimensions.

    Raises:
        EvaluationError: none has them all.
    """
    for one in BENCHMARKS.values():
        if dimensions and set(dimensions) <= set(one.dimensions):
            return one
    unknown = sorted(set(dimensions) - {d for one in BENCHMARKS.values() for d in one.dimensions})
    said = f"{unknown[0]} is a dimension of neither" if unknown else "dimensions of both are mixed"
    raise EvaluationError(f"VBench has 16 dimensions and VBench-2.0 has 18, and {said}")
