"""Links with a signature, as a bucket's owner hands them out: fetched with it, and known without."""

import re
import shutil
from pathlib import Path

import pytest

from reelwright.curation.store import Store
from tests.footage import footage
from tests.pipelines.helpers import check_whole, contents, curate, recipe_of

SIGNATURE = re.compile("X-Amz-(?:Signature|Credential)=[^& ]+")


@pytest.fixture(scope="module")
def films(tmp_path_factory) -> list[Path]:
    return footage(tmp_path_factory.mktemp("signed"), 2, lengths=(40,))


@pytest.fixture(scope="module")
def bucket(object_store, films) -> str:
    return object_store.bucket("lent", *films)


def listing(bucket: str, path: Path, expires_s: int) -> set[str]:
    """Write a list of signed links of all films; return what must not be written down."""
    import s3fs

    files = s3fs.S3FileSystem(config_kwargs={"signature_version": "s3v4"}, skip_instance_cache=True)
    links = [files.sign(f"s3://{name}", expiration=expires_s) for name in files.ls(f"{bucket}/in")]
    path.write_text("\n".join(["uri,caption", *(f"{link},a film" for link in links)]) + "\n")
    found = {one.partition("=")[2] for link in links for one in SIGNATURE.findall(link)}
    assert len(found) == len(links) + 1  # a signature each, and the one key's name
    return found


def written(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("cache_mib", [20_480, 0], ids=["with copies", "without"])
def test_signed_links_are_fetched_and_named_without_their_signature(
    object_store, bucket, films, tmp_path, capfd, cache_mib
):
    secrets = listing(bucket, tmp_path / "list.csv", 3600)
    recipe = recipe_of(allow_http=True, limits__input_cache_mib=cache_mib, inputs=[str(tmp_path / "list.csv")])
    with object_store.faults({"kind": "refuse", "method": "HEAD", "path": "/lent/"}):  # it is for one method
        summary = curate(tmp_path / "store", recipe.inputs, recipe, allow_http=True)
        fetched = [line for line in object_store.log() if "/lent/in/" in line.target]
    assert (summary.ok, summary.failed) == (2, 0)
    assert fetched
    assert all("X-Amz-Signature=" in line.target for line in fetched)
    store = Store.open(tmp_path / "store")
    check_whole(store)
    rows = store.read("sources", ["uri", "source_id", "caption"]).to_pylist()
    names = sorted(f"{object_store.address}/lent/in/{film.name}" for film in films)
    assert sorted(row["uri"] for row in rows) == sorted(row["source_id"] for row in rows) == names
    everything = written(tmp_path / "store") + "".join(capfd.readouterr()).encode()
    assert not [secret for secret in secrets if secret.encode() in everything]

    listing(bucket, tmp_path / "list.csv", 7200)  # other signatures of the same files
    before = {table.name: table.version for table in store.tables()}
    assert curate(store, recipe.inputs, recipe, allow_http=True).done_before == 2
    assert {table.name: table.version for table in store.tables()} == before

    shutil.copytree(films[0].parent, tmp_path / "here", ignore=lambda _, names: [n for n in names if ".mp4" not in n])
    curate(tmp_path / "plain", [tmp_path / "here"])
    told = ["caption", "captions"]
    assert contents(store, without=told) == contents(tmp_path / "plain", without=told)


def test_a_link_that_is_refused_fails_without_its_signature(object_store, bucket, tmp_path, capfd):
    secrets = listing(bucket, tmp_path / "list.csv", 3600)
    link = (tmp_path / "list.csv").read_text().splitlines()[1].partition(",")[0]
    recipe = recipe_of(allow_http=True, inputs=[link])
    with object_store.faults({"kind": "refuse", "path": "/lent/"}):
        assert curate(tmp_path / "store", [link], recipe, allow_http=True).failed == 1
    (failure,) = Store.open(tmp_path / "store").read("failures", ["uri", "error", "detail"]).to_pylist()
    assert failure["error"].startswith("io: ")
    everything = written(tmp_path / "store") + "".join(capfd.readouterr()).encode() + recipe.to_yaml().encode()
    assert not [secret for secret in secrets if secret.encode() in everything]
    assert curate(tmp_path / "store", [link], recipe, allow_http=True, retry_failed=True).ok == 1
