"""The same run as Ray Train workers: a TorchTrainer makes the process group, and each worker is one rank."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from reelwright.errors import UserError
from reelwright.pipelines.runtime.cluster import cluster
from reelwright.pipelines.runtime.environment import set_process_defaults
from reelwright.pipelines.train.run import (
    Job,
    already,
    claim,
    ending,
    exit_code,
    finished_step,
    recorded_training,
    saved_step,
    train,
)

OUTPUT = "output.log"  # lines of the first rank; the driver shows them
POLL_S = 0.5


def run_on_ray(job: Job, *, workers: int, address: str | None = None, say: Callable[[str], None] = print) -> int:
    """Train by `workers` ranks, on GPUs where the cluster has as many; returns an exit code.

    OUT must be a folder that all nodes see. Raises UserError with the first worker's own words if it fails.
    """
    folder = job.folder
    with claim(folder):
        if finished_step(folder, job.recipe.steps) is not None:
            say(already(folder))
            return 0
        with recorded_training(job, folder, say) as run:
            run.tell(lambda: {"what": "train", "done": saved_step(folder) or 0, "total": job.recipe.steps})
            try:
                with cluster(address), _shown(folder / OUTPUT, say):
                    stopped_by = _fit(job, folder, workers, say)
            finally:
                run.counts["steps"] = saved_step(folder)
            finished = finished_step(folder, job.recipe.steps) is not None
            run.state = "finished" if finished else "interrupted"
    say(ending(job, folder, saved_step(folder) or 0, finished))
    return 0 if finished else exit_code(stopped_by)


def work(config: dict[str, Any]) -> None:
    """One Ray Train worker."""
    set_process_defaults()  # before CUDA is used: a worker has the environment of its node, not the driver's
    from reelwright.training.distributed import world as worlds

    job, folder = Job.from_json(config["job"]), Path(config["folder"])
    world = worlds.start(job.recipe.parallel)
    with (folder / OUTPUT).open("a", encoding="utf-8") as output:

        def say(line: str) -> None:
            output.write(f"{line}\n")
            output.flush()

        train(job, folder, world, say)


def _fit(job: Job, folder: Path, workers: int, say: Callable[[str], None]) -> int:
    """Train until the end, or until a signal; return the signal, 0 if none came.

    Workers learn of it by a file: they are on other nodes, and Ray would abort them.
    """
    import ray
    from ray.train import RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    from reelwright.training import stopping

    gpus = on_gpus(workers, ray.cluster_resources().get("GPU", 0))
    trainer = TorchTrainer(
        work,
        train_loop_config={"job": job.to_json(), "folder": str(folder)},
        scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
        run_config=RunConfig(name="ray", storage_path=str(folder)),
    )
    request, fitted = folder / stopping.REQUEST, _begun(trainer.fit)
    passed_on = 0
    with stopping.watch() as asked:
        while not wait([fitted], timeout=POLL_S).done:
            if asked.signal and not passed_on:
                stopping.ask(request, passed_on := asked.signal)
                say("asked the workers to stop after the micro-batch under way")
    if error := fitted.exception():
        raise UserError(_why(error)) from error
    return passed_on


def _begun(call: Callable[[], Any]) -> Future[Any]:
    """Call in a thread, so that this one stays free for signals. It delays no exit."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(call())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def on_gpus(workers: int, gpus: float) -> bool:
    """Return whether ranks take a GPU each: where the cluster has none, they compute on CPUs. UserError for too few."""
    if 0 < gpus < workers:
        raise UserError(
            f"the cluster has {gpus:g} GPUs for {workers} workers, which take one each; give --workers {int(gpus)}, "
            "add GPUs, or hide them all to train on CPUs"
        )
    return gpus > 0


def _why(error: BaseException) -> str:
    """Return the last line of the innermost cause: a worker's own sentence."""
    failures = getattr(error, "worker_failures", None)
    text = str(next(iter(failures.values()))) if failures else str(error)
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    last = lines[-1] if lines else type(error).__name__
    return f"the Ray workers failed: {last.rpartition('Error: ')[2]}"


@contextmanager
def _shown(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Pass on lines that are added to a file within the context."""
    path.touch()
    done = threading.Event()
    thread = threading.Thread(target=_follow, args=(path, say, done), daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _follow(path: Path, say: Callable[[str], None], done: threading.Event) -> None:
    with path.open(encoding="utf-8") as file:
        file.seek(0, 2)
        while True:
            ended = done.is_set()
            for line in file.readlines():
                say(line.rstrip("\n"))
            if ended:
                return
            done.wait(POLL_S)
