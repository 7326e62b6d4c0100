"""Rewards as Ray actors: every video has a number or a stated failure, whatever becomes of the processes."""

import math
import os
import re
import time
from pathlib import Path

import pytest
import ray
import torch

from reelwright.pipelines.train.reward_actors import NAMESPACE, ActorScorer, Joined, actors, cpu_share
from reelwright.pipelines.train.reward_gpus import gpus_in_common, gpus_of_rewards
from reelwright.pipelines.train.reward_pools import Members, Place, Pool, PoolSettings, together
from reelwright.training.distributed.world import World
from reelwright.training.errors import TrainError
from reelwright.training.rewards.contract import Score, Unscored
from reelwright.training.rewards.in_process import InProcess
from reelwright.training.rewards.registry import load
from reelwright.training.rl.config import RewardUse
from tests.pipelines.sample_rewards import Hangs, Keyed, Kills, Large, Parted, Tenth, Unready, grey, serving
from tests.training.ranks import ranks

ALONE = World.alone("cpu")


def whys(scores: list[Score]) -> list[str]:
    return [one.why for one in scores if isinstance(one, Unscored)]


@pytest.fixture(scope="module")
def scorer(ray_local: None, tmp_path_factory: pytest.TempPathFactory) -> "ActorScorer":
    died = tmp_path_factory.mktemp("kills") / "died"
    settings = {
        "tenth": PoolSettings(Tenth(), 1, 60),
        "hangs": PoolSettings(Hangs(batch=1), 2, 3),
        "kills": PoolSettings(Kills(died=str(died)), 1, 60),
    }
    with actors(settings, ALONE, str) as found:
        yield found


def test_failures_kills_and_hanging_are_stated_and_counted_and_all_else_is_scored(scorer: ActorScorer) -> None:
    levels = [0, 7, 13, 14, 15, 66, 70, 71]
    first = scorer.submit([grey(level) for level in levels])
    second = scorer.submit([grey(level) for level in (1, 2)])
    found, next_ones = first.result(), second.result()

    assert found["tenth"][2:] == [13.0, 14.0, 15.0, 66.0, 70.0, 71.0]
    assert whys(found["tenth"][:2]) == ["tenth: OSError: the lens is dirty"] * 2  # of one call

    assert [s for s in found["kills"] if not isinstance(s, Unscored)] == [0.0, 7.0, 14.0, 15.0, 66.0, 70.0, 71.0]
    (why,) = whys(found["kills"])
    assert isinstance(found["kills"][2], Unscored)
    assert why.startswith("kills: its process died twice")

    assert whys(found["hangs"]) == ["hangs did not answer in 3 s"]
    assert isinstance(found["hangs"][5], Unscored)
    assert next_ones["tenth"] == next_ones["kills"] == [1.0, 2.0]
    pids = {s for s in [*found["hangs"], *next_ones["hangs"]] if not isinstance(s, Unscored)}
    assert 1 <= len(pids) <= 3  # two processes, and the one in place of the one that hung
    assert os.getpid() not in pids

    figures = scorer.figures()
    failed = {label: figures[f"{label}/failed"] for label in found}
    assert failed == {"tenth": 2, "hangs": 1, "kills": 1}
    assert (figures["hangs/restarts"], figures["tenth/restarts"]) == (1, 0)
    assert figures["kills/restarts"] >= 2
    assert figures["restarts"] == figures["hangs/restarts"] + figures["kills/restarts"]
    assert figures["hangs/busy_s"] >= 3
    for kind in ("busy_s", "idle_s"):
        assert math.isclose(figures[kind], sum(figures[f"{label}/{kind}"] for label in found))
    again = scorer.figures()
    assert (again["tenth/failed"], again["restarts"], again["tenth/busy_s"]) == (0, 0, 0)


@pytest.mark.exhaustive
def test_a_call_behind_one_that_is_lost_keeps_its_time_and_its_second_try(ray_local: None, tmp_path: Path) -> None:
    settings = {
        "hangs": PoolSettings(Hangs(batch=1), 1, 3),
        "kills": PoolSettings(Kills(batch=1, died=str(tmp_path / "died")), 1, 60),
    }
    with actors(settings, ALONE, str) as scorer:
        found = scorer.submit([grey(level) for level in (13, 14, 15, 66, 70)]).result()
        figures = scorer.figures()
    assert whys(found["hangs"]) == whys(found["hangs"][3:4]) == ["hangs did not answer in 3 s"]  # 70 had its own 3 s
    (why,) = whys(found["kills"])
    assert why.startswith("kills: its process died twice")
    assert isinstance(found["kills"][0], Unscored)
    assert found["kills"][1:] == [14.0, 15.0, 66.0, 70.0]  # 14 died once; that 13 died before it was not its fault
    assert figures["hangs/restarts"] == 1
    assert figures["kills/restarts"] >= 3


