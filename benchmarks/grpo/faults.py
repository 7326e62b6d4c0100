"""The tiny policy with one reward behind a service that fails, hangs and dies, against the same run without faults."""

import argparse
import contextlib
import json
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.grpo.faulty_service import fault_of
from benchmarks.grpo.learning import (
    REWARDS,
    STUDENT_T,
    USES,
    VARIANTS,
    base_of,
    policy_recipe,
    reward_of,
    train,
)
from benchmarks.grpo.squares import PROMPTS
from reelwright.training.logs import read_log
from reelwright.training.rewards.contract import Reward
from reelwright.training.rewards.registry import load

FAULTY = "sharpness"
"""The reward that the service has. It answers four videos per request."""
TIMEOUT_S = 20.0
GROUP = 4  # videos per prompt, as the recipe has it by default
NAME = "three rewards, faulty service"


def compare(folder: Path, args: argparse.Namespace) -> None:
    """Train with the service for each seed, and print how the curves differ and what was counted."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs = []
    for seed in range(args.seeds):
        clean = _without_faults(folder, seed, args.updates)
        at = clean.parent / f"{NAME} {args.updates}"
        journal = clean.parent / f"{NAME} {args.updates}.jsonl"
        faulty = _rows(at, args.updates)
        if len(faulty) < args.updates:
            shutil.rmtree(at, ignore_errors=True)  # of a run that was cut off: its journal is another's
            with served(journal) as port:
                options = {"url": f"http://127.0.0.1:{port}", "timeout_s": TIMEOUT_S, "attempts": 1}
                rewards: dict[str, Reward] = {name: reward_of(name) for name in USES}
                rewards[FAULTY] = load("service", options)
                recipe = policy_recipe(VARIANTS["three rewards"], args.updates, seed, base_of(folder, seed))
                train(recipe, at, of_data=False, rewards=rewards)
            faulty = _rows(at, args.updates)
        told = counted(faulty, journal)
        print(json.dumps({"seed": seed, **told}), flush=True)
        if told["videos answered"] + told["failed scores in the log"] != told["videos asked"]:
            sys.exit("videos answered and failures counted are not the videos asked")
        pairs.append((_rows(clean, args.updates), faulty))
    report(pairs)


@contextlib.contextmanager
def served(journal: Path) -> Iterator[int]:
    """Keep the service running in a process of its own, started again wherever it dies; yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    journal.unlink(missing_ok=True)
    ended = threading.Event()
    running: list[subprocess.Popen[bytes]] = []

    def keep() -> None:
        while not ended.is_set():
            command = [sys.executable, "-m", "benchmarks.grpo.faulty_service", str(journal), str(port)]
            running.append(subprocess.Popen(command))
            running[-1].wait()

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield port
    finally:
        ended.set()
        running[-1].kill()
        keeper.join()


def counted(rows: list[dict[str, Any]], journal: Path) -> dict[str, Any]:
    """Return what the log has counted, and what the service did."""
    asked = [json.loads(line) for line in journal.read_text().splitlines()]
    assert all(one["fault"] == fault_of(one["number"]) for one in asked)
    return {
        "requests that the service saw": len(asked),
        **{kind: sum(one["fault"] == kind for one in asked) for kind in ("fails", "hangs", "dies")},
        "videos asked": len(rows) * len(PROMPTS) * GROUP,
        "videos answered": sum(one["videos"] for one in asked if not one["fault"]),
        "failed scores in the log": int(sum(row[f"reward/{FAULTY}/failed"] for row in rows)),
        "groups left out": int(sum(row[f"reward/{FAULTY}/left_out"] for row in rows)),
        "seconds waited": round(sum(row["rollout/wait_s"] for row in rows), 1),
    }


def report(pairs: list[tuple[list[dict[str, Any]], list[dict[str, Any]]]]) -> None:
    """Print per reward the last third's mean with faults less without, over seeds, beside the seeds' own spread."""
    third = len(pairs[0][0]) // 3
    for reward in REWARDS:
        name = f"reward/{reward}"
        ends = np.array([[np.mean([row[name] for row in rows[-third:]]) for rows in pair] for pair in pairs])
        begins = np.array([np.mean([row[name] for row in clean[:third]]) for clean, _ in pairs])
        away = ends[:, 1] - ends[:, 0]
        rise = (ends[:, 0] - begins).mean()
        text = f"{reward}: rise without faults {rise:.4g}; with faults less without {away.mean():.3g}"
        if len(pairs) > 1:
            half = STUDENT_T[len(pairs)] * away.std(ddof=1) / np.sqrt(len(pairs))
            text += f" ± {half:.2g} ({len(pairs)} seeds; deviation between seeds {ends[:, 0].std(ddof=1):.2g})"
        print(text)


def _without_faults(folder: Path, seed: int, updates: int) -> Path:
    """Return a run of as many updates or more with the rewards in this process, made where there is none."""
    for at in sorted(folder.glob(f"seed-{seed}-*/three rewards")):
        if len(_rows(at, updates)) == updates:
            return at
    at = folder / f"seed-{seed}-{updates}" / "three rewards"
    rewards = {name: reward_of(name) for name in USES}
    recipe = policy_recipe(VARIANTS["three rewards"], updates, seed, base_of(folder, seed))
    train(recipe, at, of_data=False, rewards=rewards)
    return at


def _rows(folder: Path, updates: int) -> list[dict[str, Any]]:
    rows = [row for row in read_log(folder) if "loss" in row] if folder.exists() else []
    return rows[:updates]
