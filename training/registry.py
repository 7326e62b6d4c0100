"""The objectives that a recipe may name by `objective.kind`, and the settings that all of them share.

A new objective is one file: a config class with a `kind` of its own, decorated with `register`, whose `build` returns
the objective. It lies in `training/objectives`, or in a package with an entry point in the group
`reelwright.objectives`. The file should import torch inside functions, or recipes take seconds to read.
"""

import pkgutil
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self, TypeVar

from reelwright.model.config import Part

PACKAGE = "reelwright.training.objectives"
DEFAULT = "flow"
GROUP = "reelwright.objectives"
"""Entry points of other packages: each names a module that registers its objectives, or a config class."""


STUDENT = "default"
"""Name of the adapter that a LoRA recipe trains."""


@dataclass(frozen=True)
class AdapterPart:
    """An adapter of a run, of the recipe's rank and layers.

    start: what it begins as, a LoRA run's folder or checkpoint or a LoRA file; empty: without effect. trained: whether
    the run changes it; else it is not in the checkpoints.
    """

    name: str
    start: str = ""
    trained: bool = True


@dataclass(frozen=True)
class Passes:
    """Passes of the network per micro-batch beside the student's forward and backward pass, in the mean over steps.

    forward: without gradients, of a teacher for example. trained: forward and backward, of a critic for example.
    """

    forward: float = 0.0
    trained: float = 0.0


@dataclass(frozen=True)
class VideosMade:
    """The videos that an objective makes of a prompt, for the planner.

    group: videos of a prompt. calls: guided predictions of one sample for them, in the mean; alone: as many as there
    would be if nothing were shared. guided_passes: of the network per guided prediction. at_once: videos per pass; 0:
    all of a micro-batch.
    """

    group: int
    calls: float
    alone: int
    guided_passes: int
    at_once: int


class ObjectiveConfig(Part):
    """Settings of an objective. A subclass gives `kind` a default, its name in recipes."""

    kind: str = ""

    @property
    def adapters(self) -> tuple[AdapterPart, ...]:
        """Adapters that a LoRA recipe's network has, the trained one first."""
        return (AdapterPart(STUDENT),)

    @property
    def passes(self) -> Passes:
        """Work beside the trained pass, for the planner and for MFU."""
        return Passes()

    @property
    def micro_batches(self) -> int:
        """Micro-batches that it trains on for each of the snapshot's, on the same shapes."""
        return 1

    def deciding(self) -> Self:
        """Return the settings that decide what is learned; others are at their defaults, and may change on the way."""
        return self

    @property
    def videos_made(self) -> VideosMade | None:
        """The videos that it makes of a prompt; None where it makes none."""
        return None

    @property
    def makes_videos(self) -> bool:
        """Whether it makes videos of the batches' prompts and has them scored: batches then tell their captions."""
        return False

    @property
    def loss_is_of_clips(self) -> bool:
        """Whether a sample's loss says how well the network predicts its clip; not where it has another target."""
        return not self.makes_videos

    def shows(self, figure: str, value: float) -> bool:
        """Whether a figure of `Objective.metrics` stands in the line of a step; all of them are in the log."""
        return "/" not in figure

    def refuse_recipe(self, recipe: Any) -> None:
        """Raise TrainError where it cannot train by a recipe; a plan asks this as a run does.

        Args:
            recipe: the `TrainRecipe` that this is the objective of.
        """

    def refuse_changed(self, saved: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> None:
        """Raise TrainError where a run that goes on would learn from something else than it did.

        Args:
            saved: checkpoint.json.
            now: what the run would write into it today.
            checkpoint: for messages.
        """

    def refuse_state(self, saved: Mapping[str, Any], now: Mapping[str, Any], checkpoint: Path) -> None:
        """Raise TrainError where a run cannot begin with the state of another run's objective.

        Args:
            saved: checkpoint.json of the other run.
            now: what this run would write into it.
            checkpoint: of the other run, for messages.
        """

    def origins(self, scorer: Any = None) -> dict[str, Any]:
        """Return the parts of its origin that checkpoints record beside the recipe, as JSON has them. May take long.

        Args:
            scorer: the `Scorer` of an objective with rewards; None: the run has none yet.
        """
        return {}

    def remarks(self, origins: Mapping[str, Any]) -> list[str]:
        """Return what a person should know of a run's origins before it begins, a line each.

        Raises:
            TrainError: it should not begin with them.
        """
        return []

    def data(self, inner: Any, objective: Any, recipe: Any, world: Any, hooks: Any) -> Any:
        """Return the batches of a run, a `loop.Data`: those of the snapshot, or others made from them.

        Args:
            inner: the snapshot's batches.
            objective: the run's, as `build` has made it.
            recipe: the `TrainRecipe` of the run.
            world: the `World` of this rank.
            hooks: of the run, `loop.Hooks`.
        """
        return inner

    def build(self, model: Any, recipe: Any, world: Any) -> Any:
        """Return the objective of a run, an `objectives.base.Objective`.

        Args:
            model: the `nn.Module` that is trained: on its device, sharded, with adapters and first weights.
            recipe: the `TrainRecipe` of the run.
            world: the `World` of this rank.
        """
        raise NotImplementedError


_CONFIGS: dict[str, type[ObjectiveConfig]] = {}

C = TypeVar("C", bound=ObjectiveConfig)


def register(config: type[C]) -> type[C]:
    """Make a config class known under the default of its `kind`. Decorates the class.

    Raises:
        ValueError: another class has the same kind.
    """
    kind = config.model_fields["kind"].default
    if not kind or not isinstance(kind, str):
        raise ValueError(f"{config.__qualname__} has no kind; give the class a field kind: Literal['name'] = 'name'")
    known = _CONFIGS.get(kind)
    if known is not None and (known.__module__, known.__qualname__) != (config.__module__, config.__qualname__):
        raise ValueError(f"objective {kind!r} is {known.__module__}.{known.__qualname__} already; choose another kind")
    _CONFIGS[kind] = config
    return config


def config_of(kind: str) -> type[ObjectiveConfig]:
    """Return the config class of a kind, importing the file that registers it.

    Raises:
        ValueError: no objective has this kind.
    """
    own = f"{PACKAGE}.{kind}"
    if kind not in _CONFIGS and re.fullmatch(r"[a-z]\w*", kind) and find_spec(own):
        import_module(own)
    if kind not in _CONFIGS:
        _discover()
    if kind not in _CONFIGS:
        raise ValueError(f"{kind!r} is not an objective; choose one of {', '.join(sorted(_CONFIGS))}")
    return _CONFIGS[kind]


def as_config(value: Any) -> Any:
    """Turn the section `objective` of a recipe into the settings of its kind; without a kind, of `flow`."""
    if not isinstance(value, dict):
        return value
    kind = value.get("kind", DEFAULT)
    if not isinstance(kind, str):
        raise ValueError(f"kind {kind!r} is not the name of an objective")
    return config_of(kind).model_validate(value)


@cache
def _discover() -> None:
    """Import all files of this folder and the entry points of other packages; each registers its objectives."""
    for module in pkgutil.iter_modules(import_module(PACKAGE).__path__):
        import_module(f"{PACKAGE}.{module.name}")
    for point in entry_points(group=GROUP):
        found = point.load()
        if isinstance(found, type):
            register(found)