def test_videos_that_are_scored_fast_travel_in_calls_of_several_batches() -> None:
    pool = Pool(Members({"tenth": PoolSettings(Tenth(batch=2), 3, 60)}))
    assert pool.size_of(30) == 2  # nothing is known yet
    for pace_s, size in ((0.01, 10), (0.1, 4), (1.0, 2)):
        pool.pace_s = pace_s
        assert pool.size_of(30) == size  # 10: each process has its share
    pool.pace_s = 0.01
    assert pool.size_of(1) == 2


@pytest.mark.exhaustive
def test_one_that_hangs_fails_alone_in_a_call_of_several_batches(ray_local: None) -> None:
    with actors({"hangs": PoolSettings(Hangs(batch=1), 1, 3)}, ALONE, str) as scorer:
        scorer.submit([grey(1)]).result()  # now it is known to be fast
        found = scorer.submit([grey(level) for level in (1, 66, 2)]).result()["hangs"]
        assert whys(found) == whys(found[1:2]) == ["hangs did not answer in 3 s"]
        assert scorer.figures()["hangs/failed"] == 1


def test_where_the_keeper_of_the_processes_is_lost_its_calls_are_made_again(ray_local: None) -> None:
    with actors({"tenth": PoolSettings(Tenth(), 1, 60)}, ALONE, str) as scorer:
        waiting = scorer.submit([grey(66), grey(1)])
        ray.kill(scorer.pools, no_restart=False)
        assert waiting.result() == {"tenth": [66.0, 1.0]}
        assert scorer.submit([grey(5)]).result() == {"tenth": [5.0]}


def test_rewards_of_one_model_are_computed_by_one_process(ray_local: None) -> None:
    said: list[str] = []
    settings = {"pid": PoolSettings(Parted(), 1, 60), "tenth": PoolSettings(Tenth(), 1, 60)}
    settings["times"] = PoolSettings(Parted(number="times"), 1, 60)
    assert together({label: one.reward for label, one in settings.items()}) == [["pid", "times"], ["tenth"]]
    assert together({"a": Tenth(), "b": Tenth()}) == [["a"], ["b"]]
    with actors(settings, ALONE, said.append) as scorer:
        scorer.submit([grey(1)]).result()
        scorer.figures()
        time.sleep(0.05)  # without a video to score, which counts as neither busy nor idle
        began = time.monotonic()
        found = scorer.submit([grey(1), grey(2), grey(7)]).result()
        outstanding_s = time.monotonic() - began
        figures = scorer.figures()
    assert said == ["rewards of their own processes: pid + times × 1, tenth × 1"]
    assert list(found) == list(settings)
    assert len(set(found["pid"])) == 1
    assert found["times"] == [2.0, 2.0, Unscored("parted: OSError: the lens is dirty")]  # the same process has both
    assert (figures["pid/failed"], figures["times/failed"]) == (0, 1)
    assert figures["pid/busy_s"] == figures["times/busy_s"] > 0
    assert figures["pid/busy_s"] + figures["pid/idle_s"] <= outstanding_s
    assert math.isclose(figures["busy_s"], figures["pid/busy_s"] + figures["tenth/busy_s"])


def test_rewards_of_both_places_are_one_scorer(scorer: ActorScorer) -> None:
    both = Joined([InProcess({"here": Tenth()}), scorer])
    found = both.submit([grey(3)]).result()
    assert found["here"] == found["tenth"] == [3.0]
    both.figures()
    assert both.submit([grey(4)], ["here", "tenth"]).result() == {"here": [4.0], "tenth": [4.0]}
    assert both.submit([grey(7)], ["hangs"]).result().keys() == {"hangs"}
    asked = both.figures()
    assert asked["kills/busy_s"] == asked["here/failed"] == asked["tenth/failed"] == 0
    assert asked["tenth/busy_s"] > 0
    assert [one["name"] for one in both.describe().values()] == ["tenth", "tenth", "hangs", "kills"]
    assert asked["busy_s"] >= asked["here/busy_s"] > 0


def test_a_reward_that_cannot_start_ends_the_start(ray_local: None) -> None:
    with (
        pytest.raises(TrainError, match=r"reward 'mine' \(unready\) cannot start: .*weights.safetensors is not there"),
        actors({"mine": PoolSettings(Unready(), 1, 60)}, ALONE, str),
    ):
        pass


