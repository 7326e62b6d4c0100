"""A reward is known from its file alone, whether reelwright's or another package's; a recipe names only known ones."""

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from reelwright.training.rewards.contract import Reward
from reelwright.training.rewards.registry import ENTRY_POINTS, NO_REWARDS, available, built_in, kind_of, load
from reelwright.training.rl.config import RolloutConfig

OUTSIDE = '''
from dataclasses import dataclass

from reelwright.training.rewards.contract import Reward


@dataclass(frozen=True)
class Frames(Reward):
    """Number of frames."""

    least: int = 0

    name, version = "num_frames", 1

    def __call__(self, videos):
        return [float(max(self.least, len(video.frames))) for video in videos]
'''


@pytest.fixture
def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with a reward, as pip would leave it, which also claims a built-in's name."""
    (tmp_path / "counting.py").write_text(OUTSIDE)
    facts = tmp_path / "counting-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text("Metadata-Version: 2.1\nName: counting\nVersion: 1.0\n")
    names = "num_frames = counting:Frames\nsharpness_standin = counting:Frames\nbroken = counting:Missing\n"
    (facts / "entry_points.txt").write_text(f"[{ENTRY_POINTS}]\n{names}")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    sys.modules.pop("counting", None)


def test_every_file_of_the_folder_is_a_reward_of_its_name() -> None:
    import reelwright.training.rewards as folder

    files = {file.stem for file in Path(folder.__file__).parent.glob("*.py")} - {"__init__"}
    assert files == {*built_in(), *NO_REWARDS}
    for name, module in built_in().items():
        kind = kind_of(name)
        assert (kind.name, kind.__module__) == (name, module)
        assert issubclass(kind, Reward)
        assert kind.version >= 1


def test_another_package_adds_a_reward_by_one_file(outside: Path) -> None:
    assert "num_frames" in available()
    assert load("num_frames", {"least": 3}).describe()["parameters"] == {"least": 3}
    config = RolloutConfig(rewards={"long": {"kind": "num_frames", "parameters": {"least": 2}}, "num_frames": {}})
    rewards = config.load_rewards()
    assert {label: reward.parameters["least"] for label, reward in rewards.items()} == {"long": 2, "num_frames": 0}
    assert rewards["long"].fingerprint != rewards["num_frames"].fingerprint


def test_a_package_takes_no_name_of_ours_and_one_that_cannot_be_imported_is_named(outside: Path) -> None:
    with pytest.raises(ValueError, match="reward 'broken' of counting:Missing cannot be imported"):
        load("broken")
    assert kind_of("sharpness_standin").__module__ == "reelwright.training.rewards.sharpness_standin"


def test_a_recipe_refuses_what_is_no_reward_or_no_parameter(outside: Path) -> None:
    with pytest.raises(ValidationError, match=r"rewards.sharp: 'num_frame' is not a reward; look-alikes: num_frames"):
        RolloutConfig(rewards={"sharp": {"kind": "num_frame"}})
    with pytest.raises(ValidationError, match=r"held_out.num_frames: reward 'num_frames' has no parameter 'last'"):
        RolloutConfig(rewards={"a": {"kind": "num_frames"}}, held_out={"num_frames": {"parameters": {"last": 1}}})
    with pytest.raises(ValidationError, match=r"rewards.num_frames: reward 'num_frames': least = 'many'"):
        RolloutConfig(rewards={"num_frames": {"parameters": {"least": "many"}}})


def test_loading_every_reward_brings_no_torch() -> None:
    code = (
        "import sys\nfrom reelwright.training.rewards.registry import built_in, kind_of\n"
        "for name in built_in():\n    kind_of(name)\nsys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
