"""Start or join a Ray cluster."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator
from typing import Any

from pipelines.errors import UserError

LOCAL = {"address": "local", "include_dashboard": False, "_system_config": {"enable_metrics_collection": False}}
"""A Ray of this process alone: nobody would see its dashboard and metrics, whose processes take a tenth of a core."""


@contextlib.contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """Join the cluster at `address` (or RAY_ADDRESS, as under `ray job submit`); without one, run on this machine."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray says on every start that tokens are on, which is its default and what we want.
    warnings.filterwarnings("ignore", message="lance is not fork-safe")  # Ray forks only to start other programs
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    import ray

    if ray.is_initialized():  # the caller's cluster, in tests and notebooks
        yield
        return
    where = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"address": where} if where else LOCAL
    try:
        ray.init(**options, log_to_driver=False, logging_level="warning")
    except Exception as error:  # of a node that does not come up in time Ray raises the bare class
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        what = f"cannot join the Ray cluster at {where}" if where else "Ray did not start on this machine"
        raise UserError(f"{what} ({first}); is it up, and is the machine overloaded? Then try again") from error
    try:
        yield
    finally:
        ray.shutdown()