def test_a_key_reaches_the_process_of_its_reward_and_a_service_s_reward_is_told(
    ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"keyed": PoolSettings(Keyed(), 1, 60)}
    with pytest.raises(TrainError, match="SOMEBODYS_REWARD_KEY, which holds no key here"), actors(settings, ALONE, str):
        pass
    monkeypatch.setenv("SOMEBODYS_REWARD_KEY", "12345")
    with serving(Tenth()) as url:
        settings["far"] = PoolSettings(load("service", {"url": url}), 1, 60)
        with actors(settings, ALONE, str) as scorer:
            assert scorer.submit([grey(1)]).result() == {"keyed": [5.0], "far": [1.0]}
            told = scorer.describe()
    assert told["keyed"] == Keyed().describe()
    assert told["far"]["served"] == Tenth().describe()  # only its process has asked the service


def test_a_new_process_must_have_the_rewards_of_the_first() -> None:
    one = {"far": {"fingerprint": "f", "served": {"fingerprint": "s"}}}
    place = Place(Members({"far": PoolSettings(Tenth(), 1, 60)}), {})
    assert place.other_than_before(one) == place.other_than_before(one) == ""
    other = {"far": {**one["far"], "served": {"fingerprint": "t"}}}
    assert place.other_than_before(other) == "far was f s, now it is f t"


def test_a_ray_of_the_run_s_own_sees_the_gpus_that_no_rank_computes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(device=torch.device("cuda", 0))
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    for before in ("4,5,6,7", "4"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", before)
        with gpus_of_rewards(world, joined=False):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == ("7" if "," in before else "")
        with gpus_of_rewards(world, joined=True):
            assert os.environ["CUDA_VISIBLE_DEVICES"] == before
        assert os.environ["CUDA_VISIBLE_DEVICES"] == before


@pytest.mark.parametrize(
    ("offered", "there", "ranks", "how"),
    [(8, 8, 8, "--num-gpus 0"), (8, 8, 5, "CUDA_VISIBLE_DEVICES=5,6,7"), (3, 8, 5, ""), (0, 8, 8, "")],
)
def test_a_cluster_that_may_put_rewards_onto_the_ranks_gpus_is_told(
    offered: float, there: int, ranks: int, how: str
) -> None:
    told = gpus_in_common(offered, there, ranks)
    assert bool(told) == bool(how)
    assert told.endswith(how)


def test_room_that_is_not_there_is_told(ray_local: None) -> None:
    settings = {"large": PoolSettings(Large(), 2, 60)}
    with pytest.raises(TrainError, match="rewards ask for 2 GPUs, but 0 are left beside the ranks; start fewer ranks"):
        cpu_share(settings, joined=False, say=str)
    said: list[str] = []
    assert cpu_share(settings, joined=True, say=said.append) == 1
    assert re.match(r"rewards ask for 8 CPUs and 2 GPUs, and the cluster has \S+ and 0 free: they wait", said[0])
    many = {"tenth": PoolSettings(Tenth(), 40, 60)}
    assert cpu_share(many, joined=False, say=str) == pytest.approx(2 / 4)


def on_rank(folder: str) -> None:
    """Score as one rank of two, without a Ray that is there before."""
    from reelwright.training.distributed.world import start
    from reelwright.training.recipe import ParallelConfig

    os.environ.pop("RAY_ADDRESS", None)
    world = start(ParallelConfig(), device="cpu")
    with actors({"hangs": PoolSettings(Hangs(), 1, 60)}, world, str) as scorer:
        (pid,) = scorer.submit([grey(world.rank)]).result()["hangs"]
        figures = scorer.figures()
    assert ("hangs/busy_s" in figures) == world.is_first
    Path(folder, str(world.rank)).write_text(str(pid))


def test_another_scorer_that_joins_by_the_name_of_the_pools_reaches_the_same_processes(scorer: ActorScorer) -> None:
    named = ray.util.list_named_actors(all_namespaces=True)
    (name,) = [one["name"] for one in named if one["namespace"] == NAMESPACE]
    other = ActorScorer(ray.get_actor(name, namespace=NAMESPACE), scorer.settings, tells=False)
    assert other.submit([grey(4)]).result()["tenth"] == [4.0]
    assert other.figures() == {f"{label}/failed": 0.0 for label in scorer.settings}
    assert scorer.figures()["tenth/busy_s"] > 0


@pytest.mark.exhaustive
def test_all_ranks_have_their_videos_scored_by_the_same_process(tmp_path: Path) -> None:
    ranks(2, on_rank, str(tmp_path))
    assert (tmp_path / "0").read_text() == (tmp_path / "1").read_text() != ""


def test_a_reward_is_computed_by_an_actor_where_it_is_asked_for_or_heavy() -> None:
    light = Tenth()
    assert RewardUse().is_local(light)
    assert not RewardUse(processes=1).is_local(light)
    assert not RewardUse(local=False).is_local(light)
    assert RewardUse(local=True, processes=1).is_local(light)
