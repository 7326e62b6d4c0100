"""Submit a `reel` command to a Ray cluster's job server and follow it."""

import asyncio
import hashlib
import json
import re
import shlex
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

from reelwright.errors import UserError, first_line

EXCLUDED = [".git", ".venv", "**/*.mp4", "**/*.lance", "/demo", "/build"]  # never sent to the cluster
STOP_WAIT_S = 900  # a stopped job is killed after 3 s by default: no time for a micro-batch and a checkpoint


def run_job(
    arguments: Sequence[str], *, address: str, working_dir: str | None, wait: bool = True, job_id: str | None = None
) -> int:
    """Run `reel ARGUMENTS` as a job at `address`; its log goes to standard output. Returns an exit code.

    working_dir: a clone of reelwright, sent along and put on the workers' path; None where it is installed there.
    job_id: of work that may run once at a time. A job that waits or runs is named and left alone (0). After a job has
    ended, in whatever way, the next attempt has a number behind this id: a training that a `stop` file ended has
    succeeded too, and `reel train` says itself where nothing is left to do.
    A cluster with token authentication is reached with RAY_AUTH_MODE=token and the token that
    `ray get-auth-token --generate` keeps. Raises UserError where the server cannot be reached or refuses.
    """
    from ray.exceptions import RayError
    from ray.job_submission import JobSubmissionClient

    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
    environment: dict[str, Any] = {"env_vars": variables}
    if working_dir:
        environment |= {"working_dir": str(Path(working_dir).absolute()), "excludes": EXCLUDED}
        variables["PYTHONPATH"] = "src"  # of the clone that was sent: jobs and workers start in it
    entrypoint = shlex.join([*(("python", "-m", "reelwright.pipelines.cli") if working_dir else ("reel",)), *arguments])
    try:
        client = JobSubmissionClient(address)
        if job_id:
            earlier = _attempts(client, job_id)
            if going := next((one for one, state in earlier.items() if not state.is_terminal()), None):
                print(f"job {going} at {address} exists already ({earlier[going]}); it was not submitted again")
                return 0
            job_id = _next_attempt(job_id, earlier)
        job = client.submit_job(entrypoint=entrypoint, runtime_env=environment, submission_id=job_id)
    except (ConnectionError, RuntimeError, RayError) as error:
        raise UserError(_why(error, address)) from error
    print(f"job {job} at {address}: {entrypoint}", flush=True)
    if not wait:
        return 0
    asyncio.run(_follow(client, job))
    status = client.get_job_status(job)
    print(f"job {job}: {status}", file=sys.stderr)
    return 0 if str(status) == "SUCCEEDED" else 1


def train_job_id(name: str, wanted: str, snapshot: str, store: str) -> str:
    """Return a job's id: the same for the same recipe, to the same step, on the same snapshot.

    A snapshot's content never changes.
    """
    digest = hashlib.sha256(json.dumps([wanted, snapshot, store]).encode()).hexdigest()[:8]
    return f"train-{name}-{snapshot}-{digest}"


def _attempts(client: Any, job: str) -> dict[str, Any]:
    """Return id -> JobStatus of all jobs submitted as `job`, `job-2`, `job-3` and so on."""
    name = re.compile(rf"{re.escape(job)}(-\d+)?")
    return {j.submission_id: j.status for j in client.list_jobs() if name.fullmatch(j.submission_id or "")}


def _next_attempt(job: str, earlier: Collection[str]) -> str:
    """Return the id of the next attempt.

    The server refuses an id that it knows, so that of two who submit at once only one begins.
    """
    numbers = [int(one.removeprefix(job).removeprefix("-") or 1) for one in earlier]
    return f"{job}-{max(numbers) + 1}" if numbers else job


async def _follow(client: object, job: str) -> None:
    async for text in client.tail_job_logs(job):  # type: ignore[attr-defined]
        print(text, end="", flush=True)


def _why(error: Exception, address: str) -> str:
    text = str(error)
    if "401" in text or "nauthorized" in text or "uthentication" in text:
        return (
            f"the cluster at {address} wants a token; set RAY_AUTH_MODE=token here and there, and keep the same token "
            "(`ray get-auth-token --generate`) in ~/.ray/auth_token or RAY_AUTH_TOKEN"
        )
    return f"cannot submit to {address}: {first_line(error)}"
