"""An object store for the tests here, which need no Ray."""

from collections.abc import Iterator

import pytest

from reelwright.curation.store import Store
from tests.pipelines.object_store import ObjectStore, environment


@pytest.fixture(scope="package")
def s3() -> Iterator[ObjectStore]:
    """A server of the S3 protocol on loopback, which this process finds by its environment."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment().items():
            patched.setenv(name, value)
        with ObjectStore() as one:
            yield one


@pytest.fixture(scope="package")
def s3_store(s3: ObjectStore) -> Store:
    """A store there; making one takes some 180 requests, so tests share it."""
    s3.bucket("shared")
    return Store.open("s3://shared/store", create=True)
