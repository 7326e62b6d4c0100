"""Start or join a Ray cluster."""

import contextlib
import logging
import os
from collections.abc import Iterator


@contextlib.contextmanager
def cluster(address: str | None = None) -> Iterator[None]:
    """Join the cluster at `address` (or RAY_ADDRESS, as under `ray job submit`); without one, run on this machine."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # Ray says on every start that tokens are on, which is its default and what we want.
    logging.getLogger("ray._private.authentication.authentication_token_setup").setLevel(logging.ERROR)
    import ray

    if ray.is_initialized():  # the caller's cluster, in tests and notebooks
        yield
        return
    where = address or os.environ.get("RAY_ADDRESS")
    if where:
        ray.init(address=where, log_to_driver=False, logging_level="warning")
    else:
        ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="warning")
    try:
        yield
    finally:
        ray.shutdown()
